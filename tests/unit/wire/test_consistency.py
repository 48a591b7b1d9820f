"""Consistency paths have one spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import FormatError
from bistro.wire.consistency import MAX_CONSISTENCY_SIZE, format_consistency, parse_consistency

PATHS = st.lists(st.binary(min_size=32, max_size=32), max_size=64).map(tuple)


@given(PATHS)
def test_parsing_undoes_formatting(path: tuple[bytes, ...]) -> None:
    """Also where nothing needs proof."""
    text = format_consistency(path)
    assert parse_consistency(text) == path
    assert len(text) <= MAX_CONSISTENCY_SIZE


@given(st.binary(max_size=200))
def test_any_bytes_are_a_path_or_malformed(data: bytes) -> None:
    """Nothing else is raised, and equal paths have equal bytes."""
    try:
        path = parse_consistency(data)
    except FormatError:
        return
    assert format_consistency(path) == data


LINE = format_consistency([bytes(32)])


@pytest.mark.parametrize(
    "text",
    [
        b"\n",
        LINE[:-1],
        LINE + b"\n",
        LINE.replace(b"=", b""),
        LINE[:-2] + b"B\n",
        LINE * 65,
        b"\xff" + LINE,
    ],
)
def test_other_texts_are_malformed(text: bytes) -> None:
    """Empty lines, no LF at the end, no canonical base64, too many."""
    with pytest.raises(FormatError):
        parse_consistency(text)
