"""The floor of ``ticket.rfc3161``: read the request, sign once on P-256, write a fixed answer.

Run as ``python -m tests.bench.floors.timestamp PORT ANSWER``; ANSWER holds the body.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import uvloop
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from tests.bench.floors.ticket import Echo

ATTRIBUTES_SIZE = 137
"""Bytes that a token's signature is over."""


class SigningEcho(Echo):
    """One connection."""

    def __init__(self, answer: bytes, key: ec.EllipticCurvePrivateKey) -> None:
        super().__init__(answer)
        self._key = key
        self._algorithm = ec.ECDSA(SHA256())

    def on_message_complete(self) -> None:
        """Sign as many bytes as a token does, and answer."""
        self._key.sign(self._body[:32].ljust(ATTRIBUTES_SIZE), self._algorithm)
        super().on_message_complete()


async def _serve(port: int, answer: bytes) -> None:
    loop = asyncio.get_running_loop()
    key = ec.generate_private_key(ec.SECP256R1())
    server = await loop.create_server(
        lambda: SigningEcho(answer, key), "127.0.0.1", port, backlog=1_024
    )
    await server.serve_forever()


@click.command()
@click.argument("port", type=int)
@click.argument("file", type=click.Path(path_type=Path, exists=True))
def main(port: int, file: Path) -> None:
    """Serve until stopped."""
    body = file.read_bytes()
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/timestamp-reply\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    uvloop.run(_serve(port, head.encode() + body))


if __name__ == "__main__":
    main()
