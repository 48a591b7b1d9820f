"""Which relay gets which fragment: weighted power of two choices under an operator cap.

Two relays are drawn by weight and the cheaper one by probed latency and advertised load wins:
nearly as good as asking all of them, without sending every client to the same best relay. Other
policies stand behind the same interface; docs/experiments/placement.md compares them.
No operator gets more than n - k fragments of an envelope where that can be had, so that no
single operator's loss can make it unrestorable.

Source: docs/spec/staging.md.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bistro.errors import UnavailableError
from bistro.protocol.backoff import Chooser

LOAD_LIMIT = 0.7
"""A relay that advertises this load or more is chosen only where no other is left."""
_BASE_MS = 50.0  # nearer than this hardly matters: a fragment takes seconds, not round trips
_LEAST_FREE = 0.05  # a full relay still moves on


@dataclass(frozen=True, slots=True)
class RelayProbe:
    """What a client knows about a relay before it uploads.

    Attributes:
        name: The relay's name in the terms.
        operator: Who runs it, as the terms say.
        weight: Its share of uploads as the terms say; 0 takes it out.
        latency_ms: Measured now; None if it did not answer.
        load: As it advertises, 0 (idle) to 1 (full).
        free_size: Bytes it advertises as free; None if it does not say.
    """

    name: str
    operator: str
    weight: int = 1
    latency_ms: float | None = 0.0
    load: float = 0.0
    free_size: int | None = None

    @property
    def cost(self) -> float:
        """What two candidates are compared by; lower is better.

        What is left of a relay is shared by who comes next, so time goes with 1 / free.
        """
        free = 1.0 - min(max(self.load, 0.0), 1.0)
        return (_BASE_MS + _latency_ms(self)) / (free + _LEAST_FREE)

    def is_usable(self, fragment_size: int) -> bool:
        """Whether it answered, takes part, and has room."""
        has_room = self.free_size is None or self.free_size >= fragment_size
        return self.latency_ms is not None and self.weight > 0 and has_room


class Policy(Protocol):
    """Chooses among relays that may all be chosen."""

    def choose(self, candidates: Sequence[RelayProbe], chooser: Chooser) -> RelayProbe:
        """One of ``candidates``, of which there is at least one."""
        ...


@dataclass(frozen=True, slots=True)
class TwoChoices:
    """Two are drawn by weight, and the cheaper one wins.

    Attributes:
        load_limit: Relays that advertise at least this load are left out while others are
            there; None leaves out none.
    """

    load_limit: float | None = LOAD_LIMIT

    def choose(self, candidates: Sequence[RelayProbe], chooser: Chooser) -> RelayProbe:
        """The cheaper of two below the limit; of two beyond it, the less loaded."""
        free = _below(self.load_limit, candidates)
        drawn_from = free or candidates
        first = _weighted(drawn_from, chooser)
        rest = [probe for probe in drawn_from if probe is not first]
        if not rest:
            return first
        second = _weighted(rest, chooser)
        return min(first, second, key=(lambda one: one.cost) if free else (lambda one: one.load))


class AnyRelay:
    """One is drawn by weight, wherever it stands and whatever it does."""

    def choose(self, candidates: Sequence[RelayProbe], chooser: Chooser) -> RelayProbe:
        """Any of them."""
        return _weighted(candidates, chooser)


@dataclass(frozen=True, slots=True)
class Nearest:
    """The one with the least latency; chance plays no part.

    Attributes:
        load_limit: Relays that advertise at least this load are left out while others are
            there; None asks for no load.
    """

    load_limit: float | None = None

    def choose(
        self,
        candidates: Sequence[RelayProbe],
        chooser: Chooser,  # noqa: ARG002 - the interface
    ) -> RelayProbe:
        """The nearest of those below the limit; of none below it, the least loaded."""
        free = _below(self.load_limit, candidates)
        if not free:
            return min(candidates, key=lambda probe: probe.load)
        return min(free, key=_latency_ms)


def _below(load_limit: float | None, candidates: Sequence[RelayProbe]) -> Sequence[RelayProbe]:
    if load_limit is None:
        return candidates
    return [probe for probe in candidates if probe.load < load_limit]


def _latency_ms(probe: RelayProbe) -> float:
    return 0.0 if probe.latency_ms is None else probe.latency_ms


@dataclass(frozen=True, slots=True)
class Placement:
    """The rule for the fragments of one envelope.

    Attributes:
        k: Fragments that restore the envelope.
        n: Fragments there are.
        fragment_size: Bytes of one fragment.
        policy: Chooses among the relays that the operator cap leaves.
    """

    k: int
    n: int
    fragment_size: int
    policy: Policy = field(default_factory=TwoChoices)

    @property
    def operator_cap(self) -> int:
        """Fragments one operator may hold where that can be had; with n = k one each."""
        return max(1, self.n - self.k)

    def place(self, probes: Sequence[RelayProbe], chooser: Chooser) -> tuple[RelayProbe, ...]:
        """A relay for every fragment index, 0 to n - 1.

        Raises:
            UnavailableError: No relay is usable.
        """
        placed: list[RelayProbe] = []
        for _ in range(self.n):
            placed.append(self.place_one(probes, chooser, others=placed))
        return tuple(placed)

    def place_one(
        self,
        probes: Sequence[RelayProbe],
        chooser: Chooser,
        *,
        others: Sequence[RelayProbe] = (),
        avoid: Collection[str] = (),
    ) -> RelayProbe:
        """A relay for one fragment, also when an earlier choice has failed.

        Args:
            probes: Every relay of the terms.
            chooser: Where chance comes from.
            others: Where the other fragments of this envelope are or will be.
            avoid: Names of relays that have failed for this fragment: taken only when there
                is no other, since a relay that failed may work again.

        Raises:
            UnavailableError: No relay is usable.
        """
        usable = [probe for probe in probes if probe.is_usable(self.fragment_size)]
        if not usable:
            raise UnavailableError(
                f"relays: none of {len(probes)} can take a fragment of {self.fragment_size} bytes",
                hint="check the network and run `bistro resume` later; the ticket stays valid",
            )
        fresh = [probe for probe in usable if probe.name not in avoid] or usable
        return self.policy.choose(self._least_concentrated(fresh, others), chooser)

    def _least_concentrated(
        self, usable: Sequence[RelayProbe], others: Sequence[RelayProbe]
    ) -> list[RelayProbe]:
        """Those under the operator cap, else of the least used operators; then unused relays."""
        at_operator = {p.operator: sum(o.operator == p.operator for o in others) for p in usable}
        at_relay = {p.name: sum(o.name == p.name for o in others) for p in usable}
        ceiling = max(self.operator_cap - 1, min(at_operator.values()))
        under_cap = [p for p in usable if at_operator[p.operator] <= ceiling]
        least = min(at_relay[p.name] for p in under_cap)
        return [p for p in under_cap if at_relay[p.name] == least]


def _weighted(candidates: Sequence[RelayProbe], chooser: Chooser) -> RelayProbe:
    mark = chooser.random() * sum(probe.weight for probe in candidates)
    for probe in candidates:
        mark -= probe.weight
        if mark < 0:
            return probe
    return candidates[-1]  # reached only by rounding
