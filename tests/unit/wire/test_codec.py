"""Canonical MessagePack and the reader of its arrays."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given

from bistro.errors import FormatError
from bistro.wire import codec
from bistro.wire.codec import Reader, Value
from tests.support import strategies


@given(strategies.CODEC_VALUES)
def test_any_messagepack_library_reads_what_is_written(value: Value) -> None:
    """The encoding is ordinary MessagePack, only always the same."""
    assert msgpack.unpackb(codec.encode(value)) == value


def test_tuples_and_lists_are_both_arrays() -> None:
    """Frozen values need no copy before they are encoded."""
    assert codec.encode((1, (2,))) == codec.encode([1, [2]])


@pytest.mark.parametrize(
    "value",
    [1.5, {}, {"a": 1}, {1}, bytearray(b"x"), len, [1, [2.0]], -1, 2**53, "\ud800"],
    ids=repr,
)
def test_a_value_without_encoding_is_refused(value: Any) -> None:
    """Floats, maps, negative numbers and foreign types never reach the wire."""
    with pytest.raises(FormatError, match="expected"):
        codec.encode(value)


def nested(depth: int) -> Value:
    value: Value = 0
    for _ in range(depth):
        value = [value]
    return value


def test_arrays_nest_to_a_limit() -> None:
    """Depth is bounded both ways."""
    assert codec.decode(codec.encode(nested(codec.MAX_DEPTH))) == nested(codec.MAX_DEPTH)
    with pytest.raises(FormatError, match="at most 6 arrays within arrays"):
        codec.encode(nested(codec.MAX_DEPTH + 1))
    for depth in (codec.MAX_DEPTH + 1, 2_000):
        with pytest.raises(FormatError, match="expected"):
            codec.decode(b"\x91" * depth + b"\x00")


def test_arrays_are_long_to_a_limit() -> None:
    """The count is bounded both ways."""
    longest = [0] * codec.MAX_ITEMS
    assert codec.decode(codec.encode(longest)) == longest
    with pytest.raises(FormatError, match="at most 10000 items"):
        codec.encode([*longest, 0])
    with pytest.raises(FormatError, match="expected canonical"):
        codec.decode(
            b"\xdc" + (codec.MAX_ITEMS + 1).to_bytes(2, "big") + bytes(codec.MAX_ITEMS + 1)
        )


def test_a_length_without_content_reserves_nothing() -> None:
    """Five bytes cannot ask for an array of two thousand million items."""
    with pytest.raises(FormatError, match="expected canonical"):
        codec.decode(b"\xdd\x7f\xff\xff\xff")


def test_arrays_within_each_other_that_never_end_reserve_nothing() -> None:
    """Otherwise 10 KB from anybody would cost 80 MB and a twentieth of a second."""
    begun = b"\xdc" + codec.MAX_ITEMS.to_bytes(2, "big")
    data = (begun * 1_000).ljust(codec.MAX_ITEMS, b"\0")
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="canonical MessagePack"):
            codec.decode(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_size_is_checked_before_content() -> None:
    """What is too long is not parsed at all."""
    assert codec.decode(b"\xa1x", 2) == "x"
    with pytest.raises(FormatError, match="expected at most 1 bytes, found 2"):
        codec.decode(b"\xc1\xc1", 1)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "nothing"),
        ("c1", "a byte that is never used"),
        ("0000", "two values"),
        ("cc01", "uint8 for a fixint"),
        ("cd00ff", "uint16 for a uint8"),
        ("d001", "int8 for a fixint"),
        ("ff", "-1"),
        ("cf0020000000000000", "2^53"),
        ("ca3f800000", "a float"),
        ("cb3ff0000000000000", "a double"),
        ("80", "a map"),
        ("8100c0", "a map with a field"),
        ("d40100", "an extension"),
        ("d6ff00000000", "a timestamp"),
        ("d90178", "str8 for a fixstr"),
        ("c5000178", "bin16 for a bin8"),
        ("dc000100", "array16 for a fixarray"),
        ("a1ff", "text that is not UTF-8"),
        ("a3eda080", "a lone surrogate"),
        ("a2c080", "an overlong form of NUL"),
        ("92c0", "an item is missing"),
        ("c402ff", "a byte is missing"),
    ],
)
def test_any_other_form_of_a_value_is_malformed(data: str, why: str) -> None:
    """One value has one encoding."""
    with pytest.raises(FormatError, match="expected"):
        codec.decode(bytes.fromhex(data))
    assert why


def test_a_reader_reads_each_kind_of_field_in_order() -> None:
    """Fields come out as they were put in, and the end is the end."""
    values: list[Value] = [1, 300, b"ab", b"cde", "text", True, [1, 2], [7], None, None]
    fields = Reader("thing", codec.encode(values))
    assert len(fields) == 10
    fields.constant(1)
    assert fields.uint(300, minimum=300) == 300
    assert fields.fixed(2) == b"ab"
    assert fields.blob(3, minimum=3) == b"cde"
    assert fields.is_text()
    assert fields.text(4) == "text"
    assert not fields.is_text()
    assert fields.boolean() is True
    assert fields.array() == [1, 2]
    inner = fields.nested("inner")
    assert inner.uint() == 7
    inner.end()
    assert fields.optional_uint() is None
    assert fields.optional_fixed(2) is None
    assert not fields.is_text()
    fields.end()


def test_optional_fields_are_there_or_nil() -> None:
    """Nil is read as None, anything else as if it were required."""
    fields = Reader("thing", [None, None, 1, b"a", "c", [1]])
    assert fields.optional_text(1) is None
    assert fields.optional_array() is None
    assert fields.optional_uint() == 1
    assert fields.optional_fixed(1) == b"a"
    assert fields.optional_text(1) == "c"
    assert fields.optional_array() == [1]
    with pytest.raises(FormatError, match=r"thing, field 6: expected integer .* found the end"):
        fields.optional_uint()


@pytest.mark.parametrize(
    ("found", "read", "message"),
    [
        (2, lambda f: f.constant(1), "field 0: expected integer 1, found integer 2"),
        (True, lambda f: f.constant(1), "expected integer 1, found boolean true"),
        (6, lambda f: f.uint(5), "expected integer from 0 to 5, found integer 6"),
        (0, lambda f: f.uint(5, minimum=1), "expected integer from 1 to 5, found integer 0"),
        (False, lambda f: f.uint(), "found boolean false"),
        ("1", lambda f: f.uint(), "found text of 1 characters"),
        (b"a", lambda f: f.fixed(2), "expected 2 bytes, found 1 bytes"),
        ("ab", lambda f: f.fixed(2), "expected 2 bytes, found text of 2 characters"),
        (b"abc", lambda f: f.blob(2), "expected 0 to 2 bytes, found 3 bytes"),
        (b"", lambda f: f.blob(2, minimum=1), "expected 1 to 2 bytes, found 0 bytes"),
        ("abc", lambda f: f.text(2), "expected text of 0 to 2 characters, found text of 3"),
        (b"a", lambda f: f.text(2), "expected text of 0 to 2 characters, found 1 bytes"),
        (1, lambda f: f.boolean(), "expected boolean, found integer 1"),
        (None, lambda f: f.boolean(), "expected boolean, found nil"),
        ([1, 2], lambda f: f.array(1), "expected array of 0 to 1, found array of 2"),
        ("ab", lambda f: f.array(), "expected array of 0 to 10000, found text of 2 characters"),
        (b"a", lambda f: f.nested("inner"), "inner: expected array, found 1 bytes"),
        (7, lambda f: f.nested("inner"), "inner: expected array, found integer 7"),
    ],
)  # fmt: skip
def test_another_kind_of_field_is_malformed(
    found: Value, read: Callable[[Reader], Any], message: str
) -> None:
    """The message names what was expected and what was found."""
    with pytest.raises(FormatError) as raised:
        read(Reader("thing", [found]))
    assert message in raised.value.message


def test_encoded_bytes_within_an_array_are_not_taken_for_an_array() -> None:
    """A nested record has one form: bytes that encode an array are still bytes."""
    fields = Reader("thing", [codec.encode([7])])
    with pytest.raises(FormatError, match="inner: expected array, found 2 bytes"):
        fields.nested("inner")
    with pytest.raises(FormatError, match="item 0: expected array, found 2 bytes"):
        Reader("thing", [codec.encode([7])]).rest("item")


def test_fields_that_nobody_read_are_refused() -> None:
    """A new field means a new version."""
    fields = Reader("thing", [1, 2])
    fields.uint()
    with pytest.raises(FormatError, match="thing: expected 1 fields, found 2"):
        fields.end()


def test_the_rest_of_an_array_is_read_item_by_item() -> None:
    """Lists of records name the record that is wrong."""
    fields = Reader("things", [0, [1], [2]])
    fields.uint()
    assert [item.uint() for item in fields.rest("thing")] == [1, 2]
    fields.end()
    with pytest.raises(FormatError, match="thing 1: expected array, found integer 3"):
        Reader("things", [[1], 3]).rest("thing")


@pytest.mark.parametrize("source", [b"\xc1", b"\x01", 1, None, "x", b"\x91\x00" * 2])
def test_what_is_no_array_has_no_reader(source: bytes | Value) -> None:
    """The message says what was being read."""
    with pytest.raises(FormatError, match="thing: expected"):
        Reader("thing", source)


def test_a_reader_checks_size_before_content() -> None:
    """The limit of a format holds for its reader."""
    with pytest.raises(FormatError, match="thing: expected at most 1 bytes, found 2"):
        Reader("thing", b"\x91\x00", max_size=1)


def test_a_foreign_value_is_described_by_its_type() -> None:
    """Messages never repeat content that they do not know."""
    assert codec.describe(1.5) == "a float"
    assert codec.describe((1, 2)) == "array of 2"
