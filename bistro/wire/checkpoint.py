"""Checkpoints: what a ledger's owner signs about its tree, as C2SP tlog-checkpoint text.

Our ledgers sign no extension lines, so a checkpoint has exactly three lines.

Source: docs/spec/promises.md; C2SP tlog-checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bistro.crypto.digest import EMPTY_ROOT
from bistro.crypto.signing import Note, VerifierKey, signature_line, verify_note
from bistro.errors import FormatError, VerificationError
from bistro.wire.lines import (
    format_base64,
    parse_base64_hash,
    parse_decimal,
    require_hash,
    require_number,
    to_text,
)

MAX_ORIGIN_SIZE: Final = 1_024
"""Longer than any of our origins; a foreign log may be named more freely than ours."""

_LINES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A tree of ``size`` entries with root ``root`` in the ledger ``origin``."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        """Refuse at once what would not parse again."""
        name = to_text("checkpoint origin", self.origin)
        if not name.isprintable() or not 0 < len(name.encode()) <= MAX_ORIGIN_SIZE:
            raise FormatError(f"checkpoint: origin {name[:80]!r} is not one printable line")
        require_number("checkpoint size", self.size)
        require_hash("checkpoint root", self.root)
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise FormatError("checkpoint: expected the empty root with size 0, found another")

    def text(self) -> bytes:
        """The bytes that are signed: three lines, each ending in LF."""
        return f"{self.origin}\n{self.size}\n{format_base64(self.root)}\n".encode()

    def signed(self, verifier: VerifierKey, signature: bytes) -> bytes:
        """The signed note of this checkpoint with one signature made over :meth:`text`."""
        return self.text() + b"\n" + signature_line(verifier, signature)

    @classmethod
    def parse(cls, text: bytes) -> Checkpoint:
        """The checkpoint that ``text``, without signatures, spells.

        Raises:
            FormatError: Not exactly three canonical lines; extension lines are refused.
        """
        lines = to_text("checkpoint", text).split("\n")
        if len(lines) != _LINES + 1 or lines[-1]:
            raise FormatError(f"checkpoint: expected {_LINES} lines that end in LF")
        return cls(
            origin=lines[0],
            size=parse_decimal("checkpoint size", lines[1]),
            root=parse_base64_hash("checkpoint root", lines[2]),
        )


def verify_checkpoint(note: bytes, key: VerifierKey) -> Checkpoint:
    """The checkpoint in the signed ``note``, once ``key`` is found to have signed it.

    Args:
        note: A whole signed note; signatures of unknown keys are ignored.
        key: The ledger's key; its name is the origin that is expected.

    Raises:
        FormatError: The note or its text is malformed.
        VerificationError: Not signed by ``key``, or the checkpoint of another ledger.
    """
    parsed = Note.parse(note)
    verify_note(parsed, key)
    checkpoint = Checkpoint.parse(parsed.text)
    if checkpoint.origin != key.name:
        raise VerificationError(
            f"checkpoint: expected ledger {key.name!r}, found {checkpoint.origin!r}"
        )
    return checkpoint
