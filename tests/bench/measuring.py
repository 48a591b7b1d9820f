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

Group = Literal["ticket", "relay", "client", "collect"]
GROUPS: Final[tuple[Group, ...]] = ("ticket", "relay", "client", "collect")


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
    """

    value: float
    busy: float | None = None


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
class Result:
    """The medians of one measure.

    Attributes:
        busy: Median share in which the core of our server was busy.
        floor_busy: The same of the floor's server.
    """

    measure: Measure
    value: float
    floor: float | None
    busy: float | None = None
    floor_busy: float | None = None
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
        found = (("ours", self.busy, True), ("floor", self.floor_busy, self.floor is not None))
        return tuple(
            f"the {who} server's core was {_percent(busy)} busy, at least 95 % needed"
            for who, busy, is_there in found
            if is_there and (busy is None or busy < BUSY_SHARE)
        )

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


def _percent(share: float | None) -> str:
    return "perhaps not" if share is None else f"{100 * share:.0f} %"


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
        busy=_median_busy(mine),
        floor_busy=_median_busy(others),
        notes=notes,
    )


def _median_busy(samples: Sequence[Sample]) -> float | None:
    known = [sample.busy for sample in samples if sample.busy is not None]
    return median(known) if known else None
