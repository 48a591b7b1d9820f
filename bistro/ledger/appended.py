"""What appending returns: entries with their places and proofs.

Source: docs/spec/promises.md, rules of a ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bistro.instant import UnixMillis
from bistro.ledger.proofs import ProofTexts
from bistro.ledger.record import time_of


@dataclass(slots=True)
class Appended:
    """An entry's place in a ledger; nobody changes one (a frozen one takes thrice the time).

    Attributes:
        index: Its place, from 0.
        entry: The leaf data.
        proof: The tlog-proof text, entry included.
        is_duplicate: Whether the entry was there before it was asked for.
    """

    index: int
    entry: bytes
    proof: bytes
    is_duplicate: bool = False

    @property
    def time(self) -> UnixMillis:
        """The time that stands in the entry."""
        return time_of(self.entry)


@dataclass(frozen=True, slots=True)
class Stamped:
    """A batch that is durable, in columns.

    Attributes:
        start: Index of the first entry.
        entries: The leaf data.
        proofs: The tlog-proof text of each, not spelled yet.
    """

    start: int
    entries: Sequence[bytes]
    proofs: ProofTexts

    def __getitem__(self, at: int) -> Appended:
        """One of them."""
        return Appended(self.start + at, self.entries[at], self.proofs[at])
