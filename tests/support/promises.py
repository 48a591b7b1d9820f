"""A ledger in memory, for tests of promises."""

from __future__ import annotations

from dataclasses import dataclass, field

from bistro.crypto.digest import leaf_hash
from bistro.crypto.merkle import consistency_path, inclusion_path, root_of
from bistro.crypto.signing import SigningKey
from bistro.wire.checkpoint import Checkpoint
from bistro.wire.entry import Entry
from bistro.wire.proof import Proof


@dataclass
class MemoryLedger:
    """An append-only log that signs a checkpoint whenever it is asked."""

    key: SigningKey
    entries: list[bytes] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return self.key.verifier.name

    def append(self, entry: Entry | bytes) -> int:
        """The index of the new entry."""
        self.entries.append(entry if isinstance(entry, bytes) else entry.encode())
        return len(self.entries) - 1

    def leaves(self, size: int | None = None) -> list[bytes]:
        return [leaf_hash(entry) for entry in self.entries[:size]]

    def checkpoint_note(self, size: int | None = None) -> bytes:
        """The signed checkpoint of the first ``size`` entries, of all when None."""
        leaves = self.leaves(size)
        checkpoint = Checkpoint(origin=self.origin, size=len(leaves), root=root_of(leaves))
        return checkpoint.signed(self.key.verifier, self.key.sign(checkpoint.text()))

    def prove(self, index: int, size: int | None = None) -> Proof:
        """The proof of entry ``index`` under the checkpoint of the first ``size`` entries."""
        return Proof(
            entry=self.entries[index],
            index=index,
            path=inclusion_path(self.leaves(size), index),
            checkpoint_note=self.checkpoint_note(size),
        )

    def promise(self, entry: Entry) -> str:
        """Append ``entry`` and give the text of its proof."""
        return self.prove(self.append(entry)).format().decode()

    def consistency(self, old_size: int) -> tuple[bytes, ...]:
        """The consistency path from the first ``old_size`` entries to all."""
        return consistency_path(self.leaves(), old_size)
