"""Many uploads that come at a snail's pace, all at once, until standard input ends.

Each connection sends its head and then so many bytes every second; none is ever whole. Prints a
line when all have sent their first bytes, and at the end the report: how many sent, how many
were closed or answered by the server.

Run as ``python -m tests.bench.loads.slow PORT REQUESTS --bytes-per-s 1000``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Final, cast

import click
import uvloop

from tests.bench.loads.requests import read_requests

READY: Final = "ready"
_TICKS: Final = 100
"""In a second: connections send spread over it, not all at the same moment."""
_ADDRESSES: Final = 16


class Snail(asyncio.Protocol):
    """One upload."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self.ended = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the head."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        """An answer before the end is a refusal."""
        self.ended = self.ended or data[:200].decode(errors="replace")

    def connection_lost(self, exc: Exception | None) -> None:
        """The server closed."""
        self.ended = self.ended or f"closed: {exc}"

    def send(self, piece: bytes) -> None:
        """Some more bytes."""
        if not self.ended:
            self._transport.write(piece)

    def close(self) -> None:
        """Break off."""
        self._transport.abort()


async def _crawl(port: int, heads: list[bytes], bytes_per_s: int) -> None:
    loop = asyncio.get_running_loop()
    snails: list[Snail] = []
    for number, head in enumerate(heads):
        snail = Snail(head)
        address = f"127.0.0.{2 + number % _ADDRESSES}"
        await loop.create_connection(
            lambda snail=snail: snail,  # type: ignore[misc]
            "127.0.0.1",
            port,
            local_addr=(address, 0),
        )
        snails.append(snail)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    piece = bytes(bytes_per_s)
    tick, begun_s = 0, loop.time()
    while not ended.is_set():
        for snail in snails[tick % _TICKS :: _TICKS]:
            snail.send(piece)
        tick += 1
        if tick == _TICKS:
            print(READY, flush=True)  # noqa: T201 - the parent waits for it
        await asyncio.sleep(begun_s + tick / _TICKS - loop.time())
    over = [snail.ended for snail in snails if snail.ended]
    report = {
        "answered": len(snails) - len(over),
        "failed": len(over),
        "problem": over[0] if over else "",
        "seconds": loop.time() - begun_s,
    }
    for snail in snails:
        snail.close()
    print(json.dumps(report))  # noqa: T201 - the report


@click.command()
@click.argument("port", type=int)
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.option("--bytes-per-s", type=int, default=1_000)
def main(port: int, file: Path, bytes_per_s: int) -> None:
    """Crawl with the heads in FILE."""
    uvloop.run(_crawl(port, list(read_requests(file)), bytes_per_s))


if __name__ == "__main__":
    main()
