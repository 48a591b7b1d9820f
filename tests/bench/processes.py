"""Starts the processes that are measured or that measure, each on its own cores.

Only processes started here are ever stopped.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.bench import proc
from tests.bench.loads import Load
from tests.bench.measuring import NotMeasured, Sample, Samples

START_S: Final = 20.0
STOP_S: Final = 15.0
_US: Final = 1_000_000
_POLL_S: Final = 0.02
_TAIL: Final = 600


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where: the server alone on one core, whoever loads it on the others."""

    server: frozenset[int]
    load: frozenset[int]

    @classmethod
    def of_this_machine(cls) -> Cores:
        """The first core that we may use for the server; with one core only, all share it."""
        cores = sorted(os.sched_getaffinity(0))
        return cls(frozenset(cores[:1]), frozenset(cores[1:] or cores))


CORES: Final = Cores.of_this_machine()


@contextlib.contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Keep this thread, and what it starts, on ``cores``."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def python(module: str, *arguments: str | float | Path) -> list[str]:
    """The command that runs a module of the benchmarks in an interpreter of its own."""
    return [sys.executable, "-m", f"tests.bench.{module}", *map(str, arguments)]


def program(name: str, *arguments: str | int | Path) -> list[str]:
    """The command of one of our programs, as it is installed beside this interpreter."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise NotMeasured(f"{path} is not installed")
    return [str(path), *map(str, arguments)]


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Server:
    """A process that listens on a loopback port."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def require_alive(self) -> None:
        """Raise ``NotMeasured`` if it has ended."""
        if self.process.poll() is not None:
            raise NotMeasured(f"{self.process.args!r} ended with {self.process.returncode}")


@contextlib.contextmanager
def serving(
    command: Sequence[str],
    *,
    port: int,
    log: Path,
    environment: Mapping[str, str] | None = None,
    cores: frozenset[int] = CORES.server,
) -> Iterator[Server]:
    """A server on its own core, from when it listens until the block ends.

    Args:
        command: What to run.
        port: Where it will listen.
        log: Gets what it prints.
        environment: Beside ours.
        cores: Where it runs.

    Raises:
        NotMeasured: It ended, or did not listen in time.
    """
    with log.open("wb") as output, pinned(cores):
        process = subprocess.Popen(
            _with(environment, command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_listening(process, port, log)
        yield Server(process, port)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _with(environment: Mapping[str, str] | None, command: Sequence[str]) -> list[str]:
    """``command`` with variables beside ours; ``env`` becomes it, under the same id."""
    variables = [f"{name}={value}" for name, value in (environment or {}).items()]
    return ["env", *variables, *command] if variables else list(command)


def _wait_until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up_at = time.monotonic() + START_S
    while time.monotonic() < give_up_at:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(_POLL_S)
    tail = log.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
    raise NotMeasured(f"{process.args!r} does not listen on port {port}: {tail}")


def run(
    command: Sequence[str],
    *,
    cores: frozenset[int] = CORES.load,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 120.0,
) -> str:
    """What a command prints; it must succeed.

    Raises:
        NotMeasured: It failed, or took too long.
    """
    with pinned(cores):
        try:
            done = subprocess.run(
                _with(environment, command),
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired as exc:
            raise NotMeasured(f"{command!r} took more than {timeout_s:.0f} s") from exc
    if done.returncode:
        raise NotMeasured(f"{command!r}: exit {done.returncode}: {done.stderr[-_TAIL:]}")
    return done.stdout


@dataclass(slots=True)
class Meter:
    """What a block cost a server; read it after the block.

    Attributes:
        cpu_s: User and system time of the server's processes.
        busy: Share of the time in which its core was busy, with whomever.
    """

    cpu_s: float = 0.0
    busy: float = 0.0


@contextlib.contextmanager
def metering(server: Server, cores: frozenset[int] = CORES.server) -> Iterator[Meter]:
    """Count while the block runs."""
    meter = Meter()
    cpu, times = proc.cpu_s(server.process.pid), proc.core_times(cores)
    yield meter
    meter.busy = proc.core_times(cores).busy_since(times)
    server.require_alive()
    meter.cpu_s = proc.cpu_s(server.process.pid) - cpu


def rate_and_cpu(name: str, load: Load, meter: Meter, *, suffix: str = "") -> Samples:
    """Answers a second, and CPU microseconds of the server for each."""
    busy = meter.busy if load.busy is None else load.busy
    return {
        f"{name}.rate{suffix}": Sample(load.rate, busy, own=meter.cpu_s / load.seconds),
        f"{name}.cpu{suffix}": Sample(meter.cpu_s / load.answered * _US),
    }


def scaled(sample: Sample) -> Sample:
    """A floor's rate, as if its server had had the whole core and enough to do.

    A client costs about as much a request as a server that does next to nothing, so such a
    floor may never be at its limit. More than it did is always the stricter comparison.
    """
    if sample.own is None or not 0 < sample.own < 1:
        return sample
    return replace(sample, value=sample.value / sample.own, is_scaled=True)
