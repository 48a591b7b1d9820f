"""Canonical JSON, and strict readers of its objects.

UTF-8, keys sorted by code point, no white space, no floats, no duplicate keys, no lone
surrogates, integers that every JSON reader holds exactly, characters escaped only where they
must be. Decoding encodes again and compares, so that whatever was decoded had exactly one
encoding.

Source: docs/spec/encodings.md; RFC 8259.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NoReturn, TypeAlias, cast

from bistro.errors import FormatError
from bistro.instant import MAX_INSTANT, UnixMillis

Json: TypeAlias = "bool | int | str | Sequence[Json] | Mapping[str, Json] | None"

DEFAULT_MAX_SIZE: Final = 262_144
MAX_DEPTH: Final = 8
"""Arrays and objects within each other; no document of version 1 nests deeper than four."""
MAX_INTEGER: Final = 2**53 - 1
_HEX = re.compile(r"(?:[0-9a-f]{2})*")


def encode_json(value: Json) -> bytes:
    """The one encoding of ``value``; lists and tuples are both arrays.

    Raises:
        FormatError: ``value`` holds something that has no encoding or nests too deeply.
    """
    _require_encodable(value, MAX_DEPTH)
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise FormatError("text: expected Unicode, found a lone surrogate") from exc


def decode_json(data: bytes, max_size: int = DEFAULT_MAX_SIZE) -> Json:
    """The value that ``data`` is the one encoding of; arrays become lists.

    Raises:
        FormatError: ``data`` is longer than ``max_size``, or is no canonical encoding.
    """
    if len(data) > max_size:
        raise FormatError(f"expected at most {max_size} bytes, found {len(data)}")
    try:
        value = cast("Json", json.loads(data.decode()))
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"expected canonical JSON, found {len(data)} other bytes") from exc
    if encode_json(value) != data:
        raise FormatError("expected canonical JSON, found another form of the same document")
    return value


def _require_encodable(value: object, depth: int) -> None:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return
    if kind is int:
        if not -MAX_INTEGER <= cast("int", value) <= MAX_INTEGER:
            raise FormatError("expected an integer below 2^53, found a larger one")
        return
    for item in _items_of(value):
        if depth == 0:
            raise FormatError(f"expected at most {MAX_DEPTH} levels, found more")
        _require_encodable(item, depth - 1)


def _items_of(value: object) -> Collection[object]:
    if isinstance(value, list | tuple):
        return value
    if not isinstance(value, dict):
        raise FormatError(f"expected a JSON value, found {describe(value)}")
    if not all(type(key) is str for key in value):
        raise FormatError("expected keys that are text, found others")
    return value.values()


def describe(value: object) -> str:
    """What a JSON value is, for messages: its type and size, never its content beyond a number."""
    match value:
        case None | bool():
            return json.dumps(value)
        case int():
            return f"integer {value}"
        case str():
            return f"text of {len(value)} characters"
        case dict():
            return f"object of {len(value)}"
        case list() | tuple():
            return f"array of {len(value)}"
        case _:
            return f"a {type(value).__name__}"


class Fields:
    """Reads the fields of one object by name and refuses whatever is not as asked for.

    Args:
        kind: What is being read, for messages.
        source: The encoded object, or an object that has been decoded already.
        max_size: The most bytes ``source`` may have, checked before it is parsed.

    Raises:
        FormatError: The source is no canonical encoding or no object. So does each method
            when the field is missing, of another type or outside its limits.
    """

    def __init__(
        self, kind: str, source: bytes | Json, *, max_size: int = DEFAULT_MAX_SIZE
    ) -> None:
        self._kind = kind
        if isinstance(source, bytes):
            try:
                source = decode_json(source, max_size)
            except FormatError as exc:
                raise FormatError(f"{kind}: {exc.message}") from exc
        if not isinstance(source, dict):
            raise FormatError(f"{kind}: expected object, found {describe(source)}")
        self._left: dict[str, Json] = dict(source)

    def _take(self, name: str, expected: str) -> Json:
        if name not in self._left:
            raise FormatError(f"{self._kind}: expected {name!r} ({expected}), found no such field")
        return self._left.pop(name)

    def _take_optional(self, name: str) -> bool:
        """Whether the field is null, in which case it has been read."""
        if name in self._left and self._left[name] is None:
            del self._left[name]
            return True
        return False

    def _refuse(self, name: str, expected: str, found: str) -> NoReturn:
        raise FormatError(f"{self._kind}, {name!r}: expected {expected}, found {found}")

    def constant(self, name: str, value: int | str) -> None:
        """Read a field that can only be ``value``, such as a format's version."""
        found = self._take(name, f"{value!r}")
        if type(found) is not type(value) or found != value:
            self._refuse(name, f"{value!r}", describe(found))

    def uint(self, name: str, maximum: int = MAX_INTEGER, *, minimum: int = 0) -> int:
        """An integer from ``minimum`` to ``maximum``; a boolean is none."""
        expected = f"integer from {minimum} to {maximum}"
        found = self._take(name, expected)
        if type(found) is not int or not minimum <= found <= maximum:
            self._refuse(name, expected, describe(found))
        return found

    def instant(self, name: str) -> UnixMillis:
        """A point in time up to the year 9999, in milliseconds."""
        return UnixMillis(self.uint(name, MAX_INSTANT))

    def boolean(self, name: str) -> bool:
        """A boolean; an integer is none."""
        found = self._take(name, "boolean")
        if not isinstance(found, bool):
            self._refuse(name, "boolean", describe(found))
        return found

    def text(self, name: str, maximum: int, *, minimum: int = 0) -> str:
        """A text of ``minimum`` to ``maximum`` characters."""
        expected = f"text of {minimum} to {maximum} characters"
        found = self._take(name, expected)
        if not isinstance(found, str) or not minimum <= len(found) <= maximum:
            self._refuse(name, expected, describe(found))
        return found

    def choice(self, name: str, allowed: Collection[str]) -> str:
        """One of the ``allowed`` words."""
        expected = f"one of {', '.join(sorted(allowed))}"
        found = self._take(name, expected)
        if not isinstance(found, str):
            self._refuse(name, expected, describe(found))
        if found not in allowed:
            self._refuse(name, expected, repr(found[:32]))
        return found

    def hex(self, name: str, size: int) -> bytes:
        """Exactly ``size`` bytes as lower-case hexadecimal."""
        expected = f"{2 * size} lower-case hexadecimal digits"
        found = self._take(name, expected)
        if not isinstance(found, str) or len(found) != 2 * size or not _HEX.fullmatch(found):
            self._refuse(name, expected, describe(found))
        return bytes.fromhex(found)

    def blob(self, name: str, maximum: int, *, minimum: int = 0) -> bytes:
        """From ``minimum`` to ``maximum`` bytes as padded, canonical base64."""
        expected = f"base64 of {minimum} to {maximum} bytes"
        found = self._take(name, expected)
        if not isinstance(found, str):
            self._refuse(name, expected, describe(found))
        try:
            value = base64.b64decode(found, validate=True)
        except (ValueError, binascii.Error):
            self._refuse(name, expected, describe(found))
        if base64.b64encode(value).decode() != found:
            self._refuse(name, expected, "another form of base64")
        if not minimum <= len(value) <= maximum:
            self._refuse(name, expected, f"base64 of {len(value)} bytes")
        return value

    def optional_uint(
        self, name: str, maximum: int = MAX_INTEGER, *, minimum: int = 0
    ) -> int | None:
        """As ``uint``, or ``None`` for null."""
        return None if self._take_optional(name) else self.uint(name, maximum, minimum=minimum)

    def optional_instant(self, name: str) -> UnixMillis | None:
        """As ``instant``, or ``None`` for null."""
        return None if self._take_optional(name) else self.instant(name)

    def optional_text(self, name: str, maximum: int, *, minimum: int = 0) -> str | None:
        """As ``text``, or ``None`` for null."""
        return None if self._take_optional(name) else self.text(name, maximum, minimum=minimum)

    def optional_hex(self, name: str, size: int) -> bytes | None:
        """As ``hex``, or ``None`` for null."""
        return None if self._take_optional(name) else self.hex(name, size)

    def array(self, name: str, maximum: int, *, minimum: int = 0) -> Sequence[Json]:
        """An array of ``minimum`` to ``maximum`` items, which are the caller's to check."""
        expected = f"array of {minimum} to {maximum}"
        found = self._take(name, expected)
        if not isinstance(found, list | tuple) or not minimum <= len(found) <= maximum:
            self._refuse(name, expected, describe(found))
        return found

    def texts(self, name: str, maximum: int, *, longest: int, minimum: int = 0) -> tuple[str, ...]:
        """An array of ``minimum`` to ``maximum`` texts of 1 to ``longest`` characters."""
        found: list[str] = []
        for item in self.array(name, maximum, minimum=minimum):
            if not isinstance(item, str) or not 1 <= len(item) <= longest:
                self._refuse(name, f"texts of 1 to {longest} characters", describe(item))
            found.append(item)
        return tuple(found)

    def uints(self, name: str, maximum: int, *, highest: int = MAX_INTEGER) -> tuple[int, ...]:
        """An array of at most ``maximum`` integers from 0 to ``highest``."""
        found: list[int] = []
        for item in self.array(name, maximum):
            if type(item) is not int or not 0 <= item <= highest:
                self._refuse(name, f"integers from 0 to {highest}", describe(item))
            found.append(item)
        return tuple(found)

    def optional_uints(
        self, name: str, maximum: int, *, highest: int = MAX_INTEGER
    ) -> tuple[int, ...] | None:
        """As ``uints``, or ``None`` for null."""
        return None if self._take_optional(name) else self.uints(name, maximum, highest=highest)

    def nested(self, name: str) -> Fields:
        """A reader of the object that is the field."""
        return Fields(f"{self._kind}, {name!r}", self._take(name, "object"))

    def optional_nested(self, name: str) -> Fields | None:
        """As ``nested``, or ``None`` for null."""
        return None if self._take_optional(name) else self.nested(name)

    def objects(self, name: str, maximum: int, *, minimum: int = 0) -> list[Fields]:
        """A reader for each object of an array of ``minimum`` to ``maximum``."""
        items = self.array(name, maximum, minimum=minimum)
        return [
            Fields(f"{self._kind}, {name!r} {number}", item) for number, item in enumerate(items)
        ]

    def optional_objects(self, name: str, maximum: int, *, minimum: int = 0) -> list[Fields]:
        """As ``objects``, or none for null."""
        return [] if self._take_optional(name) else self.objects(name, maximum, minimum=minimum)

    def end(self) -> None:
        """Refuse fields that nobody has asked for."""
        if self._left:
            unknown = ", ".join(repr(name[:32]) for name in sorted(self._left)[:4])
            raise FormatError(f"{self._kind}: expected no further field, found {unknown}")
