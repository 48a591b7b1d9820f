"""The texts of proofs and checkpoints, of what we appended ourselves and need not check again.

Source: docs/spec/promises.md; C2SP tlog-proof.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Sequence
from typing import Final

from bistro.crypto.bulk import proof_texts
from bistro.crypto.signing import Note, VerifierKey
from bistro.ledger.view import View
from bistro.wire.checkpoint import Checkpoint
from bistro.wire.proof import MAGIC

_HEAD: Final = f"{MAGIC}\nextra ".encode()


class CheckpointSpeller:
    """Spells the signed checkpoints of one ledger.

    Args:
        key: What signs them; its name is the ledger's origin.
    """

    def __init__(self, key: VerifierKey) -> None:
        self._origin = key.name.encode()
        self._line = f"\n\N{EM DASH} {key.name} ".encode()
        self._key_id = key.key_id

    def text(self, size: int, root: bytes) -> bytes:
        """As ``bistro.wire.checkpoint.Checkpoint.text``."""
        return b"%b\n%d\n%b" % (self._origin, size, b2a_base64(root))

    def signed(self, text: bytes, signature: bytes) -> bytes:
        """The signed note of a text, as ``Checkpoint.signed``."""
        return text + self._line + b2a_base64(self._key_id + signature)


class ProofTexts:
    """The texts of ``bistro.wire.proof.Proof`` for a batch, under one checkpoint.

    They are spelled when they are wanted, together with what they stand in, because copying a
    text once more costs as much as half of spelling it.

    Args:
        entries: The leaf data.
        start: Index of the first.
        levels: Of the tree with the batch, as ``bistro.crypto.merkle.BatchTree`` has them.
        note: The signed checkpoint.
    """

    __slots__ = ("_entries", "_levels", "_start", "_tail")

    def __init__(
        self,
        entries: list[bytes],
        start: int,
        levels: list[tuple[int, list[bytes]]],
        note: bytes,
    ) -> None:
        self._entries = entries
        self._start = start
        self._levels = levels
        self._tail = b"\n" + note

    def __getitem__(self, at: int) -> bytes:
        """One of them."""
        return self.spell(at, at + 1, lambda _: b"")[0]

    def spell(
        self,
        begin: int,
        end: int,
        before: Callable[[int], bytes],
        *,
        numbered: bytes | None = None,
    ) -> list[bytes]:
        """The texts of some of them, each behind something else.

        Args:
            begin: The first one.
            end: Behind the last one.
            before: What stands before a text of so many bytes; asked once for each of few sizes.
            numbered: If given, this and four hexadecimal digits, which count from 0, stand
                before all that.
        """
        return proof_texts(
            self._levels,
            self._entries,
            self._start,
            begin,
            end,
            _HEAD,
            self._tail,
            before,
            numbered,
        )


def format_proof(*, entry: bytes, index: int, path: Sequence[bytes], note: bytes) -> bytes:
    """The text of one proof."""
    lines = b"".join(map(b2a_base64, path))
    return b"%b%bindex %d\n%b\n%b" % (_HEAD, b2a_base64(entry), index, lines, note)


def prove_entry(view: View, index: int, note: bytes | None = None) -> tuple[bytes, bytes]:
    """An entry and the text of its proof; blocks.

    Args:
        view: Of the ledger.
        index: Of the entry.
        note: A signed checkpoint of the ledger that covers it; the newest if not given.

    Raises:
        UnknownObjectError: There is no such entry, or no such checkpoint.
        StorageError: A file is missing or damaged, or the disk failed.
    """
    size = view.size if note is None else Checkpoint.parse(Note.parse(note).text).size
    path, entry = view.inclusion_path(index, size), view.entry(index)
    note = view.note if note is None else note
    assert note is not None  # noqa: S101 - there is an entry, so there is a checkpoint
    return entry, format_proof(entry=entry, index=index, path=path, note=note)
