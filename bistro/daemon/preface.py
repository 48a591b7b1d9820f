"""Whose connection it is that somebody passes on: one line before its first byte.

A worker begins each connection to the daemon's Unix socket with the line of the PROXY
protocol, version 1, and passes bytes from then on. Only our own user may connect there, so the
line is believed.

Source: docs/spec/api.md, workers; the PROXY protocol, section 2.1.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Callable
from typing import Any, Final, cast

from bistro.daemon import logs
from bistro.errors import FormatError

MAX_PREFACE_SIZE: Final = 107
"""Bytes of the line at most, its end included."""

_END: Final = b"\r\n"
_UNKNOWN: Final = b"PROXY UNKNOWN\r\n"
_LINE: Final = re.compile(
    rb"PROXY TCP([46]) ([0-9a-f.:]+) ([0-9a-f.:]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n"
)
_MAX_PORT: Final = 65_535

Place = tuple[str, int]
"""Address and port."""

_log = logs.get_logger("http")


def encode_preface(peer: Place, own: Place) -> bytes:
    """The line that says who is connected to whom.

    Args:
        peer: The client's place.
        own: Where it connected to.
    """
    theirs, ours = ipaddress.ip_address(peer[0]), ipaddress.ip_address(own[0])
    if theirs.version != ours.version:
        return _UNKNOWN
    return f"PROXY TCP{theirs.version} {theirs} {ours} {peer[1]} {own[1]}\r\n".encode()


def decode_preface(line: bytes) -> Place | None:
    """The client's place that ``line``, its end included, names; ``None`` if it is not known.

    Raises:
        FormatError: It is no such line.
    """
    if line == _UNKNOWN:
        return None
    match = _LINE.fullmatch(line) if len(line) <= MAX_PREFACE_SIZE else None
    if match is None or not _is_sound(match):
        raise FormatError(
            f"preface: expected a line of the PROXY protocol, version 1, found {line!r}"
        )
    return match[2].decode(), int(match[4])


def _is_sound(match: re.Match[bytes]) -> bool:
    """Whether addresses are of the family that is named, and ports within their range."""
    try:
        versions = {ipaddress.ip_address(match[at].decode()).version for at in (2, 3)}
    except ValueError:
        return False
    return versions == {int(match[1])} and max(int(match[4]), int(match[5])) <= _MAX_PORT


class Introduced:
    """A transport that knows its peer from a preface; in all else the one that it stands for.

    Args:
        transport: The connection to who passes on.
        peer: The client's place.
    """

    def __init__(self, transport: asyncio.Transport, peer: Place) -> None:
        self._transport = transport
        self._peer = peer
        self.write = transport.write  # the one call that every answer makes

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - as asyncio
        """As every transport; ``peername`` is the client's."""
        return self._peer if name == "peername" else self._transport.get_extra_info(name, default)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401, D105 - whatever the transport has
        return getattr(self._transport, name)


class Introduction(asyncio.Protocol):
    """A connection to the Unix socket, until its preface has been read.

    Args:
        make: Makes the protocol that takes over.
    """

    def __init__(self, make: Callable[[], asyncio.Protocol]) -> None:
        self._make = make
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read the preface, then hand over with every byte behind it."""
        self._buffer += data
        end = self._buffer.find(_END) + len(_END)
        if end < len(_END) and len(self._buffer) < MAX_PREFACE_SIZE:
            return
        line, rest = self._buffer[: max(end, 0)], self._buffer[max(end, 0) :]
        try:
            peer = decode_preface(line if end >= len(_END) else self._buffer[:MAX_PREFACE_SIZE])
        except FormatError as exc:
            _log.warning("preface_refused", message=exc.message)
            self._transport.abort()
            return
        protocol = self._make()
        transport = self._transport
        if peer is not None:
            transport = cast("asyncio.Transport", Introduced(transport, peer))
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if rest:
            protocol.data_received(rest)
