"""Rounds of a scene: what the clients found, and what else had the server's core meanwhile.

A server that sleeps between requests waits for its core each time it wakes up, where others have
it; one that is busy keeps it. So on a machine with other work the undisturbed round can be the
slower one, and says nothing. What the kernel counts tells it: how long the server's threads were
ready and did not run, and which part of its core somebody else had.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import click

from tests.bench.processes import CORES, Server, pinned
from tests.fairness.load import GOOD, Found, Plan

MAX_OTHERS: Final = 0.1
"""The part of the server's core that others may have in a round that counts."""

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_BUSY: Final = (0, 1, 2, 5, 6, 7)
"""In a line of /proc/stat: user, nice, system, interrupts, soft ones, stolen."""


@dataclass(frozen=True)
class Seen:
    """What the kernel has counted so far, seconds.

    Attributes:
        at: When.
        core: For which the server's core was busy.
        server: For which the server ran.
        waited: For which its threads were ready and did not run, all together.
    """

    at: float
    core: float
    server: float
    waited: float

    @classmethod
    def now(cls, server: Server) -> Seen:
        """Look."""
        core = 0.0
        for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
            name, *counts = line.split()
            if name in {f"cpu{number}" for number in CORES.server}:
                core += sum(int(counts[at]) for at in _BUSY) * _TICK_S
        tasks = [
            (task / "schedstat").read_text(encoding="ascii").split()
            for task in Path(f"/proc/{server.process.pid}/task").iterdir()
        ]
        ran, waited = (sum(int(task[at]) for task in tasks) / 1e9 for at in (0, 1))
        return cls(time.monotonic(), core, ran, waited)


@dataclass(frozen=True)
class Round:
    """What one round came to.

    Attributes:
        found: What those who are watched found.
        disturbers: What those found who disturbed.
        others: Part of the server's core that somebody else had.
        waited: Seconds in each second for which the server's threads waited for it.
    """

    found: Found
    disturbers: tuple[Found, ...]
    others: float
    waited: float

    def percentile(self, share: float) -> float:
        """Of the times to a ticket, milliseconds."""
        return sorted(self.found.took_ms)[int(share * (len(self.found.took_ms) - 1))]


@dataclass
class Tally:
    """Several rounds of the same."""

    rounds: list[Round] = field(default_factory=list)

    def spread(self, share: float) -> tuple[float, float, float]:
        """Least, median and largest of a percentile over the rounds, milliseconds."""
        found = [one.percentile(share) for one in self.rounds]
        return min(found), statistics.median(found), max(found)

    @property
    def counts(self) -> Counter[str]:
        """Answers to those who are watched, by what they were."""
        return count_answers([one.found for one in self.rounds])

    @property
    def disturbers(self) -> Counter[str]:
        """Answers to those who disturbed."""
        return count_answers([found for one in self.rounds for found in one.disturbers])

    @property
    def late_ms(self) -> float:
        """By how much the generator was late at most."""
        return max(one.found.late_ms for one in self.rounds)


def count_answers(all_found: list[Found]) -> Counter[str]:
    """Answers by what they were."""
    counts: Counter[str] = Counter()
    for one in all_found:
        counts["asked"] += one.asked
        counts["tickets"] += len(one.took_ms)
        for status, count in one.by_status.items():
            if int(status) != GOOD:  # a key of JSON is text
                counts[f"HTTP {status}"] += count
        counts.update(one.by_code)
        counts["lost"] += one.asked - sum(one.by_status.values())
    return +counts


class Client:
    """A generator process, connected and waiting for its beginning."""

    def __init__(self, plan: Plan, file: Path) -> None:
        file.write_text(plan.encode(), encoding="utf-8")
        with pinned(CORES.load):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fairness.load", str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )

    def await_connected(self) -> None:
        """Return when it may begin."""
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "connected\n":
            raise click.ClickException("a generator could not connect")

    def begin(self) -> None:
        """Let it begin."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def found(self) -> Found:
        """What it found, at its end."""
        out, _ = self._process.communicate()
        return Found(**json.loads(out))


def measure(
    server: Server, watched: Plan, disturbing: tuple[Plan, ...], folder: Path, seed: int
) -> Round:
    """One round; ``disturbing`` may be nobody."""
    clients = [
        Client(replace(plan, seed=seed + at, is_watched=not at), folder / f"plan-{at}.json")
        for at, plan in enumerate((watched, *disturbing))
    ]
    for client in clients:
        client.await_connected()
    before = Seen.now(server)
    for client in clients:
        client.begin()
    mine, *others = [client.found() for client in clients]
    server.require_alive()
    after = Seen.now(server)
    took = after.at - before.at
    elsewhere = (after.core - before.core) - (after.server - before.server)
    return Round(
        mine,
        tuple(others),
        others=max(elsewhere, 0.0) / took,
        waited=(after.waited - before.waited) / took,
    )
