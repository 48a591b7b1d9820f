"""The text of a consistency path: one hash a line, lowest first; no line where none is needed.

Source: docs/spec/promises.md, consistency; RFC 9162, section 2.1.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bistro.errors import FormatError
from bistro.wire.lines import format_base64, parse_base64_hash

MAX_HASHES: Final = 64
"""More than any tree of 2^53 entries needs."""

MAX_CONSISTENCY_SIZE: Final = MAX_HASHES * 45


def format_consistency(path: Sequence[bytes]) -> bytes:
    """The lines of a path."""
    return "".join(f"{format_base64(node)}\n" for node in path).encode()


def parse_consistency(data: bytes) -> tuple[bytes, ...]:
    """Read a path.

    Raises:
        FormatError: Too many lines, one that is no hash, or no LF at the end.
    """
    lines = data.split(b"\n")
    if lines.pop() or len(lines) > MAX_HASHES:
        raise FormatError(
            f"consistency path: expected at most {MAX_HASHES} lines that end in LF, "
            f"found {len(lines)} and {len(data)} bytes"
        )
    return tuple(
        parse_base64_hash("consistency path", line.decode("ascii", "replace")) for line in lines
    )
