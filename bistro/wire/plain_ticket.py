"""The common case of ticketing, byte for byte as the strict way and many times faster.

A request without admission has a fixed length, its entry differs in time and commitment only,
and an answer is a proof behind a few bytes. Whatever is not exactly so is none of this
module's business: ``read_plain`` returns ``None``, and ``bistro.wire.ticketing`` judges it.

Source: docs/spec/ticketing.md, request and answer; docs/spec/encodings.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from bistro.crypto.bulk import cut_alike, spelled_entries
from bistro.crypto.digest import HASH_SIZE
from bistro.errors import FormatError
from bistro.instant import MAX_INSTANT, UnixMillis
from bistro.wire.entry import Entry
from bistro.wire.ticketing import MAX_PROMISE_SIZE, MAX_REQUESTS

REQUEST_SIZE: Final = 71
"""Bytes of a request without admission: [1, bin(32), bin(32), nil]."""

_BEGIN: Final = b"\x94\x01\xc4\x20"
_MIDDLE: Final = b"\xc4\x20"
_END: Final = b"\xc0"
_TAIL_SIZE: Final = 35
_TERMS_HASH: Final = slice(2, 34)
_HASH_DIGITS: Final = 64
_FIXED_ARRAY: Final = 16
_STR_8: Final = 32
_STR_16: Final = 256

Plain = tuple[bytes, bytes]
"""Commitment and terms hash of a request without admission."""

PlainLot = tuple[list[bytes], bytes]
"""Commitments, and the terms hash that all of them are asked with."""


def read_plain(data: bytes) -> Plain | None:
    """The one request that ``data`` encodes, if it is plain."""
    found = read_plain_lot([data])
    return None if found is None else (found[0][0], found[1])


def read_plain_lot(bodies: list[bytes]) -> PlainLot | None:
    """The requests that these bodies encode, one each, if all are plain and for the same terms."""
    found = cut_alike(bodies, _BEGIN, HASH_SIZE)
    if found is None:
        return None
    commitments, tail = found
    is_plain = len(tail) == _TAIL_SIZE and tail.startswith(_MIDDLE) and tail.endswith(_END)
    return (commitments, tail[_TERMS_HASH]) if is_plain else None


def read_plain_array(data: bytes) -> PlainLot | None:
    """The requests of the array that ``data`` encodes, if all are plain and for the same terms."""
    count, rest = divmod(len(data), REQUEST_SIZE)
    head = _array_head(count)
    if not 1 <= count <= MAX_REQUESTS or len(head) != rest or not data.startswith(head):
        return None
    begins = range(rest, len(data), REQUEST_SIZE)
    return read_plain_lot([data[begin : begin + REQUEST_SIZE] for begin in begins])


def _array_head(count: int) -> bytes:
    return bytes((0x90 | count,)) if count < _FIXED_ARRAY else b"\xdc" + count.to_bytes(2)


class EntrySpeller:
    """Spells entries that differ in time and hash only.

    Args:
        sample: One of them; its time and hash do not matter.
    """

    def __init__(self, sample: Entry) -> None:
        blank = replace(sample, time=UnixMillis(0), digest=bytes(32)).encode()
        head, tail = blank.split(b"\n0\nsha256:%b\n" % (b"0" * _HASH_DIGITS), 1)
        self._head, self._tail = head + b"\n", b"\n" + tail

    def spell(self, time: UnixMillis, digests: list[bytes]) -> list[bytes]:
        """What entries of this time and these hashes of 32 bytes encode to; at least one.

        Raises:
            FormatError: There is no such time.
        """
        if not 0 <= time <= MAX_INSTANT:
            raise FormatError(f"entry: time {time} is out of range")
        return spelled_entries(b"%b%d\nsha256:" % (self._head, time), digests, self._tail)


def before_ticket(size: int) -> bytes:
    """What makes an answer of a ticket's text of ``size`` bytes that follows: ``[0, proof]``.

    Raises:
        FormatError: It is longer than any ticket.
    """
    return b"\x92\x00" + _text_head(size)


def spell_ticketed(proof: bytes) -> bytes:
    """The answer ``[0, proof]``, for a proof text that we made; as above."""
    return before_ticket(len(proof)) + proof


def before_refusal(size: int) -> bytes:
    """What makes an answer of a refusal's text that follows: ``[1, proof]``; as above."""
    return b"\x92\x01" + _text_head(size)


def spell_refused(proof: bytes) -> bytes:
    """The answer ``[1, proof]``; as above."""
    return before_refusal(len(proof)) + proof


def _text_head(size: int) -> bytes:
    if size >= _STR_16 and size <= MAX_PROMISE_SIZE:
        return b"\xda" + size.to_bytes(2)
    if not 0 < size <= MAX_PROMISE_SIZE:
        raise FormatError(f"promise: expected 1 to {MAX_PROMISE_SIZE} bytes, found {size}")
    return bytes((0xA0 | size,)) if size < _STR_8 else bytes((0xD9, size))


def join_answers(answers: Sequence[bytes]) -> bytes:
    """The answer to an array: 1 to 1,000 answers, each encoded."""
    return _array_head(len(answers)) + b"".join(answers)
