"""Canonical JSON and the reader of its objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given

from bistro.errors import FormatError
from bistro.instant import MAX_INSTANT
from bistro.wire import document
from bistro.wire.document import Fields, Json
from tests.support import strategies


@given(strategies.JSON_VALUES)
def test_any_json_library_reads_what_is_written(value: Json) -> None:
    """The encoding is ordinary JSON, only always the same."""
    assert json.loads(document.encode_json(value)) == value


def test_keys_are_sorted_by_code_point_and_nothing_is_escaped_without_need() -> None:
    """The form is that of docs/spec/encodings.md."""
    value: Json = {"é": 1, "a": [True, None, -1], "\uffee": '"\\\n\x1f/\x7f', "😀": {}, "Z": ()}
    assert document.encode_json(value).decode() == (
        '{"Z":[],"a":[true,null,-1],"é":1,"\uffee":"\\"\\\\\\n\\u001f/\x7f","😀":{}}'
    )


@pytest.mark.parametrize(
    "value",
    [1.0, float("nan"), b"x", {1: 2}, {"a": {None: 1}}, {1}, len, 2**53, -(2**53), "\ud800",
     {"\ud800": 1}],
    ids=repr,
)  # fmt: skip
def test_a_value_without_encoding_is_refused(value: Any) -> None:
    """Floats, bytes, other keys than text and large numbers never reach the wire."""
    with pytest.raises(FormatError, match="expected"):
        document.encode_json(value)


def nested(depth: int) -> Json:
    value: Json = 0
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def test_levels_are_limited() -> None:
    """Depth is bounded both ways, and however deep a stranger goes."""
    deepest = document.encode_json(nested(document.MAX_DEPTH))
    assert document.decode_json(deepest) == nested(document.MAX_DEPTH)
    with pytest.raises(FormatError, match="at most 8 levels"):
        document.encode_json(nested(document.MAX_DEPTH + 1))
    for depth in (document.MAX_DEPTH + 1, 100_000):
        with pytest.raises(FormatError, match="expected"):
            document.decode_json(b"[" * depth + b"0" + b"]" * depth)


def test_size_is_checked_before_content() -> None:
    """What is too long is not parsed at all."""
    assert document.decode_json(b"10", 2) == 10
    with pytest.raises(FormatError, match="expected at most 1 bytes, found 2"):
        document.decode_json(b"{{", 1)


@pytest.mark.parametrize(
    "data",
    [
        b"", b" 1", b"1 ", b"1\n", b"01", b"+1", b"-0", b"1.0", b"1e2", b"NaN", b"Infinity",
        b"9007199254740992", b"1" * 5_000, b'{"a":1,"a":1}', b'{"b":1,"a":1}', b'{"a": 1}',
        b"[1, 2]", b"[1,]", b'"\\u0041"', b'"\\/"', b'"\\u001F"', b'"\\u000a"', b'"\x01"',
        b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\xff"', b"\xef\xbb\xbf1", b"'a'", b"nul", b"{}{}",
    ],
)  # fmt: skip
def test_any_other_form_of_a_document_is_malformed(data: bytes) -> None:
    """One value has one encoding."""
    with pytest.raises(FormatError, match="expected"):
        document.decode_json(data)


def test_fields_are_read_by_name_whatever_their_order() -> None:
    """Fields come out as they were put in, and nothing is left."""
    source: Json = {
        "version": 1, "size": 5, "at": MAX_INSTANT, "done": False, "name": "é", "kind": "a",
        "sha256": "00ff", "proof": "AP8=", "names": ["x", "y"], "indexes": [0, 2],
        "inner": {"a": 1},
        "rows": [{"a": 1}, {"a": 2}], "list": [1, "x"],
    }  # fmt: skip
    fields = Fields("thing", document.encode_json(source))
    fields.constant("version", 1)
    assert fields.uint("size", 5, minimum=5) == 5
    assert fields.instant("at") == MAX_INSTANT
    assert fields.boolean("done") is False
    assert fields.text("name", 1) == "é"
    assert fields.choice("kind", {"a", "b"}) == "a"
    assert fields.hex("sha256", 2) == b"\x00\xff"
    assert fields.blob("proof", 2, minimum=2) == b"\x00\xff"
    assert fields.texts("names", 2, longest=1) == ("x", "y")
    assert fields.uints("indexes", 2, highest=2) == (0, 2)
    assert fields.nested("inner").uint("a") == 1
    assert [row.uint("a") for row in fields.objects("rows", 2)] == [1, 2]
    assert fields.array("list", 2) == [1, "x"]
    fields.end()


READERS: dict[str, Callable[[Fields], Any]] = {
    "uint": lambda fields: fields.optional_uint("a"),
    "instant": lambda fields: fields.optional_instant("a"),
    "text": lambda fields: fields.optional_text("a", 9),
    "hex": lambda fields: fields.optional_hex("a", 1),
    "nested": lambda fields: fields.optional_nested("a"),
}


@pytest.mark.parametrize("kind", READERS)
def test_optional_fields_are_there_or_null(kind: str) -> None:
    """Null is read as None; a field that is missing is malformed all the same."""
    fields = Fields("thing", {"a": None})
    assert READERS[kind](fields) is None
    fields.end()
    with pytest.raises(FormatError, match=r"thing: expected 'a' .* found no such field"):
        READERS[kind](Fields("thing", {}))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [("uint", 1, 1), ("instant", 2, 2), ("text", "x", "x"),
     ("hex", "00", b"\x00")],
)  # fmt: skip
def test_optional_fields_that_are_there_are_read_as_required_ones(
    kind: str, value: Json, expected: object
) -> None:
    """Both obey the same limits."""
    assert READERS[kind](Fields("thing", {"a": value})) == expected
    with pytest.raises(FormatError):
        READERS[kind](Fields("thing", {"a": {}}))


def test_an_optional_object_that_is_there_is_read() -> None:
    """Its fields are read as those of any object."""
    inner = Fields("thing", {"a": {"b": 1}}).optional_nested("a")
    assert inner is not None
    assert inner.uint("b") == 1


@pytest.mark.parametrize(
    ("found", "read", "message"),
    [
        (2, lambda f: f.constant("a", 1), "thing, 'a': expected 1, found integer 2"),
        (True, lambda f: f.constant("a", 1), "expected 1, found true"),
        (1, lambda f: f.constant("a", "1"), "expected '1', found integer 1"),
        (-1, lambda f: f.uint("a"), "to 9007199254740991, found integer -1"),
        (1, lambda f: f.uint("a", 5, minimum=2), "expected integer from 2 to 5, found integer 1"),
        (True, lambda f: f.uint("a"), "found true"),
        (MAX_INSTANT + 1, lambda f: f.instant("a"), "found integer 253402300800000"),
        (0, lambda f: f.boolean("a"), "expected boolean, found integer 0"),
        ("abc", lambda f: f.text("a", 2), "expected text of 0 to 2 characters, found text of 3"),
        ("", lambda f: f.text("a", 2, minimum=1), "found text of 0 characters"),
        (None, lambda f: f.text("a", 2), "found null"),
        ("c", lambda f: f.choice("a", {"a", "b"}), "expected one of a, b, found 'c'"),
        (1, lambda f: f.choice("a", {"a", "b"}), "expected one of a, b, found integer 1"),
        ("FF", lambda f: f.hex("a", 1), "expected 2 lower-case hexadecimal digits, found"),
        ("ff0", lambda f: f.hex("a", 1), "found text of 3"),
        ("0\n", lambda f: f.hex("a", 1), "found text of 2"),
        (1, lambda f: f.hex("a", 1), "found integer 1"),
        (1, lambda f: f.blob("a", 1), "expected base64 of 0 to 1 bytes, found integer 1"),
        ("A", lambda f: f.blob("a", 1), "expected base64 of 0 to 1 bytes, found text of 1"),
        ("é===", lambda f: f.blob("a", 1), "found text of 4"),
        ("AB==", lambda f: f.blob("a", 1), "found another form of base64"),
        ("AA==\n", lambda f: f.blob("a", 1), "found text of 5"),
        ("AAA=", lambda f: f.blob("a", 1), "found base64 of 2 bytes"),
        ("", lambda f: f.blob("a", 1, minimum=1), "found base64 of 0 bytes"),
        ([1, 2], lambda f: f.array("a", 1), "expected array of 0 to 1, found array of 2"),
        ("ab", lambda f: f.array("a", 2), "found text of 2"),
        ({}, lambda f: f.array("a", 2), "found object of 0"),
        (["ab"], lambda f: f.texts("a", 2, longest=1), "expected texts of 1 to 1 characters"),
        ([""], lambda f: f.texts("a", 2, longest=1), "expected texts of 1 to 1 characters"),
        ([1], lambda f: f.texts("a", 2, longest=1), "found integer 1"),
        ([], lambda f: f.texts("a", 2, longest=1, minimum=1), "expected array of 1 to 2"),
        ([True], lambda f: f.uints("a", 2), "expected integers from 0 to"),
        ([3], lambda f: f.uints("a", 2, highest=2), "integers from 0 to 2, found integer 3"),
        ([], lambda f: f.nested("a"), "thing, 'a': expected object, found array of 0"),
        ([{}, 1], lambda f: f.objects("a", 2), "thing, 'a' 1: expected object, found integer 1"),
    ],
)  # fmt: skip
def test_another_kind_of_field_is_malformed(
    found: Json, read: Callable[[Fields], Any], message: str
) -> None:
    """The message names the field, what was expected and what was found."""
    with pytest.raises(FormatError) as raised:
        read(Fields("thing", {"a": found}))
    assert message in raised.value.message


def test_fields_that_nobody_asked_for_are_refused() -> None:
    """A new field means a new version."""
    with pytest.raises(FormatError, match="thing: expected no further field, found 'a', 'b'"):
        Fields("thing", {"b": 1, "a": 2}).end()


@pytest.mark.parametrize("source", [b"{", b"[]", b'{"a":1} ', [], None, 1])
def test_what_is_no_object_has_no_fields(source: bytes | Json) -> None:
    """The message says what was being read."""
    with pytest.raises(FormatError, match="thing: expected"):
        Fields("thing", source)


def test_a_reader_checks_size_before_content() -> None:
    """The limit of a format holds for its reader."""
    with pytest.raises(FormatError, match="thing: expected at most 1 bytes, found 2"):
        Fields("thing", b"{}", max_size=1)


def test_reading_leaves_the_source_as_it_was() -> None:
    """A decoded object may be read twice."""
    source: Json = {"a": 1}
    assert Fields("thing", source).uint("a") == Fields("thing", source).uint("a") == 1
