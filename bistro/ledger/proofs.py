"""The texts of proofs and checkpoints, of what we appended ourselves and need not check again.

Source: docs/spec/promises.md; C2SP tlog-proof.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Sequence
from typing import Final

from bistro.crypto.signing import Note, VerifierKey
from bistro.ledger.view import View
from bistro.wire.checkpoint import Checkpoint
from bistro.wire.proof import MAGIC

_HEAD: Final = f"{MAGIC}\nextra ".encode()

spell_hash = b2a_base64
"""A hash of a path as its line."""


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
    """The texts of ``bistro.wire.proof.Proof`` for neighbouring entries under one checkpoint.

    They are spelled when they are wanted, together with what they stand in, because copying a
    text once more costs as much as half of spelling it.

    Args:
        entries: The leaf data.
        start: Index of the first.
        paths: Of each entry the lines of its path, made with ``spell_hash``.
        note: The signed checkpoint.
    """

    __slots__ = ("_entries", "_note", "_paths", "_start")

    def __init__(
        self, entries: Sequence[bytes], start: int, paths: Sequence[bytes], note: bytes
    ) -> None:
        self._entries = entries
        self._start = start
        self._paths = paths
        self._note = note

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
            before: What stands before a text of so many bytes; asked once for each size.
            numbered: If given, this and four hexadecimal digits, which count from 0, stand
                before all that.
        """
        lines = list(map(b2a_base64, self._entries[begin:end]))
        paths = self._paths[begin:end]
        first, last = self._start + begin, self._start + end
        # All but what differs: line, path and the index, whose digits are counted by the run.
        rest = len(_HEAD) + len(b"index \n\n") + len(self._note)
        sizes = [len(line) + len(path) for line, path in zip(lines, paths, strict=True)]
        if len(str(first)) == len(str(last - 1)):
            rest += len(str(first))
        else:
            sizes = [size + len(str(index)) for index, size in enumerate(sizes, first)]
        heads = {size: before(size + rest) + _HEAD for size in set(sizes)}
        columns = zip(map(heads.__getitem__, sizes), lines, range(first, last), paths, strict=True)
        # What all have in common is an argument, too: the pattern itself is copied slowly.
        end_of_all = b"\n" + self._note
        if numbered is None:
            return [
                b"%b%bindex %d\n%b%b" % (head, line, index, path, end_of_all)
                for head, line, index, path in columns
            ]
        return [
            b"%b%04x%b%bindex %d\n%b%b" % (numbered, number, head, line, index, path, end_of_all)
            for number, (head, line, index, path) in enumerate(columns)
        ]


def format_proof(*, entry: bytes, index: int, path: Sequence[bytes], note: bytes) -> bytes:
    """The text of one proof."""
    return ProofTexts([entry], index, [b"".join(map(spell_hash, path))], note)[0]


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
