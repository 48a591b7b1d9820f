"""What is measured, how floor and ours take turns, and what their medians say.

Pure but for the rounds it calls: nothing here knows how a number comes about.

Source: docs/reference/benchmarks.md, method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import median
from typing import Final, Literal

BUSY_SHARE: Final = 0.95
"""A rate says what a server can do only if its core had nothing left to give."""
FOREIGN_SHARE: Final = 0.15
"""More of the core than the kernel's own work for the server's disk takes: somebody else's."""

Group = Literal["ticket", "large", "relay", "client", "collect"]
GROUPS: Final[tuple[Group, ...]] = ("ticket", "large", "relay", "client", "collect")


class NotMeasured(Exception):  # noqa: N818 - what it means for the table
    """A case could not be measured; the message says why."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One number that a case yields.

    Attributes:
        name: Begins with the case's group.
        unit: Of value and floor.
        is_more_better: Whether a larger value is the better one: true of rates, not of costs.
        goal: What the ratio must reach; ``None`` where nothing is required.
        needs_busy_core: Whether it counts only if the server's core was busy.
    """

    name: str
    unit: str
    is_more_better: bool = True
    goal: float | None = None
    needs_busy_core: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of one round.

    Attributes:
        busy: Share of the time in which the server's core was busy; ``None``: not looked at.
        own: Share of the core that the server's processes had.
        is_scaled: Whether ``value`` is what a core would give that is busy with nothing else:
            for floors whose client was at its limit first.
    """

    value: float
    busy: float | None = None
    own: float | None = None
    is_scaled: bool = False


Samples = Mapping[str, Sample]
"""The samples of one round, by the name of their measure."""
Round = Callable[[], Samples]


@dataclass(frozen=True, slots=True)
class Contest:
    """Floor and ours, ready to take turns.

    Attributes:
        floor: ``None`` where there is nothing to compare with on this machine.
        notes: What a reader must know about this run.
    """

    ours: Round
    floor: Round | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """Measures that come from the same rounds.

    Attributes:
        open: Sets everything up for as long as the block lasts; may raise ``NotMeasured``.
    """

    group: Group
    measures: tuple[Measure, ...]
    open: Callable[[], AbstractContextManager[Contest]]


@dataclass(frozen=True, slots=True)
class Core:
    """What was seen of a server's core while it was loaded; see ``Sample``."""

    busy: float | None = None
    own: float | None = None
    is_scaled: bool = False

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Core:
        """The medians over rounds."""
        return cls(
            busy=_median([sample.busy for sample in samples]),
            own=_median([sample.own for sample in samples]),
            is_scaled=any(sample.is_scaled for sample in samples),
        )

    @property
    def doubt(self) -> str | None:
        """Why a rate does not count that a server reached on this core; ``None`` if it does."""
        if self.is_scaled:
            return None
        if self.busy is None or self.busy < BUSY_SHARE:
            found = "not looked at" if self.busy is None else f"{percent(self.busy)} busy"
            return f"its core was {found}, needs {100 * BUSY_SHARE:.0f}"
        if self.own is None or self.own < self.busy - FOREIGN_SHARE:
            found = "" if self.own is None else f", the server had {percent(self.own)}"
            return f"somebody else worked on its core{found}"
        return None


def _median(found: Sequence[float | None]) -> float | None:
    known = [one for one in found if one is not None]
    return median(known) if known else None


def percent(share: float) -> str:
    """A share with the digit that decides: 94.9 % is not 95 %."""
    return f"{100 * share:.1f} %"


@dataclass(frozen=True, slots=True)
class Result:
    """The medians of one measure.

    Attributes:
        core: What was seen of the core of our server, medians.
        floor_core: The same of the floor's server.
    """

    measure: Measure
    value: float
    floor: float | None
    core: Core = field(default_factory=Core)
    floor_core: Core = field(default_factory=Core)
    notes: tuple[str, ...] = field(default=())

    @property
    def ratio(self) -> float | None:
        """Ours against the floor, so that more is better; ``None`` without a floor."""
        if self.floor is None or not self.floor or not self.value:
            return None
        is_more_better = self.measure.is_more_better
        return self.value / self.floor if is_more_better else self.floor / self.value

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why this number does not count, in plain words; empty if it does."""
        if not self.measure.needs_busy_core:
            return ()
        cores = {"ours": self.core} | ({} if self.floor is None else {"floor": self.floor_core})
        return tuple(f"{who}: {core.doubt}" for who, core in cores.items() if core.doubt)

    @property
    def is_reached(self) -> bool | None:
        """Whether the goal is reached by a number that counts; ``None`` without a goal."""
        if self.measure.goal is None:
            return None
        return not self.doubts and self.ratio is not None and self.ratio >= self.measure.goal

    def row(self) -> dict[str, str | float | None]:
        """The row of ``bench.json``."""
        return {
            "name": self.measure.name,
            "value": _rounded(self.value),
            "unit": self.measure.unit,
            "floor": _rounded(self.floor),
            "ratio": _rounded(self.ratio),
            "goal": self.measure.goal,
        }


def _rounded(number: float | None) -> float | None:
    """Five digits: more would be noise."""
    return None if number is None else float(f"{number:.5g}")


def compare(case: Case, *, rounds: int, tick: Callable[[], None] = lambda: None) -> list[Result]:
    """Let floor and ours take turns, the floor first, and take medians.

    Args:
        case: What is measured.
        rounds: Turns of each.
        tick: Called after every turn, for a progress bar.

    Raises:
        NotMeasured: By the case.
    """
    ours: list[Samples] = []
    floor: list[Samples] = []
    with case.open() as contest:
        for _ in range(rounds):
            if contest.floor is not None:
                floor.append(contest.floor())
                tick()
            ours.append(contest.ours())
            tick()
        return [_result(measure, ours, floor, contest.notes) for measure in case.measures]


def _result(
    measure: Measure, ours: Sequence[Samples], floor: Sequence[Samples], notes: tuple[str, ...]
) -> Result:
    mine = [samples[measure.name] for samples in ours]
    others = [samples[measure.name] for samples in floor if measure.name in samples]
    return Result(
        measure=measure,
        value=median(sample.value for sample in mine),
        floor=median(sample.value for sample in others) if others else None,
        core=Core.of(mine),
        floor_core=Core.of(others),
        notes=notes,
    )
