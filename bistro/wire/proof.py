"""Proof that an entry stands in a ledger: the C2SP tlog-proof text of every promise.

Tickets, refusals, postmarks, receipts and releases are all this one text; ``extra`` carries
the entry, which is believed only through its leaf hash.

Source: docs/spec/promises.md; C2SP tlog-proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bistro.crypto.digest import leaf_hash
from bistro.crypto.keys import decode_base64
from bistro.crypto.merkle import verify_inclusion
from bistro.crypto.signing import Note, VerifierKey
from bistro.errors import FormatError, VerificationError
from bistro.wire.checkpoint import Checkpoint, verify_checkpoint
from bistro.wire.entry import MAX_ENTRY_SIZE
from bistro.wire.lines import (
    MAX_NUMBER,
    format_base64,
    parse_base64_hash,
    parse_decimal,
    require_hash,
    require_number,
    to_text,
)

MAGIC: Final = "c2sp.org/tlog-proof@v1"
MAX_PROOF_SIZE: Final = 65_536
"""Room for an entry, a path and some twenty post-quantum cosignatures."""

MAX_PATH_LENGTH: Final = 63
"""The most hashes that C2SP tlog-proof allows; our trees stay far below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """An entry's place in a ledger, under a signed checkpoint.

    Attributes:
        entry: The leaf data, or None where the verifier has it from elsewhere.
        path: Sibling hashes, lowest first.
        checkpoint_note: The signed checkpoint, verbatim.
    """

    entry: bytes | None
    index: int
    path: tuple[bytes, ...]
    checkpoint_note: bytes

    def __post_init__(self) -> None:
        """Refuse at once what would not parse again."""
        if self.entry is not None and not 0 < len(self.entry) <= MAX_ENTRY_SIZE:
            raise FormatError(
                f"proof: expected an entry of 1 to {MAX_ENTRY_SIZE} bytes, found {len(self.entry)}"
            )
        require_number("proof index", self.index, maximum=MAX_NUMBER)
        if len(self.path) > MAX_PATH_LENGTH:
            raise FormatError(
                f"proof: expected at most {MAX_PATH_LENGTH} path hashes, found {len(self.path)}"
            )
        for node in self.path:
            require_hash("proof path", node)
        # A note that is no checkpoint is malformed, whoever signed it.
        Checkpoint.parse(Note.parse(self.checkpoint_note).text)

    def format(self) -> bytes:
        """The tlog-proof text, as it stands in a ``*.ticket`` file."""
        lines = [MAGIC]
        if self.entry is not None:
            lines.append(f"extra {format_base64(self.entry)}")
        lines.append(f"index {self.index}")
        lines.extend(format_base64(node) for node in self.path)
        return "\n".join(lines).encode() + b"\n\n" + self.checkpoint_note

    @classmethod
    def parse(cls, data: bytes | str) -> Proof:
        """The proof that ``data`` spells; nothing is verified yet.

        Raises:
            FormatError: Too long, CR, leading zeros, base64 that is not canonical, a
                malformed checkpoint, anything before or after.
        """
        if len(data) > MAX_PROOF_SIZE:
            raise FormatError(f"proof: expected at most {MAX_PROOF_SIZE} bytes, found {len(data)}")
        head, separator, note = to_text("proof", data).partition("\n\n")
        magic, *lines = head.split("\n")
        if magic != MAGIC or not separator:
            raise FormatError(f"proof: expected {MAGIC!r}, then lines, an empty line and a note")
        entry = None
        if lines and lines[0].startswith("extra "):
            entry = decode_base64("proof extra", lines.pop(0).removeprefix("extra "))
        if not lines or not lines[0].startswith("index "):
            raise FormatError("proof: expected an index line")
        index = parse_decimal("proof index", lines.pop(0).removeprefix("index "))
        path = tuple(parse_base64_hash("proof path", line) for line in lines)
        return cls(entry=entry, index=index, path=path, checkpoint_note=note.encode())

    def verify(self, key: VerifierKey, entry: bytes | None = None) -> Checkpoint:
        """The checkpoint, once it is signed by ``key`` and found to cover the entry.

        Args:
            key: The ledger's key, named as the ledger.
            entry: The leaf data that is expected; the proof's own when None.

        Raises:
            VerificationError: Another entry, another ledger, a bad signature or path.
        """
        leaf_data = self.entry if entry is None else entry
        if leaf_data is None:
            raise VerificationError("proof: it carries no entry and none was given")
        if self.entry is not None and self.entry != leaf_data:
            raise VerificationError("proof: it carries another entry than the one expected")
        checkpoint = verify_checkpoint(self.checkpoint_note, key)
        verify_inclusion(
            leaf=leaf_hash(leaf_data),
            index=self.index,
            size=checkpoint.size,
            path=self.path,
            root=checkpoint.root,
        )
        return checkpoint
