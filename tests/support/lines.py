"""Raw HTTP connections: requests written out by hand, answers read to their last byte."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple, Self


class Answer(NamedTuple):
    """What a server said; names of fields as it wrote them."""

    status: int
    fields: dict[str, str]
    body: bytes


def written(start: str, fields: Mapping[str, str], body: bytes = b"") -> bytes:
    """A request from its start line without version, its fields and its body."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{start} HTTP/1.1\r\n{lines}\r\n".encode() + body


class Line:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, port: int, host: str = "127.0.0.1", **more: Any) -> Self:
        """Connect; ``more`` is what asyncio takes, as ``ssl`` or ``local_addr``."""
        return cls(*await asyncio.open_connection(host, port, **more))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()

    async def answer(self) -> Answer:
        """The next answer; a status that has no body has none."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = dict(line.split(": ", 1) for line in head[1:-2])
        status = int(head[0].split()[1])
        size = 0 if status == 304 else int(fields.get("Content-Length", "0"))
        return Answer(status, fields, await self._reader.readexactly(size))

    async def ask(self, data: bytes) -> Answer:
        self.send(data)
        return await self.answer()

    async def head(self) -> bytes:
        """The head of the next answer to a HEAD request."""
        return await self._reader.readuntil(b"\r\n\r\n")

    async def ended(self) -> bool:
        """Whether the server closed without another byte."""
        with contextlib.suppress(ConnectionError):
            return await self._reader.read() == b""
        return True

    def close(self) -> None:
        self._writer.close()

    def break_off(self) -> None:
        self._writer.transport.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.break_off()
