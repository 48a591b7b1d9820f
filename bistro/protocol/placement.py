"""Which relay gets which fragment: weighted power of two choices under an operator cap.

Two relays are drawn by weight and the cheaper one by probed latency and advertised load wins:
nearly as good as asking all of them, without sending every client to the same best relay. Other
policies stand behind the same interface; docs/experiments/placement.md compares them.
No operator gets more than n - k fragments of an envelope, so that no single operator's loss
can make it unrestorable: a fragment rather waits. Only where a call names too few operators to
hold all n so, they share them evenly.

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

    def operator_cap(self, probes: Sequence[RelayProbe]) -> int:
        """Fragments that one operator may hold.

        Args:
            probes: Every relay of the terms, also those that cannot be used now.
        """
        operator_count = len({probe.operator for probe in probes if probe.weight > 0})
        even_share = -(-self.n // max(1, operator_count))
        return max(self.n - self.k, even_share, 1)

    def place(self, probes: Sequence[RelayProbe], chooser: Chooser) -> tuple[RelayProbe, ...]:
        """A relay for every fragment index, 0 to n - 1.

        Raises:
            UnavailableError: No relay is usable, or not enough under the operator cap.
        """
        placed: list[RelayProbe] = []
        for _ in range(self.n):
            placed.append(self.place_one(probes, chooser, others=placed))
        return tuple(placed)

    def place_one(  # noqa: PLR0913 - what is known of relays, each by name
        self,
        probes: Sequence[RelayProbe],
        chooser: Chooser,
        *,
        others: Sequence[RelayProbe] = (),
        avoid: Collection[str] = (),
        without: Collection[str] = (),
        advised: Collection[str] = (),
        may_exceed: bool = False,
    ) -> RelayProbe:
        """A relay for one fragment, also when an earlier choice has failed.

        Args:
            probes: Every relay of the terms.
            chooser: Where chance comes from.
            others: Where the other fragments of this envelope are or will be.
            avoid: Names of relays that have failed for this fragment: taken only when there
                is no other, since a relay that failed may work again.
            without: Names of relays that are not asked now at all.
            advised: Names of relays that somebody recommends: taken first, where the rules
                leave any of them.
            may_exceed: Take the least used operator where all are at the cap.

        Raises:
            UnavailableError: No relay is usable, or only such as are run by operators at the
                cap.
        """
        found = self.allowed(probes, others=others, without=without, may_exceed=may_exceed)
        if not found:
            raise UnavailableError(
                f"relays: none of {len(probes)} can take a fragment of {self.fragment_size} bytes "
                f"without one operator holding more than {self.operator_cap(probes)}",
                hint="check the network and run `bistro resume` later; the ticket stays valid",
            )
        fresh = [probe for probe in found if probe.name not in avoid] or found
        at_relay = {p.name: sum(o.name == p.name for o in others) for p in fresh}
        least = min(at_relay.values())
        left = [probe for probe in fresh if at_relay[probe.name] == least]
        first = [probe for probe in left if probe.name in advised]
        return self.policy.choose(first or left, chooser)

    def allowed(
        self,
        probes: Sequence[RelayProbe],
        *,
        others: Sequence[RelayProbe] = (),
        without: Collection[str] = (),
        may_exceed: bool = False,
    ) -> list[RelayProbe]:
        """The relays that a fragment may go to now; arguments as for ``place_one``."""
        cap = self.operator_cap(probes)
        usable = [
            probe
            for probe in probes
            if probe.is_usable(self.fragment_size) and probe.name not in without
        ]
        at_operator = {p.operator: sum(o.operator == p.operator for o in others) for p in usable}
        under_cap = [probe for probe in usable if at_operator[probe.operator] < cap]
        if under_cap or not may_exceed:
            return under_cap
        least = min(at_operator.values(), default=0)
        return [probe for probe in usable if at_operator[probe.operator] == least]


def _weighted(candidates: Sequence[RelayProbe], chooser: Chooser) -> RelayProbe:
    mark = chooser.random() * sum(probe.weight for probe in candidates)
    for probe in candidates:
        mark -= probe.weight
        if mark < 0:
            return probe
    return candidates[-1]  # reached only by rounding
