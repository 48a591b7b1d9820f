"""DER, as much of it as time stamps need: strict reading, and writing from finished pieces.

One value has one encoding: lengths are definite and shortest, integers and identifiers too.
Tags above 30 occur nowhere in RFC 3161 and are malformed.

Source: ITU-T X.690, sections 8 and 10.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from bistro.errors import FormatError

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
OBJECT: Final = 0x06
UTF8_STRING: Final = 0x0C
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31

TRUE: Final = b"\x01\x01\xff"
NULL: Final = b"\x05\x00"

_SHORT_LIMIT = 0x80
_MAX_LENGTH_SIZE = 4
_LONG_TAG = 0x1F
_SIGN = _MORE = 0x80
_MINUS = 0xFF


def encode(tag: int, *pieces: bytes) -> bytes:
    """One element with ``pieces``, joined, as its content."""
    content = b"".join(pieces)
    return header(tag, len(content)) + content


def header(tag: int, size: int) -> bytes:
    """Tag and length of an element whose content has ``size`` bytes."""
    if size < _SHORT_LIMIT:
        return bytes((tag, size))
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, _SHORT_LIMIT | len(length))) + length


def encode_integer(value: int) -> bytes:
    """An INTEGER that is not negative."""
    return encode(INTEGER, value.to_bytes(value.bit_length() // 8 + 1))


def encode_object(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER.

    Raises:
        FormatError: Not such a text as ``1.2.840.113549``.
    """
    arcs = dotted.split(".")
    if len(arcs) < 2 or not all(arc.isascii() and arc.isdigit() for arc in arcs):  # noqa: PLR2004
        raise FormatError(f"object identifier {dotted[:64]!r}: expected numbers with dots between")
    numbers = [int(arc) for arc in arcs]
    if numbers[0] > 2 or (numbers[0] < 2 and numbers[1] > 39):  # noqa: PLR2004
        raise FormatError(f"object identifier {dotted[:64]!r}: there is no such branch")
    if ".".join(map(str, numbers)) != dotted:
        raise FormatError(f"object identifier {dotted[:64]!r}: a number begins with 0")
    parts = [40 * numbers[0] + numbers[1], *numbers[2:]]
    return encode(OBJECT, b"".join(map(_encode_arc, parts)))


def _encode_arc(number: int) -> bytes:
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(0x80 | number & 0x7F)
    return bytes(reversed(groups))


class Reader:
    """Reads elements one after the other; everything that is not DER is ``FormatError``.

    Args:
        what: Names the structure in errors.
        data: All of it.
    """

    __slots__ = ("_at", "_data", "_what")

    def __init__(self, what: str, data: bytes) -> None:
        self._what = what
        self._data = data
        self._at = 0

    def is_next(self, tag: int) -> bool:
        """Whether the next element has this tag."""
        return self._at < len(self._data) and self._data[self._at] == tag

    def is_done(self) -> bool:
        """Whether nothing follows."""
        return self._at == len(self._data)

    def content(self, tag: int) -> bytes:
        """The content of the next element, which has this tag."""
        begin, end = self._span(tag)
        self._at = end
        return self._data[begin:end]

    def whole(self, tag: int | None = None) -> bytes:
        """The next element with its tag and length; its content is not looked at."""
        first = self._at
        _, self._at = self._span(tag)
        return self._data[first : self._at]

    def nested(self, tag: int = SEQUENCE) -> Reader:
        """A reader of the next element's content."""
        return Reader(self._what, self.content(tag))

    def integer(self) -> bytes:
        """The next INTEGER with its tag and length: of any size, with either sign."""
        element = self.whole(INTEGER)
        content = element[_head_size(element) :]
        is_padded = len(content) > 1 and (
            (content[0] == 0 and content[1] < _SIGN)
            or (content[0] == _MINUS and content[1] >= _SIGN)
        )
        if not content or is_padded:
            raise FormatError(f"{self._what}: an integer that is not the shortest")
        return element

    def object(self) -> bytes:
        """The next OBJECT IDENTIFIER with its tag and length."""
        element = self.whole(OBJECT)
        content = element[_head_size(element) :]
        is_shortest = not content.startswith(bytes([_MORE])) and not any(
            one < _MORE and following == _MORE for one, following in pairwise(content)
        )
        if not content or content[-1] & _MORE or not is_shortest:
            raise FormatError(f"{self._what}: not an object identifier")
        return element

    def end(self) -> None:
        """Refuse whatever follows."""
        if self._at != len(self._data):
            raise FormatError(f"{self._what}: {len(self._data) - self._at} bytes too many")

    def _span(self, tag: int | None) -> tuple[int, int]:
        """Where the next element's content begins and ends."""
        data, at = self._data, self._at
        if at + 2 > len(data):
            raise FormatError(f"{self._what}: it ends early")
        if tag is None:
            if data[at] & _LONG_TAG == _LONG_TAG:
                raise FormatError(f"{self._what}: a tag above 30")
        elif data[at] != tag:
            raise FormatError(f"{self._what}: expected tag {tag:02x}, found {data[at]:02x}")
        size = data[at + 1]
        at += 2
        if size >= _SHORT_LIMIT:
            count = size & 0x7F
            size = int.from_bytes(data[at : at + count])
            if not 0 < count <= _MAX_LENGTH_SIZE or size < max(_SHORT_LIMIT, 1 << 8 * (count - 1)):
                raise FormatError(f"{self._what}: a length that is not the shortest")
            at += count
        if at + size > len(data):
            raise FormatError(f"{self._what}: it ends early")
        return at, at + size


def _head_size(element: bytes) -> int:
    """Bytes of a well-formed element's tag and length."""
    return 2 if element[1] < _SHORT_LIMIT else 2 + (element[1] & 0x7F)
