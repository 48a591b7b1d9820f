"""The common case of ticketing, byte for byte as the strict way and many times faster.

A request without admission has a fixed length, its entry differs in time and commitment only,
and an answer is a proof behind a few bytes. Whatever is not exactly so is none of this
module's business: ``read_plain`` returns ``None``, and ``bistro.wire.ticketing`` judges it.

Source: docs/spec/ticketing.md, request and answer; docs/spec/encodings.md.
"""

from __future__ import annotations

import struct
from binascii import hexlify
from collections.abc import Sequence
from typing import Final

from bistro.errors import FormatError
from bistro.instant import MAX_INSTANT, UnixMillis
from bistro.wire.entry import TicketEntry
from bistro.wire.ticketing import MAX_PROMISE_SIZE, MAX_REQUESTS

_PLAIN: Final = struct.Struct("4s32s2s32s1s")
_FIXED: Final = (b"\x94\x01\xc4\x20", b"\xc4\x20", b"\xc0")  # [1, bin(32), bin(32), nil]
_FIXED_ARRAY: Final = 16
_STR_8: Final = 32
_STR_16: Final = 256

Plain = tuple[bytes, bytes]
"""Commitment and terms hash of a request without admission."""


def read_plain(data: bytes) -> Plain | None:
    """The one request that ``data`` encodes, if it is plain."""
    if len(data) != _PLAIN.size:
        return None
    begin, commitment, middle, terms_hash, end = _PLAIN.unpack(data)
    return (commitment, terms_hash) if (begin, middle, end) == _FIXED else None


def read_plain_array(data: bytes) -> list[Plain] | None:
    """The requests of the array that ``data`` encodes, if all are plain."""
    count, rest = divmod(len(data), _PLAIN.size)
    head = _array_head(count)
    if not 1 <= count <= MAX_REQUESTS or len(head) != rest or not data.startswith(head):
        return None
    items = list(_PLAIN.iter_unpack(memoryview(data)[rest:]))
    if {(begin, middle, end) for begin, _, middle, _, end in items} != {_FIXED}:
        return None
    return [(commitment, terms_hash) for _, commitment, _, terms_hash, _ in items]


def _array_head(count: int) -> bytes:
    return bytes((0x90 | count,)) if count < _FIXED_ARRAY else b"\xdc" + count.to_bytes(2)


class TicketSpeller:
    """Spells ticket entries of one call.

    Args:
        origin: The call's.

    Raises:
        FormatError: ``origin`` is that of no call.
    """

    def __init__(self, origin: str) -> None:
        entry = TicketEntry(origin=origin, time=UnixMillis(0), digest=bytes(32)).encode()
        self._head = entry[: entry.rindex(b"\n0\n") + 1]

    def spell(self, time: UnixMillis, commitment: bytes) -> bytes:
        """What ``TicketEntry`` encodes for a commitment of 32 bytes.

        Raises:
            FormatError: There is no such time.
        """
        if not 0 <= time <= MAX_INSTANT:
            raise FormatError(f"ticket entry: time {time} is out of range")
        return b"%b%d\nsha256:%b\n" % (self._head, time, hexlify(commitment))


def spell_ticketed(proof: bytes) -> bytes:
    """The answer ``[0, proof]``, for a proof text that we made.

    Raises:
        FormatError: It is longer than any ticket.
    """
    return b"\x92\x00" + _text_head(len(proof)) + proof


def spell_refused(proof: bytes) -> bytes:
    """The answer ``[1, proof]``; as ``spell_ticketed``."""
    return b"\x92\x01" + _text_head(len(proof)) + proof


def _text_head(size: int) -> bytes:
    if size >= _STR_16 and size <= MAX_PROMISE_SIZE:
        return b"\xda" + size.to_bytes(2)
    if not 0 < size <= MAX_PROMISE_SIZE:
        raise FormatError(f"promise: expected 1 to {MAX_PROMISE_SIZE} bytes, found {size}")
    return bytes((0xA0 | size,)) if size < _STR_8 else bytes((0xD9, size))


def join_answers(answers: Sequence[bytes]) -> bytes:
    """The answer to an array: 1 to 1,000 answers, each encoded."""
    return _array_head(len(answers)) + b"".join(answers)
