"""Requests that are made before the clock runs, in a file that a load process reads.

Each is ``uint32be(size) ‖ bytes``, the whole HTTP request; a body that all of them end with
may stand in a file of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

_SIZE: Final = struct.Struct(">I")


def post(path: str, headers: Mapping[str, str | int], body: bytes = b"") -> bytes:
    """A POST; ``headers`` has Content-Length where the body comes from elsewhere."""
    fields = {"Host": "127.0.0.1", "Content-Length": len(body), **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def write_requests(file: Path, requests: Iterable[bytes]) -> int:
    """How many requests were written."""
    count = 0
    with file.open("wb") as stream:
        for request in requests:
            stream.write(_SIZE.pack(len(request)) + request)
            count += 1
    return count


def sample_file(file: Path) -> Path:
    """Where one answer is kept to the requests that were sent last from ``file``."""
    return file.with_name(file.name + ".sample")


def read_requests(file: Path) -> Iterator[bytes]:
    """The requests in a file, in order."""
    data = file.read_bytes()
    at = 0
    while at < len(data):
        (size,) = _SIZE.unpack_from(data, at)
        at += _SIZE.size
        yield data[at : at + size]
        at += size
