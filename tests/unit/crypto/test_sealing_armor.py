"""Armor: strict, in pieces of any size, in bounded memory."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto.sealing import ArmorReader
from bistro.errors import FormatError
from tests.support.age_files import pieces

BEGIN, END = b"-----BEGIN AGE ENCRYPTED FILE-----", b"-----END AGE ENCRYPTED FILE-----"


def armor(data: bytes, *, line_end: bytes = b"\n") -> bytes:
    text = base64.b64encode(data)
    return line_end.join([BEGIN, *pieces(text, 64), END, b""])


def read(text: bytes, *, piece_size: int = 1 << 20) -> bytes:
    reader = ArmorReader()
    return b"".join(reader.feed(piece) for piece in pieces(text, piece_size)) + reader.finish()


@given(
    data=st.binary(max_size=300),
    piece_size=st.integers(1, 200),
    line_end=st.sampled_from([b"\n", b"\r\n"]),
    margin=st.sampled_from([b"", b"\n\n", b" \t\r\n"]),
)
def test_reading_undoes_armoring(
    data: bytes, piece_size: int, line_end: bytes, margin: bytes
) -> None:
    """With either line end, whitespace around it, and any cutting."""
    text = margin + armor(data, line_end=line_end) + margin
    assert read(text, piece_size=piece_size) == data


@given(data=st.binary(max_size=300), piece_size=st.integers(1, 50))
def test_any_bytes_are_armor_or_malformed(data: bytes, piece_size: int) -> None:
    """No other error, also behind a true beginning."""
    for beginning in (b"", BEGIN + b"\n"):
        with contextlib.suppress(FormatError):
            read(beginning + data, piece_size=piece_size)


@pytest.mark.parametrize("piece_size", [1, 1 << 20])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "at the end, found none"),
        (BEGIN, "at the end, found none"),
        (b"hello\n", "at the start"),
        (armor(b"x")[:-5], "not base64|every line"),
        (armor(b"x") + b"x", "only whitespace may follow"),
        (armor(b"x" * 100).replace(b"\n", b"\n\n"), "none is empty"),
        (BEGIN + b"\nAAAA\nAAAA\n" + END, "every line but the last"),
        (BEGIN + b"\nAB==\n" + END, "not canonical"),
        (BEGIN + b"\nA*==\n" + END, "not base64"),
        (BEGIN + b"\n" + b"A" * 68 + b"\n" + END, "64 columns"),
        (BEGIN + b"\n" + b"A" * 500, "64 columns"),
        (b" " * 1_025 + armor(b"x"), "whitespace outside"),
        (armor(b"x") + b" " * 1_025, "whitespace outside"),
    ],
)
def test_malformed_armor_is_refused(text: bytes, message: str, piece_size: int) -> None:
    """Each message says what is wrong, whatever the cutting."""
    with pytest.raises(FormatError, match=message):
        read(text, piece_size=piece_size)


def test_a_fault_in_armor_is_final() -> None:
    """Reading cannot go on behind a refused line."""
    reader = ArmorReader()
    with pytest.raises(FormatError, match="at the start"):
        reader.feed(b"nonsense\n")
    with pytest.raises(FormatError, match="earlier fault"):
        reader.feed(armor(b"x"))
    with pytest.raises(FormatError, match="earlier fault"):
        reader.finish()
