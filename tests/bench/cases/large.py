"""``ticket.large.*``: a log of ten million tickets beside one of a thousand.

The large log is built once, which takes minutes, and kept in the temporary directory until the
code that writes ledgers changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import bistro.ledger
from bistro.api import routes
from tests.bench import clock_error, proc
from tests.bench.desk import CALL, Desk, make_home, serving_home
from tests.bench.loads import Load
from tests.bench.loads.tickets import TicketLoad
from tests.bench.measuring import Case, Contest, Measure, NotMeasured, Sample, Samples
from tests.bench.processes import CORES, free_port, metering, python, rate_and_cpu, run
from tests.bench.workplace import ask, root, work_folder

ENTRIES: Final = 10_000_000
FEW_ENTRIES: Final = 1_000
CONNECTIONS: Final = 64
SECONDS: Final = 3.0
MEMORY_LIMIT_MB: Final = 300.0
RESTART_LIMIT_S: Final = 10.0
MORE_COST: Final = 1.15
"""How much more a ticket may cost."""
_BUILD_S: Final = 3_600.0
_MB: Final = 1_000_000
_WARM_UP_S: Final = 1.0


def kept_home(entries: int) -> Path:
    """Where the folder with the large log is kept; another one for every way to write ledgers."""
    digest = hashlib.sha256()
    for source in sorted(Path(bistro.ledger.__path__[0]).glob("*.py")):
        digest.update(source.read_bytes())
    return root() / f"bistro-bench-log-{entries}-{digest.hexdigest()[:12]}"


def build(home: Path, entries: int) -> None:
    """A folder with a call whose log has so many entries; all of it, or none."""
    partial = home.with_name(home.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    make_home(partial, port=free_port(), closes="+3650d")
    cores = CORES.server | CORES.load
    output = run(python("filling", partial, CALL, entries), cores=cores, timeout_s=_BUILD_S)
    if int(output) != entries:
        raise NotMeasured(f"the log was to have {entries} entries, it has {output}")
    partial.rename(home)


def evict(folder: Path) -> None:
    """Let the system forget what it holds of a folder's files: the next start reads the disk."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


@dataclass(slots=True)
class Site:
    """A server that can be killed and started again."""

    home: Path
    logs: Path
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    starts: int = 0

    def start(self) -> Desk:
        """Start it; returns when it is ready."""
        self.starts += 1
        log = self.logs / f"{self.home.name}-{self.starts}.log"
        desk = self.stack.enter_context(serving_home(self.home, port=free_port(), log=log))
        ask(desk.server.url + routes.READINESS.path())
        return desk

    def restart(self, desk: Desk) -> tuple[Desk, float]:
        """Kill it, forget its files, start it; the seconds until it is ready."""
        desk.server.process.kill()
        desk.server.process.wait()
        self.stack.close()
        evict(self.home)
        began = time.perf_counter()
        return self.start(), time.perf_counter() - began


def _cost(desk: Desk, folder: Path, seconds: float) -> float:
    """CPU microseconds of a ticket."""
    load = TicketLoad(desk.path, desk.terms_hash, CONNECTIONS, seconds, folder)
    loads: list[Load] = []
    with desk.counting(loads), metering(desk.server) as meter:
        loads.append(load.send(desk.server.port))
    return rate_and_cpu("ticket", loads[0], meter)["ticket.cpu"].value


@contextlib.contextmanager
def _open() -> Iterator[Contest]:
    kept = kept_home(ENTRIES)
    if not kept.exists():
        build(kept, ENTRIES)
    with work_folder() as folder:
        build(folder / "few", FEW_ENTRIES)
        small, large = Site(folder / "few", folder), Site(kept, folder)
        with small.stack, large.stack:
            few, many = small.start(), large.start()
            for desk in (few, many):
                _cost(desk, folder, _WARM_UP_S)

            def floor_round() -> Samples:
                return {
                    "ticket.large.cpu": Sample(_cost(few, folder, SECONDS)),
                    "ticket.large.memory": Sample(MEMORY_LIMIT_MB),
                    "ticket.large.restart": Sample(RESTART_LIMIT_S),
                }

            def our_round() -> Samples:
                nonlocal many
                cost = _cost(many, folder, SECONDS)
                memory = proc.peak_bytes(many.server.process.pid) / _MB
                many, restart_s = large.restart(many)
                return {
                    "ticket.large.cpu": Sample(cost),
                    "ticket.large.memory": Sample(memory),
                    "ticket.large.restart": Sample(restart_s),
                }

            notes = (f"ticket.large.*: the log is kept in {kept}", *clock_error.notes())
            yield Contest(our_round, floor_round, notes)


CASES: Final = (
    Case(
        "large",
        (
            Measure(
                "ticket.large.cpu", "us/ticket", goal=round(1 / MORE_COST, 2), is_more_better=False
            ),
            Measure("ticket.large.memory", "MB", goal=1.0, is_more_better=False),
            Measure("ticket.large.restart", "s", goal=1.0, is_more_better=False),
        ),
        _open,
    ),
)
