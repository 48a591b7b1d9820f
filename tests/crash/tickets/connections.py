"""A client's connection: requests and answers as bytes, and how many of them came."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

HOST: Final = "127.0.0.1"
TIMEOUT_S: Final = 5.0
_LIMIT: Final = 1 << 20


class GoneError(Exception):
    """Nobody answered: the service is dead, or this client gave up."""


@dataclass(slots=True)
class Connection:
    """One connection, for one request at a time.

    Attributes:
        port: Ours.
        received: Bytes that have come.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    port: int
    received: int = 0

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            GoneError: There was no whole answer in time.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                self.writer.write(request)
                head = await self.reader.readuntil(b"\r\n\r\n")
                body = await self.reader.readexactly(_length(head))
        except (OSError, EOFError, TimeoutError) as exc:
            raise GoneError(str(exc)) from exc
        self.received += len(head) + len(body)
        return int(head.split(b" ", 2)[1]), body

    def abandon(self, request: bytes) -> None:
        """Send this much and care no more."""
        self.writer.write(request)
        self.writer.close()


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    """A connection to a service on this machine.

    Raises:
        GoneError: Nobody listens.
    """
    try:
        reader, writer = await asyncio.open_connection(HOST, port, limit=_LIMIT)
    except OSError as exc:
        raise GoneError(str(exc)) from exc
    try:
        yield Connection(reader, writer, writer.get_extra_info("sockname")[1])
    finally:
        # Nothing is waited for: the other side may be held by a debugger.
        writer.transport.abort()


def get(path: str) -> bytes:
    """A GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode("ascii")


async def fetch(connection: Connection, path: str) -> bytes:
    """The body of what is served at ``path``.

    Raises:
        GoneError: It is not served.
    """
    status, body = await connection.ask(get(path))
    if status != 200:
        raise GoneError(f"{path}: status {status}: {body[:200]!r}")
    return body
