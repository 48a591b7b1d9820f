"""Statements: what a signed note about a call says, a kind, the origin and one JSON object.

    bistro/<kind>/v1
    <server>/<call>
    <canonical JSON object>

Source: docs/spec/promises.md, signed notes.
"""

from __future__ import annotations

from typing import Final

from bistro.errors import FormatError
from bistro.ids import Origin
from bistro.wire.document import Fields, Json, encode_json
from bistro.wire.lines import to_text

MAX_STATEMENT_SIZE: Final = 262_144
"""The most bytes of a statement without its signatures."""

_LINES = 3


def encode_statement(kind: str, origin: Origin, content: dict[str, Json]) -> bytes:
    """The text of a statement: what is signed."""
    return encode_saying(kind, str(origin), content)


def decode_statement(kind: str, text: bytes) -> tuple[Origin, Fields]:
    """Origin and content of a statement of the one ``kind`` that is expected.

    Raises:
        FormatError: As ``decode_saying``, or about no call.
    """
    about, fields = decode_saying(kind, text)
    return Origin.parse(about), fields


def encode_saying(kind: str, about: str, content: dict[str, Json]) -> bytes:
    """The text of a statement about anything that has a name of one line."""
    return f"bistro/{kind}/v1\n{about}\n".encode() + encode_json(content) + b"\n"


def decode_saying(kind: str, text: bytes) -> tuple[str, Fields]:
    """What a statement of the one ``kind`` that is expected is about, and its content.

    Raises:
        FormatError: Another kind, too long, not exactly three lines, or JSON that is not
            canonical.
    """
    if len(text) > MAX_STATEMENT_SIZE:
        raise FormatError(f"{kind}: expected at most {MAX_STATEMENT_SIZE} bytes, found {len(text)}")
    lines = to_text(kind, text).split("\n")
    if len(lines) != _LINES + 1 or lines[-1]:
        raise FormatError(f"{kind}: expected {_LINES} lines that end in LF")
    if lines[0] != f"bistro/{kind}/v1":
        raise FormatError(f"{kind}: expected bistro/{kind}/v1, found {lines[0][:80]!r}")
    fields = Fields(kind, lines[2].encode(), max_size=MAX_STATEMENT_SIZE)
    return lines[1], fields
