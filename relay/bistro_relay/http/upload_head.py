"""The head of the one request that stages a small fragment, read strictly; all else is left.

Source: docs/spec/staging.md, creation; RFC 9112.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bistro.api import media, routes
from bistro.errors import FormatError
from bistro_relay.http.upload_fields import parse_claim

LINE: Final = f"{routes.UPLOAD_CREATION.method} {routes.UPLOAD_CREATION.template} HTTP/1.1\r\n"
END: Final = b"\r\n\r\n"
MAX_HEAD_SIZE: Final = 16_384
"""A longer head is left to the ordinary server, which has limits of its own."""

_MAX_FIELDS: Final = 64
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t]*)")
_LENGTH: Final = re.compile(rb"[1-9][0-9]{0,8}")
_LEFT: Final = frozenset(
    name.lower().encode()
    for name in (
        "Content-Encoding",
        "Content-Range",
        "Expect",
        "Proxy-Connection",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        routes.CHECKSUM,
        routes.CONCATENATION,
        routes.DEFERRED_LENGTH,
        routes.METHOD_OVERRIDE,
    )
)
_ASKED: Final = tuple(
    name.lower().encode()
    for name in (
        "Host",
        "Content-Length",
        "Content-Type",
        routes.TUS_RESUMABLE,
        routes.LENGTH,
        routes.METADATA,
    )
)
_, _SIZE, _TYPE, _VERSION, _LENGTH_FIELD, _METADATA = _ASKED
_ONCE: Final = frozenset((*_ASKED, b"connection"))


@dataclass(frozen=True, slots=True)
class UploadHead:
    """What a head says.

    Attributes:
        claim: The encoded claim.
        size: Bytes of body, and of the fragment.
    """

    claim: bytes
    size: int


class HeadReader:
    """Reads the heads of one connection: all that changes from one to the next is the claim."""

    def __init__(self) -> None:
        self._before = b""
        self._behind = b""
        self._size = 0

    def read(self, head: bytes) -> UploadHead | None:
        """What ``head``, up to and with its empty line, says; None: for the ordinary server.

        Only what is exactly the usual request is read here: anything odd, also what is wrong,
        is answered where everything is.
        """
        before, behind = self._before, self._behind
        if before and head.startswith(before) and head.endswith(behind):
            # A line end in between would be no base64.
            return _upload_of(head[len(before) : -len(behind)], self._size)
        _, *lines = head[: -len(END)].split(b"\r\n")
        fields = _fields(lines)
        if fields is None or not _is_usual(fields):
            return None
        metadata, size = fields[_METADATA], int(fields[_SIZE])
        found = _upload_of(metadata, size)
        if found is not None:
            at = head.index(metadata)
            self._before, self._behind = head[:at], head[at + len(metadata) :]
            self._size = size
        return found


def _upload_of(metadata: bytes, size: int) -> UploadHead | None:
    try:
        return UploadHead(parse_claim(metadata.decode("ascii")), size)
    except (FormatError, UnicodeDecodeError):
        return None


def _fields(lines: Sequence[bytes]) -> dict[bytes, bytes] | None:
    """The fields, names in lower case; None where one is odd, or one that rules repeats."""
    if len(lines) > _MAX_FIELDS:
        return None
    found: dict[bytes, bytes] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            return None
        name = match[1].lower()
        if name in _LEFT or (name in found and name in _ONCE):
            return None
        found[name] = match[2].rstrip(b" \t")
    return found


def _is_usual(fields: Mapping[bytes, bytes]) -> bool:
    return (
        all(fields.get(name) for name in _ASKED)
        and _LENGTH.fullmatch(fields[_SIZE]) is not None
        and fields[_SIZE] == fields[_LENGTH_FIELD]
        and fields[_VERSION] == routes.TUS_VERSION.encode()
        and media.essence(fields[_TYPE].decode("ascii")) == media.TUS_BYTES
        and fields.get(b"connection", b"keep-alive").lower() == b"keep-alive"
    )
