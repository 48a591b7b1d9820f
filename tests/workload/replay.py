"""Stages a window: a real server on its core, the client on the others, the deadline in between.

Source: docs/reference/workload.md.
"""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bistro.api import routes
from bistro.clock import SystemClock
from bistro.crypto.signing import VerifierKey
from bistro.ids import Origin
from bistro.instant import UnixMillis, format_rfc3339
from bistro.wire.served_terms import ServedTerms
from tests.bench import clock_error, proc
from tests.bench.measuring import NotMeasured
from tests.bench.processes import (
    CORES,
    Server,
    free_port,
    pinned,
    program,
    run,
    serving,
)
from tests.bench.workplace import ask, work_folder
from tests.workload.client import DRAIN_S
from tests.workload.filings import filings_of
from tests.workload.judging import Rules, Verdict, judge
from tests.workload.logbook import read_log
from tests.workload.records import Run
from tests.workload.windows import GRACE_S, Outage, Replayed, Window, window_of

CALL: Final = "spring"
ORIGIN: Final = Origin("workload.example", CALL)
_MS_PER_S: Final = 1_000
_LEAD_S: Final = 4.0
_LEAD_FACTOR: Final = 6.0
"""The deadline is fixed before the server runs: by how long its first command took."""
_END_S: Final = 60.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be replayed."""

    profile: Replayed
    seconds: int
    scale: float
    seed: int
    has_reads: bool

    @property
    def window(self) -> Window:
        """The seconds of it."""
        return window_of(self.profile, seconds=self.seconds, scale=self.scale)


@dataclass(slots=True)
class Cost:
    """What the run took of the machine.

    Attributes:
        server_s: CPU seconds of all server processes.
        core: Share of the time in which the server's core was busy, with whomever.
        down: When nobody listened, seconds of the window.
    """

    server_s: float = 0.0
    core: float = 0.0
    down: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """A window as it went."""

    wish: Wish
    window: Window
    rules: Rules
    run: Run
    verdict: Verdict
    cost: Cost
    notes: tuple[str, ...] = field(default=())


@dataclass(slots=True)
class _Stage:
    """The server, which may be killed and started again, and its call."""

    home: Path
    port: int
    environment: dict[str, str]
    stack: contextlib.ExitStack
    starts: int = 0
    cost: Cost = field(default_factory=Cost)

    def command(self, *arguments: str | Path | int) -> None:
        """Run a command of the server's program."""
        run(program("bistro-server", *arguments), environment=self.environment)

    def start(self) -> Server:
        """Start the server; returns when it listens."""
        self.starts += 1
        return self.stack.enter_context(
            serving(
                program("bistro-server", "serve", "--dir", self.home),
                port=self.port,
                log=self.home.with_name(f"server-{self.starts}.log"),
                environment=self.environment,
            )
        )

    def kill(self, server: Server) -> None:
        """``kill -9``; what it cost so far is kept."""
        self.cost.server_s += proc.cpu_s(server.process.pid)
        server.process.kill()
        server.process.wait()


@contextlib.contextmanager
def _staging() -> Iterator[_Stage]:
    with work_folder() as folder, contextlib.ExitStack() as stack:
        environment = clock_error.environment("BISTRO_SERVER")
        yield _Stage(folder / "server", free_port(), environment, stack)


def allow_many_files() -> None:
    """Raise our limit of open files, which servers and clients inherit, as far as we may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def replay(wish: Wish, say: Say) -> Replay:
    """Replay a window.

    Args:
        wish: Which.
        say: Told what happens now.

    Raises:
        NotMeasured: Something did not start, or ended.
        BistroError: The server serves what it should not.
    """
    window, clock = wish.window, SystemClock()
    with _staging() as stage:
        say("preparing the destination")
        began = time.perf_counter()
        stage.command("init", stage.home, "--name", ORIGIN.server, "--port", stage.port)
        lead_s = _LEAD_S + _LEAD_FACTOR * (time.perf_counter() - began)
        begin_at = UnixMillis(clock.now() + round(lead_s * _MS_PER_S))
        closes_at = UnixMillis(begin_at + round(window.closes_s * _MS_PER_S))
        opens_at = UnixMillis(begin_at + round(window.opens_s * _MS_PER_S))
        stage.command(
            *("call", "create", CALL, "--title", f"Workload {wish.profile}", "--dir", stage.home),
            *("--opens", format_rfc3339(opens_at), "--closes", format_rfc3339(closes_at)),
            *("--grace-ms", round(GRACE_S * _MS_PER_S)),
        )
        server = stage.start()
        served = ServedTerms.decode(ask(routes.TERMS.url(server.url, call=CALL)))
        terms = served.signed.terms
        say(f"replaying {window.length_s} s of profile {wish.profile}")
        records = stage.home.with_name("records")
        server = _perform(stage, server, wish, begin_at, terms.hash, records)
        say("reading the log")
        key: VerifierKey = terms.keys.log.renamed(str(ORIGIN))
        entries = read_log(server.url, call=CALL, key=key)
        rules = Rules(begin_at, window.opens_s, UnixMillis(closes_at + terms.grace_ms))
        seen = Run.read(records)
        commitments = [filing.commitment for filing in filings_of(window, wish.seed)]
        say("checking every ticket")
        verdict = judge(
            seen, rules, entries=entries, key=key, origin=ORIGIN, commitments=commitments
        )
        return Replay(wish, window, rules, seen, verdict, stage.cost, clock_error.notes())


def _perform(
    stage: _Stage,
    server: Server,
    wish: Wish,
    begin_at: UnixMillis,
    terms_hash: bytes,
    records: Path,
) -> Server:
    """Let the client run, kill and start the server when it is time; the server that runs then."""
    window, cost = wish.window, stage.cost
    command = [
        *(sys.executable, "-m", "tests.workload.client", wish.profile, str(records)),
        *("--port", str(stage.port), "--call", CALL, "--terms-hash", terms_hash.hex()),
        *("--begin-at", str(begin_at), "--seconds", str(wish.seconds)),
        *("--scale", str(wish.scale), "--seed", str(wish.seed)),
        *(["--reads"] if wish.has_reads else []),
    ]
    if SystemClock().now() > begin_at:
        raise NotMeasured("the window began before the server was ready: this machine is too busy")
    with pinned(CORES.load):
        client = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _sleep_until(begin_at)
        spent, times = proc.cpu_s(server.process.pid), proc.core_times(CORES.server)
        cost.server_s = -spent
        if window.outage is not None:
            server = _outage(stage, server, window.outage, begin_at)
        _, problems = client.communicate(timeout=window.length_s + DRAIN_S + _END_S)
        cost.core = proc.core_times(CORES.server).busy_since(times)
        cost.server_s += proc.cpu_s(server.process.pid)
    except subprocess.TimeoutExpired as exc:
        raise NotMeasured("the client does not end") from exc
    finally:
        client.kill()
        client.wait()
    server.require_alive()
    if client.returncode:
        raise NotMeasured(f"the client failed: {problems.decode(errors='replace')[-600:]}")
    return server


def _outage(stage: _Stage, server: Server, outage: Outage, begin_at: UnixMillis) -> Server:
    _sleep_until(begin_at + round(outage.killed_s * _MS_PER_S))
    stage.kill(server)
    killed_at = SystemClock().now()
    _sleep_until(begin_at + round(outage.started_s * _MS_PER_S))
    server = stage.start()
    listening_at = SystemClock().now()
    down = ((at - begin_at) / _MS_PER_S for at in (killed_at, listening_at))
    stage.cost.down = (next(down), next(down))
    return server


def _sleep_until(at: int) -> None:
    time.sleep(max(0, at - SystemClock().now()) / _MS_PER_S)
