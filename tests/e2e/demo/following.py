"""Follows HTTP requests in bytes that pass: which is under way, and how much of it has passed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MAX_HEAD: Final = 65_536


@dataclass(slots=True)
class Request:
    """One HTTP request under way.

    Attributes:
        method: Such as PATCH.
        path: With the query.
        size: Bytes of its body.
        offset: Its ``Upload-Offset``, or None.
        sent: Bytes of the body forwarded so far.
    """

    method: str
    path: str
    size: int
    offset: int | None
    sent: int = 0


@dataclass(slots=True)
class RequestReader:
    """Follows the requests of one connection from the bytes that pass.

    Attributes:
        current: The request whose body passes, or that was complete last.
    """

    current: Request | None = None
    _head: bytes = b""

    def feed(self, data: bytes) -> list[Request]:
        """The requests that begin within ``data``."""
        begun: list[Request] = []
        while data:
            request = self.current
            if request is not None and request.sent < request.size:
                taken = min(len(data), request.size - request.sent)
                request.sent += taken
                data = data[taken:]
                continue
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                if len(self._head) > _MAX_HEAD:
                    raise ValueError("no HTTP request")
                break
            self._head = b""
            self.current = _parse(head.decode("latin-1"))
            begun.append(self.current)
        return begun


def _parse(head: str) -> Request:
    first, *lines = head.split("\r\n")
    method, path, _version = first.split(" ", 2)
    fields = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    offset = fields.get("upload-offset")
    return Request(
        method=method,
        path=path,
        size=int(fields.get("content-length", "0")),
        offset=None if offset is None else int(offset),
    )
