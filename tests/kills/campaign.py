"""Many runs at one destination after another; each destination is audited when its runs end."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.crash.victims import Warm
from tests.kills.auditing import Audit, audit
from tests.kills.runs import Report, run
from tests.support.town import Town, running_town

MODULES: Final = (
    "bistro_client.cli.submit",
    "bistro_client.cli.resume",
    "tests.kills.lives",
)
"""What a warm process imports: forks of it are the clients."""
_UNTESTED: Final = (AssertionError, OSError, subprocess.SubprocessError)
_TRIES: Final = 4


@dataclass(frozen=True, slots=True)
class Orders:
    """What is wanted.

    Attributes:
        seed: Of the first run; the others have the numbers after it.
        runs: How many.
        per_town: How many at one destination.
        jobs: How many at the same time.
        home: Where runs have their folders.
        sabotage: ``forget``: after a kill the filer's journals are deleted.
        minutes: After these no run is begun; 0: as long as it takes.
    """

    seed: int
    runs: int
    per_town: int
    jobs: int
    home: Path
    sabotage: str = ""
    minutes: float = 0.0


@dataclass
class Result:
    """What all runs have shown; attributes as in ``Report`` and ``Audit``."""

    run_count: int = 0
    deaths: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    took_s: float = 0.0

    def add(self, report: Report) -> None:
        """Take a run in."""
        self.run_count += 1
        self.deaths += report.deaths
        self.hits.update(report.hits)
        self.states += report.states
        self.faults += [f"seed {report.seed}: {fault}" for fault in report.faults]
        if report.problem:
            self.problems.append(f"seed {report.seed}: {report.problem}")

    def add_audit(self, found: Audit) -> None:
        """Take in what a destination holds."""
        self.checked += found.counts
        self.faults += found.faults


async def conduct(orders: Orders, tell: Callable[[Report], None]) -> Result:
    """Do all runs; ``tell`` hears of each as it ends."""
    result, began = Result(), time.monotonic()
    # One each: two jobs that share one may be told of each other's processes.
    warm = [await Warm.start(MODULES) for _ in range(orders.jobs)]
    try:
        for first in range(0, orders.runs, orders.per_town):
            count = min(orders.per_town, orders.runs - first)
            if _is_over(orders, began):
                break
            seeds = _drawn(orders, range(orders.seed + first, orders.seed + first + count), began)
            await _in_one_town(orders, seeds, warm, result, tell)
    finally:
        for one in warm:
            await one.close()
    result.took_s = time.monotonic() - began
    return result


def _is_over(orders: Orders, began: float) -> bool:
    return 0 < orders.minutes * 60 < time.monotonic() - began


def _drawn(orders: Orders, seeds: range, began: float) -> Iterator[int]:
    """The seeds of one destination, for as long as there is time."""
    for seed in seeds:
        if _is_over(orders, began):
            return
        yield seed


async def _in_one_town(
    orders: Orders,
    seeds: Iterator[int],
    warm: Sequence[Warm],
    result: Result,
    tell: Callable[[Report], None],
) -> None:
    reports: list[Report] = []

    async def job(town: Town, own: Warm) -> None:
        for seed in seeds:
            report = await run(seed, town, own, orders.home, sabotage=orders.sabotage)
            reports.append(report)
            result.add(report)
            tell(report)

    with contextlib.ExitStack() as stack:
        town = await asyncio.to_thread(_begin, orders.home / f"town-{result.run_count}", stack)
        async with asyncio.TaskGroup() as group:
            for own in warm:
                group.create_task(job(town, own))
        if any(report.problem for report in reports):
            # How far such a run has come is not known, and so not what must be there.
            result.problems.append(f"{town.root.name}: not audited")
            return
        try:
            result.add_audit(await asyncio.to_thread(audit, town, reports))
        except _UNTESTED as exc:
            result.problems.append(f"{town.root.name}: the audit says nothing: {exc}")


def _begin(root: Path, stack: contextlib.ExitStack) -> Town:
    """A town that runs; a machine that stands still for a minute may need another try."""
    for attempt in range(_TRIES):
        place = root.with_name(f"{root.name}.{attempt}")
        place.mkdir(parents=True)
        try:
            return stack.enter_context(running_town(place))
        except _UNTESTED:
            if attempt + 1 == _TRIES:
                raise
    raise AssertionError
