"""A client's connection: requests and answers as bytes, and how many of them came."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from bistro.clock import SystemClock
from bistro.instant import UnixMillis

HOST: Final = "127.0.0.1"
TIMEOUT_S: Final = 30.0
"""A machine that others load, too, may take seconds for an answer; who is dead resets at once."""
_LIMIT: Final = 1 << 20
_WITHOUT_BODY: Final = frozenset({204, 304})


class GoneError(Exception):
    """Nobody answered: the service is dead, or this client gave up."""


@dataclass(frozen=True, slots=True)
class Left:
    """What had left a service at a moment of its present life.

    Attributes:
        sent: Bytes that had been handed to connections, by the port of the client.
        until: The moment itself, milliseconds since 1970.
    """

    sent: Mapping[int, int]
    until: int


@dataclass(frozen=True, slots=True)
class Asked:
    """The circumstances of an answer.

    Attributes:
        life: In which life of the service it came.
        port: The client's port.
        end: Bytes that had come over the connection when it was complete.
        sent_at: When it was asked for.
        received_at: When it had come.
        is_hidden: Whether nobody can tell which of the bytes that left were it: they came
            through TLS, or not over TCP.
    """

    life: int
    port: int
    end: int
    sent_at: UnixMillis
    received_at: UnixMillis
    is_hidden: bool = False

    def was_sent(self, life: int, left: Left) -> bool:
        """Whether the whole answer had left at a moment of a life."""
        if self.life < life:
            return True
        if self.is_hidden:
            # Had it come, it had left; it may have left a little earlier.
            return self.received_at < left.until
        return self.end <= left.sent.get(self.port, 0)


class Answer(NamedTuple):
    """A whole answer; names of header fields are in lower case."""

    status: int
    fields: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Connection:
    """One connection, for one request at a time.

    Attributes:
        port: Ours.
        is_sealed: Whether it is one with TLS.
        received: Bytes that have come.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    port: int
    is_sealed: bool = False
    received: int = 0

    def asked(self, life: int, sent_at: UnixMillis) -> Asked:
        """The circumstances of the answer that has just come."""
        now = SystemClock().now()
        return Asked(life, self.port, self.received, sent_at, now, self.is_sealed)

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            GoneError: There was no whole answer in time.
        """
        answer = await self.exchange(request)
        return answer.status, answer.body

    async def exchange(self, request: bytes, *, is_head: bool = False) -> Answer:
        """The answer to a request; to HEAD it has no body, whatever its fields say.

        Raises:
            GoneError: There was no whole answer in time.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                self.writer.write(request)
                head = await self.reader.readuntil(b"\r\n\r\n")
                self.received += len(head)
                status, fields = int(head.split(b" ", 2)[1]), _fields(head)
                body = b""
                if not is_head and status not in _WITHOUT_BODY:
                    body = await self._body(fields)
        except (OSError, EOFError, TimeoutError) as exc:
            raise GoneError(str(exc)) from exc
        return Answer(status, fields, body)

    async def _body(self, fields: Mapping[str, str]) -> bytes:
        if fields.get("transfer-encoding", "").lower() != "chunked":
            return await self._exactly(int(fields.get("content-length", "0")))
        pieces: list[bytes] = []
        while True:
            line = await self.reader.readuntil(b"\r\n")
            self.received += len(line)
            piece = await self._exactly(int(line, 16) + 2)
            if piece == b"\r\n":
                return b"".join(pieces)
            pieces.append(piece[:-2])

    async def _exactly(self, size: int) -> bytes:
        found = await self.reader.readexactly(size)
        self.received += size
        return found

    def abandon(self, request: bytes) -> None:
        """Send this much and care no more."""
        self.writer.write(request)
        self.writer.close()


def _fields(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:-2]
    parts = (line.partition(":") for line in lines)
    return {name.lower(): value.strip() for name, _, value in parts}


@contextlib.asynccontextmanager
async def connected(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Connection]:
    """A connection to a service on this machine.

    Raises:
        GoneError: Nobody listens.
    """
    try:
        reader, writer = await asyncio.open_connection(HOST, port, limit=_LIMIT, ssl=tls)
    except OSError as exc:
        raise GoneError(str(exc)) from exc
    try:
        port = writer.get_extra_info("sockname")[1]
        yield Connection(reader, writer, port, is_sealed=tls is not None)
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
