"""The floor of ``ticket.rate`` and ``ticket.cpu``: read the request, write a fixed answer.

``asyncio.Protocol``, ``httptools`` and ``uvloop`` in one process; nothing is durable.

Run as ``python -m tests.bench.floors.ticket PORT ANSWER``; ANSWER holds head and body.
"""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import cast

import click
import httptools
import uvloop


class Echo(asyncio.Protocol):
    """One connection."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """A request's body, whole or in parts."""
        self._body = body

    def on_message_complete(self) -> None:
        """Answer a request that has been read."""
        self._transport.write(self._answer)


async def _serve(port: int, answer: bytes) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Echo(answer), "127.0.0.1", port, backlog=1_024)
    await server.serve_forever()


@click.command()
@click.argument("port", type=int)
@click.argument("file", type=click.Path(path_type=Path, exists=True))
def main(port: int, file: Path) -> None:
    """Serve until stopped."""
    gc.disable()  # nothing here makes garbage that only a collector finds
    uvloop.run(_serve(port, file.read_bytes()))


if __name__ == "__main__":
    main()
