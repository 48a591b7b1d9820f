"""One recipient stanza of an age header, and the unpadded base64 that headers are made of.

A stanza wraps the file key for one recipient: ``-> kind argument…``, then a base64 body in
lines of 64 columns whose last line is shorter and may be empty.

Source: C2SP age specification, "Recipient stanza".
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from bistro.errors import FormatError

FILE_KEY_SIZE = 16
"""The symmetric key of one envelope, in bytes."""

WRAPPED_KEY_SIZE = FILE_KEY_SIZE + 16
"""A file key sealed for a recipient: the body of every stanza that we understand."""

COLUMNS = 64
"""Characters in a full body line; the last line has fewer."""

_QUOTED_LIMIT = 40


def encode_base64(data: bytes) -> str:
    """Standard base64 without padding."""
    return base64.b64encode(data).decode("ascii").rstrip("=")


def decode_base64(text: str, *, what: str) -> bytes:
    """The bytes behind unpadded, canonical base64.

    Raises:
        FormatError: Padding, a foreign character, or bits that no encoder leaves set.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise FormatError(f"age header: {what} is not base64") from exc
    if encode_base64(data) != text:
        raise FormatError(f"age header: {what} is not canonical unpadded base64")
    return data


def quoted(line: bytes) -> str:
    """A line of somebody else's header as an error message may show it."""
    shown = repr(line[:_QUOTED_LIMIT])[1:]
    return shown if len(line) <= _QUOTED_LIMIT else f"{shown}…"


@dataclass(frozen=True)
class Stanza:
    """A file key wrapped for one recipient; ``kind`` names the way it is wrapped."""

    kind: str
    arguments: tuple[str, ...]
    body: bytes

    def encode(self) -> bytes:
        """The stanza's lines, each ending in a line feed."""
        text = encode_base64(self.body)
        # The range runs to len(text) inclusive: a body that fills its last line is
        # followed by an empty one, since only a short line ends a stanza.
        lines = [text[at : at + COLUMNS] for at in range(0, len(text) + 1, COLUMNS)]
        return "\n".join((f"-> {' '.join((self.kind, *self.arguments))}", *lines, "")).encode()

    def require_shape(self, *, argument_count: int) -> None:
        """Check what every kind fixes: the number of arguments and the body's size.

        The size is checked before any decryption: a longer body would let one stanza open
        under several keys (partitioning oracle).

        Raises:
            FormatError: Another number of arguments, or a body of another size.
        """
        if len(self.arguments) != argument_count:
            raise FormatError(
                f"age header: a {self.kind} stanza has {argument_count} arguments, "
                f"found {len(self.arguments)}"
            )
        if len(self.body) != WRAPPED_KEY_SIZE:
            raise FormatError(
                f"age header: the body of a {self.kind} stanza has {WRAPPED_KEY_SIZE} bytes, "
                f"found {len(self.body)}"
            )

    def fixed_argument(self, index: int, *, size: int) -> bytes:
        """Argument ``index``, base64 of exactly ``size`` bytes."""
        data = decode_base64(self.arguments[index], what=f"argument {index + 1} of {self.kind}")
        if len(data) != size:
            raise FormatError(
                f"age header: argument {index + 1} of a {self.kind} stanza has {size} bytes, "
                f"found {len(data)}"
            )
        return data


def parse_arguments(line: bytes) -> tuple[str, ...]:
    """The words behind ``-> ``: the stanza's kind, then its arguments.

    Raises:
        FormatError: No word, an empty word, or a character that is not visible ASCII.
    """
    words = line[len(b"-> ") :].split(b" ")
    if not line.startswith(b"-> ") or not all(words):
        raise FormatError(
            f"age header: expected a stanza such as '-> X25519 …', found {quoted(line)}"
        )
    if not all(b"!" <= bytes((code,)) <= b"~" for word in words for code in word):
        raise FormatError(f"age header: a stanza has visible ASCII only, found {quoted(line)}")
    return tuple(word.decode("ascii") for word in words)
