"""The floor of ``ticket.rfc3161``: read the request, sign once on P-256, write a fixed answer.

Run as ``python -m tests.bench.floors.timestamp PORT ANSWER``; ANSWER holds head and body.
"""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import click
import uvloop
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from tests.bench.floors.ticket import Echo

DIGEST_SIZE = 32
"""Bytes that a token's signature is made over: hashing them first is not the floor's work."""


class SigningEcho(Echo):
    """One connection."""

    def __init__(self, answer: bytes, key: ec.EllipticCurvePrivateKey) -> None:
        super().__init__(answer)
        self._key = key
        self._algorithm = ec.ECDSA(Prehashed(SHA256()))

    def on_message_complete(self) -> None:
        """Sign a digest as a token does, and answer."""
        self._key.sign(self._body[-DIGEST_SIZE:], self._algorithm)
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
    gc.disable()  # nothing here makes garbage that only a collector finds
    uvloop.run(_serve(port, file.read_bytes()))


if __name__ == "__main__":
    main()
