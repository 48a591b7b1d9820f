"""What the destination still needs of one submission, where it is, and when it is done.

| state | event | next |
|---|---|---|
| pending | ``offer``, ``lose``, ``distrust`` | pending |
| pending | ``verify`` of the k-th index | restorable |
| restorable | ``restored`` | collected |
| restorable | ``found_inconsistent`` | void |
| any | ``offer`` | the same; a late fragment is only there to be released |

Wrong bytes count as lost: that relay is not asked for that fragment again, and the pair stays
on record as proof. Every event may be repeated and may come in any order with others, so that
a crash continues or repeats and nothing is delivered twice.

Source: docs/spec/collection.md.
"""

from __future__ import annotations

from collections.abc import Collection as Group
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from bistro.errors import ConflictError, FormatError
from bistro.instant import UnixMillis


class CollectionState(StrEnum):
    """Where a collection stands; the texts are what the destination stores."""

    PENDING = "pending"
    RESTORABLE = "restorable"
    COLLECTED = "collected"
    VOID = "void"


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
        holds: Until when each relay that announced a fragment promised to hold it.
        verified: Indexes whose bytes are durable here and match their descriptors.
        lost: Sources that hold no (or no right) bytes, as far as known.
        wrong: Those of the lost that gave wrong bytes: proof against the relay.
        state: See the table above.
    """

    k: int
    n: int
    holds: Mapping[Source, UnixMillis]
    verified: frozenset[int] = frozenset()
    lost: frozenset[Source] = frozenset()
    wrong: frozenset[Source] = frozenset()
    state: CollectionState = CollectionState.PENDING

    @classmethod
    def begin(cls, *, k: int, n: int) -> Collection:
        """A submission of which nothing is known but how it was cut."""
        return cls(k=k, n=n, holds={})

    def offer(self, source: Source, hold_until: UnixMillis) -> Collection:
        """A relay announced a fragment; a fresh announcement makes a lost source good again.

        Bytes that were wrong once stay wrong: such a source is not asked again.

        Raises:
            FormatError: There is no such index.
        """
        if not 0 <= source.index < self.n:
            raise FormatError(f"fragment: expected an index below {self.n}, found {source.index}")
        until = max(hold_until, self.holds.get(source, hold_until))
        lost = self.lost if source in self.wrong else self.lost - {source}
        return replace(self, holds={**self.holds, source: until}, lost=lost)

    def verify(self, index: int) -> Collection:
        """The right bytes of fragment ``index`` are durable here.

        Raises:
            FormatError: There is no such index.
        """
        if not 0 <= index < self.n:
            raise FormatError(f"fragment: expected an index below {self.n}, found {index}")
        verified = self.verified | {index}
        is_ready = self.state is CollectionState.PENDING and len(verified) >= self.k
        state = CollectionState.RESTORABLE if is_ready else self.state
        return replace(self, verified=verified, state=state)

    def lose(self, source: Source) -> Collection:
        """The relay does not hold this fragment any more."""
        return replace(self, lost=self.lost | {source})

    def distrust(self, source: Source) -> Collection:
        """The relay gave bytes that do not match the descriptor."""
        return replace(self, lost=self.lost | {source}, wrong=self.wrong | {source})

    def restored(self) -> Collection:
        """The envelope is durable here and all n fragments of it lead to the commitment."""
        return self._conclude(CollectionState.COLLECTED)

    def found_inconsistent(self) -> Collection:
        """The restored envelope leads to another commitment: void, whichever k were used."""
        return self._conclude(CollectionState.VOID)

    @property
    def is_concluded(self) -> bool:
        """Whether nothing more is fetched."""
        return self.state in {CollectionState.COLLECTED, CollectionState.VOID}

    @property
    def staged_indexes(self) -> frozenset[int]:
        """Indexes that some relay announced, whether or not it still has them."""
        return frozenset(source.index for source in self.holds)

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
        is_pending = self.state is CollectionState.PENDING
        return self.k - len(self.verified) if is_pending else 0

    def repairs(self) -> tuple[int, ...]:
        """Indexes to ask the filer for again: all that are gone, if fewer than k can be had."""
        if self.state is not CollectionState.PENDING:
            return ()
        reachable = self.verified | {source.index for source in self._good()}
        if len(reachable) >= self.k:
            return ()
        return tuple(index for index in range(self.n) if index not in reachable)

    def releasable(self) -> tuple[Source, ...]:
        """What may be released: every known source, once nothing more is fetched.

        Sources of wrong bytes are among them: the proof is kept here, not there.
        """
        return tuple(sorted(self.holds)) if self.is_concluded else ()

    def _good(self) -> list[Source]:
        return [
            source
            for source in self.holds
            if source not in self.lost and source.index not in self.verified
        ]

    def _conclude(self, state: CollectionState) -> Collection:
        if self.state is state:
            return self
        if self.state is not CollectionState.RESTORABLE:
            raise ConflictError(f"collection: expected to be restorable, found {self.state}")
        return replace(self, state=state)
