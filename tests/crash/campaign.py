"""Many runs, side by side in processes of their own; the run of a seed is always the same plan."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.runs import RunReport, Wish
from tests.crash.subjects import Findings
from tests.crash.worker import decode_report

_LIMIT = 1 << 24


@dataclass(frozen=True, slots=True)
class Orders:
    """What is wanted.

    Attributes:
        seed: Of the first run; the others have the numbers after it.
        runs: How many at most; ``None``: no limit.
        seconds: Whether a further run is begun is asked until then; ``None``: no limit.
        jobs: How many at the same time.
        subject: A name of ``worker.SUBJECTS``.
        home: Where runs have their folders.
        wish: Which runs.
        sabotage: What is done to the service, or nothing.
    """

    seed: int
    runs: int | None
    seconds: float | None
    jobs: int
    subject: str
    home: Path
    wish: Wish
    sabotage: str = ""


@dataclass
class Result:
    """What all runs have shown.

    Attributes:
        runs: By kind.
        deaths: Lives and power cuts by way to die.
        hits: In how many of them the death struck.
        findings: Counts and faults of all.
        failed: Runs with faults.
        problems: Runs that show nothing, as the campaign failed.
        took_s: Wall time.
    """

    runs: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    findings: Findings = field(default_factory=Findings)
    failed: list[RunReport] = field(default_factory=list)
    problems: list[RunReport] = field(default_factory=list)
    took_s: float = 0.0

    def add(self, report: RunReport) -> None:
        """Take a run in."""
        self.runs[report.kind] += 1
        self.deaths += report.deaths
        # Adding counters would drop what was never hit.
        self.hits.update(report.hits)
        self.findings.add(report.findings)
        if report.findings.faults:
            self.failed.append(report)
        if report.problem:
            self.problems.append(report)


Tell = Callable[[RunReport], None]


async def conduct(orders: Orders, tell: Tell) -> Result:
    """Do all runs; ``tell`` hears of each as it ends. After Ctrl-C none is begun any more."""
    result, began, stop = Result(), time.monotonic(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    seeds = _seeds(orders, began, stop)

    def take(report: RunReport) -> None:
        result.add(report)
        tell(report)

    async with asyncio.TaskGroup() as jobs:
        for number in range(orders.jobs):
            jobs.create_task(_job(orders, number, seeds, take))
    result.took_s = time.monotonic() - began
    return result


def _seeds(orders: Orders, began: float, stop: asyncio.Event) -> Iterator[int]:
    """One for each run that is still wanted when it is asked for."""
    for number in itertools.count():
        is_late = orders.seconds is not None and time.monotonic() - began > orders.seconds
        if stop.is_set() or is_late or number == orders.runs:
            return
        yield orders.seed + number


async def _job(orders: Orders, number: int, seeds: Iterator[int], take: Tell) -> None:
    """A worker process, and another one if it dies, until there are no more seeds."""
    wish = orders.wish
    command = [
        *(sys.executable, "-m", "tests.crash.worker", str(orders.home / f"job-{number}")),
        *(orders.subject, orders.sabotage, str(wish.full_share), wish.mode),
        "keep" if wish.keep else "",
    ]
    for first in seeds:
        worker = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, limit=_LIMIT, start_new_session=True
        )
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            for seed in itertools.chain([first], seeds):
                worker.stdin.write(b"%d\n" % seed)
                line = await worker.stdout.readline()
                if not line:
                    take(RunReport(seed, problem="the worker has died; its trace is above"))
                    break
                take(decode_report(line))
        finally:
            worker.stdin.close()
            with contextlib.suppress(ProcessLookupError):
                await asyncio.wait_for(worker.wait(), 30)
