"""Which fragments of one submission the destination still needs, and of whom it asks them.

Any k of n restore an envelope. A fragment may lie at several relays, and a relay may have lost
one or given wrong bytes: then it is not asked for that one again. What was announced, found and
concluded stands in the destination's database; here it is only judged.

Source: docs/spec/collection.md.
"""

from __future__ import annotations

from collections.abc import Collection as Group
from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """One fragment at one relay."""

    index: int
    relay: str


@dataclass(frozen=True, slots=True)
class Collection:
    """One submission on its way in.

    Attributes:
        k: Fragments that restore the envelope.
        n: Fragments there are.
        sources: What relays announced.
        verified: Indexes whose bytes are durable here and match their descriptors.
        lost: Sources that hold no (or no right) bytes, as far as known.
    """

    k: int
    n: int
    sources: frozenset[Source]
    verified: frozenset[int] = frozenset()
    lost: frozenset[Source] = frozenset()

    def lose(self, *sources: Source) -> Collection:
        """Take these for lost as well."""
        return replace(self, lost=self.lost.union(sources))

    def wanted(
        self, *, backlog: Mapping[str, int] | None = None, down: Group[str] = ()
    ) -> tuple[Source, ...]:
        """What to fetch now: as many fragments as are missing to k, each from one relay.

        Args:
            backlog: Bytes already asked of each relay; less is preferred.
            down: Relays that do not answer just now: they are passed over, not given up.

        Returns:
            Sources in index order; relays with less backlog first, then data fragments, since
            they restore without computing. Fewer than are missing if no more can be had.
        """
        waiting = backlog or {}
        best: dict[int, Source] = {}
        for source in sorted(self._good(), key=lambda s: (waiting.get(s.relay, 0), s)):
            if source.relay not in down and source.index not in best:
                best[source.index] = source
        ranked = sorted(best.values(), key=lambda s: (waiting.get(s.relay, 0), s.index))
        return tuple(sorted(ranked[: self.missing_count]))

    @property
    def missing_count(self) -> int:
        """How many more verified indexes make it restorable; 0 once they are there."""
        return max(self.k - len(self.verified), 0)

    def repairs(self) -> tuple[int, ...]:
        """Indexes to ask the filer for again: all that are gone, if fewer than k can be had."""
        reachable = self.verified | {source.index for source in self._good()}
        if len(reachable) >= self.k:
            return ()
        return tuple(index for index in range(self.n) if index not in reachable)

    def _good(self) -> list[Source]:
        return [
            source
            for source in self.sources
            if source not in self.lost and source.index not in self.verified
        ]
