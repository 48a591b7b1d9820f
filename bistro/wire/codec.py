"""Canonical MessagePack: the one module that speaks it.

A value is nil, a boolean, a whole number, bytes, text or an array of values. There are no
maps, floats, negative numbers or extension types; every length and number has its shortest
form. Decoding encodes again and compares, so that whatever was decoded had exactly one encoding.

Source: docs/spec/encodings.md; the MessagePack specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NoReturn, TypeAlias, cast

import msgpack

from bistro.errors import FormatError

Value: TypeAlias = "bool | int | bytes | str | Sequence[Value] | None"

DEFAULT_MAX_SIZE: Final = 65_536
MAX_DEPTH: Final = 6
"""Arrays within arrays; no format of version 1 nests deeper than three."""
MAX_ITEMS: Final = 10_000
"""Entries of one array, as many as the longest message (a release) may hold."""
MAX_UINT: Final = 2**53 - 1
"""The largest integer that JSON readers hold exactly; no field needs a larger one."""
_FLAT: Final = frozenset({bytes, str, bool, type(None)})
_SKIPPED_FROM: Final = 256
"""Shorter messages cannot ask for room that would be worth a look before."""


def encode(value: Value) -> bytes:
    """The one encoding of ``value``; lists and tuples are both arrays.

    Raises:
        FormatError: ``value`` holds something that has no encoding, nests too deeply, or has
            an array that is too long.
    """
    _require_encodable(value, MAX_DEPTH)
    try:
        return cast("bytes", msgpack.packb(value))
    except UnicodeEncodeError as exc:
        raise FormatError("text: expected Unicode, found a lone surrogate") from exc


def decode(data: bytes, max_size: int = DEFAULT_MAX_SIZE) -> Value:
    """The value that ``data`` is the one encoding of; arrays become lists.

    Raises:
        FormatError: ``data`` is longer than ``max_size``, or is no canonical encoding.
    """
    if len(data) > max_size:
        raise FormatError(f"expected at most {max_size} bytes, found {len(data)}")
    try:
        if len(data) > _SKIPPED_FROM:
            _require_whole(data)
        value = cast(
            "Value",
            msgpack.unpackb(
                data,
                max_array_len=min(len(data), MAX_ITEMS),
                max_map_len=0,
                max_ext_len=0,
            ),
        )
    except (ValueError, msgpack.UnpackException) as exc:
        raise FormatError(f"expected canonical MessagePack, found {len(data)} other bytes") from exc
    if encode(value) != data:
        raise FormatError("expected canonical MessagePack, found a longer form of a value")
    return value


def _require_whole(data: bytes) -> None:
    """Read over ``data`` without making anything of it; raise as ``unpackb`` where it ends early.

    ``unpackb`` believes an array's length and makes room before the items are there, so that a
    thousand arrays within each other, all beginning and none ending, would cost 80 MB for 10 KB.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=len(data))
    unpacker.feed(data)
    unpacker.skip()


def _require_encodable(value: object, depth: int) -> None:
    kind = type(value)
    if kind in _FLAT:
        return
    if kind is int:
        if not 0 <= cast("int", value) <= MAX_UINT:
            raise FormatError(f"expected integers from 0 to {MAX_UINT}, found another")
        return
    if not isinstance(value, list | tuple):
        raise FormatError(f"expected a value of MessagePack's plain kinds, found {describe(value)}")
    _require_items(value, depth)


def _require_items(value: Sequence[object], depth: int) -> None:
    if depth == 0:
        raise FormatError(f"expected at most {MAX_DEPTH} arrays within arrays, found more")
    if len(value) > MAX_ITEMS:
        raise FormatError(f"expected at most {MAX_ITEMS} items, found {len(value)}")
    for item in value:
        # Most items are no arrays: for these the call would cost more than the look.
        if type(item) not in _FLAT:
            _require_encodable(item, depth - 1)


def describe(value: object) -> str:
    """What a value is, for messages: its type and size, never its content beyond a number."""
    match value:
        case None:
            return "nil"
        case bool() | int():
            return f"{'boolean' if isinstance(value, bool) else 'integer'} {value}".lower()
        case bytes():
            return f"{len(value)} bytes"
        case str():
            return f"text of {len(value)} characters"
        case list() | tuple():
            return f"array of {len(value)}"
        case _:
            return f"a {type(value).__name__}"


class Reader:
    """Reads the fields of one array in order and refuses whatever is not as asked for.

    Args:
        kind: What is being read, for messages.
        source: The encoded array, or an array that has been decoded already.
        max_size: The most bytes ``source`` may have, checked before it is parsed.

    Raises:
        FormatError: The source is no canonical encoding or no array. So does each method
            when the next field is missing, of another type or outside its limits.
    """

    def __init__(
        self, kind: str, source: bytes | Value, *, max_size: int = DEFAULT_MAX_SIZE
    ) -> None:
        self._kind = kind
        self._next = 0
        if isinstance(source, bytes):
            try:
                source = decode(source, max_size)
            except FormatError as exc:
                raise FormatError(f"{kind}: {exc.message}") from exc
        if not isinstance(source, list | tuple):
            raise FormatError(f"{kind}: expected array, found {describe(source)}")
        self._items: Sequence[Value] = source

    def __len__(self) -> int:
        """The number of fields that have not been read."""
        return len(self._items) - self._next

    def _take(self, expected: str) -> Value:
        if self._next == len(self._items):
            raise FormatError(
                f"{self._kind}, field {self._next}: expected {expected}, found the end"
            )
        self._next += 1
        return self._items[self._next - 1]

    def _take_optional(self) -> bool:
        """Whether the next field is nil, in which case it has been read."""
        if self._next < len(self._items) and self._items[self._next] is None:
            self._next += 1
            return True
        return False

    def _refuse(self, expected: str, found: Value) -> NoReturn:
        raise FormatError(
            f"{self._kind}, field {self._next - 1}: expected {expected}, found {describe(found)}"
        )

    def constant(self, value: int) -> None:
        """Read a field that can only be ``value``, such as a format's version."""
        found = self._take(f"integer {value}")
        if type(found) is not int or found != value:
            self._refuse(f"integer {value}", found)

    def uint(self, maximum: int = MAX_UINT, *, minimum: int = 0) -> int:
        """An integer from ``minimum`` to ``maximum``; a boolean is none."""
        expected = f"integer from {minimum} to {maximum}"
        found = self._take(expected)
        if type(found) is not int or not minimum <= found <= maximum:
            self._refuse(expected, found)
        return found

    def fixed(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        found = self._take(f"{size} bytes")
        if not isinstance(found, bytes) or len(found) != size:
            self._refuse(f"{size} bytes", found)
        return found

    def blob(self, maximum: int, *, minimum: int = 0) -> bytes:
        """From ``minimum`` to ``maximum`` bytes."""
        expected = f"{minimum} to {maximum} bytes"
        found = self._take(expected)
        if not isinstance(found, bytes) or not minimum <= len(found) <= maximum:
            self._refuse(expected, found)
        return found

    def text(self, maximum: int, *, minimum: int = 0) -> str:
        """A text of ``minimum`` to ``maximum`` characters."""
        expected = f"text of {minimum} to {maximum} characters"
        found = self._take(expected)
        if not isinstance(found, str) or not minimum <= len(found) <= maximum:
            self._refuse(expected, found)
        return found

    def is_text(self) -> bool:
        """Whether the next field is text; it stays to be read."""
        return bool(len(self)) and isinstance(self._items[self._next], str)

    def boolean(self) -> bool:
        """A boolean; an integer is none."""
        found = self._take("boolean")
        if not isinstance(found, bool):
            self._refuse("boolean", found)
        return found

    def optional_uint(self, maximum: int = MAX_UINT, *, minimum: int = 0) -> int | None:
        """As ``uint``, or ``None`` for nil."""
        return None if self._take_optional() else self.uint(maximum, minimum=minimum)

    def optional_fixed(self, size: int) -> bytes | None:
        """As ``fixed``, or ``None`` for nil."""
        return None if self._take_optional() else self.fixed(size)

    def optional_text(self, maximum: int, *, minimum: int = 0) -> str | None:
        """As ``text``, or ``None`` for nil."""
        return None if self._take_optional() else self.text(maximum, minimum=minimum)

    def array(self, maximum: int = MAX_ITEMS, *, minimum: int = 0) -> Sequence[Value]:
        """An array of ``minimum`` to ``maximum`` items, which are the caller's to check."""
        expected = f"array of {minimum} to {maximum}"
        found = self._take(expected)
        if not isinstance(found, list | tuple) or not minimum <= len(found) <= maximum:
            self._refuse(expected, found)
        return found

    def optional_array(self) -> Sequence[Value] | None:
        """As ``array``, or ``None`` for nil."""
        return None if self._take_optional() else self.array()

    def nested(self, kind: str) -> Reader:
        """A reader of the array that is the next field."""
        return _reader_of(kind, self._take("array"))

    def rest(self, kind: str) -> list[Reader]:
        """A reader for each remaining field, all of which must be arrays."""
        start, self._next = self._next, len(self._items)
        return [
            _reader_of(f"{kind} {number}", item) for number, item in enumerate(self._items[start:])
        ]

    def values(self) -> Sequence[Value]:
        """All fields, which are the caller's to check, and stay to be read."""
        return self._items

    def end(self) -> None:
        """Refuse fields that nobody has read."""
        if len(self):
            raise FormatError(
                f"{self._kind}: expected {self._next} fields, found {len(self._items)}"
            )


def _reader_of(kind: str, item: Value) -> Reader:
    # Bytes that encode an array are not one here: that would be a second form of the array.
    if isinstance(item, bytes):
        raise FormatError(f"{kind}: expected array, found {describe(item)}")
    return Reader(kind, item)
