"""Strict pieces of line-based texts: decimals, base64, hashes and UTF-8.

Every piece has exactly one spelling, so that texts made of them have one too.

Source: docs/spec/promises.md; C2SP tlog-proof and signed-note.
"""

from __future__ import annotations

import base64
import re
from typing import Final

from bistro.crypto.digest import HASH_SIZE
from bistro.crypto.keys import decode_base64
from bistro.errors import FormatError

MAX_NUMBER: Final = 2**53 - 1
"""The largest whole number in any text: what every JSON reader still reads exactly."""

DECIMAL: Final = r"(0|[1-9][0-9]{0,15})"
"""A regular expression for a decimal without sign and leading zeros."""

HASH: Final = r"sha256:([0-9a-f]{64})"
"""A regular expression for a SHA-256 hash in a line."""

_DECIMAL = re.compile(DECIMAL)
_HEX = re.compile(r"(?:[0-9a-f]{2})*")
_SHOWN = 40


def to_text(kind: str, data: bytes | str) -> str:
    """``data`` as text without carriage returns.

    Raises:
        FormatError: Not UTF-8, a lone surrogate, or a CR.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        text.encode("utf-8")
    except UnicodeError as exc:
        raise FormatError(f"{kind}: expected UTF-8 text") from exc
    if "\r" in text:
        raise FormatError(f"{kind}: expected lines that end in LF alone, found a CR")
    return text


def parse_decimal(kind: str, text: str) -> int:
    """The number that ``text`` spells: no sign, no leading zeros, at most ``MAX_NUMBER``."""
    if _DECIMAL.fullmatch(text) is None or int(text) > MAX_NUMBER:
        raise FormatError(
            f"{kind}: expected a decimal from 0 to {MAX_NUMBER} without leading zeros, "
            f"found {text[:_SHOWN]!r}"
        )
    return int(text)


def require_number(kind: str, value: object, *, maximum: int = MAX_NUMBER) -> None:
    """Raise unless ``value`` is a whole number from 0 on; a boolean is none."""
    if type(value) is not int or not 0 <= value <= maximum:
        raise FormatError(f"{kind}: expected a whole number from 0 to {maximum}, found {value!r}")


def require_hash(kind: str, value: object) -> None:
    """Raise unless ``value`` is 32 bytes."""
    if type(value) is not bytes or len(value) != HASH_SIZE:
        raise FormatError(f"{kind}: expected {HASH_SIZE} bytes, found {value!r:.80}")


def format_base64(data: bytes) -> str:
    """Standard padded base64."""
    return base64.b64encode(data).decode("ascii")


def parse_base64_hash(kind: str, text: str) -> bytes:
    """A hash of 32 bytes in canonical base64."""
    value = decode_base64(kind, text)
    require_hash(kind, value)
    return value


def parse_hex(kind: str, text: str, *, size: int | None = None) -> bytes:
    """Lower-case hexadecimal; ``size`` is the exact number of bytes where one is asked."""
    if _HEX.fullmatch(text) is None or (size is not None and len(text) != 2 * size):
        wanted = "" if size is None else f" of {2 * size} digits"
        raise FormatError(
            f"{kind}: expected lower-case hexadecimal{wanted}, found {text[:_SHOWN]!r}"
        )
    return bytes.fromhex(text)
