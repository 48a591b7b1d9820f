"""Starts, watches, kills and ends the demo's processes: the installed console scripts, as they are.

Everything that was started is ended when the cast leaves the stage, whatever happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bistro.clock import SystemClock
from bistro.instant import UnixMillis
from tests.e2e.demo.companions import Companion, PerformanceError

_START_LIMIT_S: Final = 30.0
_STOP_LIMIT_S: Final = 15.0
_POLL_S: Final = 0.02
_TAIL: Final = 3_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A command that has ended."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str
    began_at: UnixMillis
    ended_at: UnixMillis

    @property
    def document(self) -> dict[str, object]:
        """The one JSON document on its standard output; empty if there is none."""
        try:
            found = json.loads(self.stdout)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def require(self, *exit_codes: int) -> Finished:
        """Itself, if it ended as expected; 0 where nothing else is expected.

        Raises:
            PerformanceError: It ended otherwise; with what it said.
        """
        if self.exit_code not in (exit_codes or (0,)):
            said = (self.stderr or self.stdout)[-_TAIL:].strip()
            shown = " ".join(self.argv)
            raise PerformanceError(f"{shown}\nended with exit code {self.exit_code}: {said}")
        return self


@dataclass(slots=True)
class Daemon:
    """A daemon's process; it may be killed and started again.

    Attributes:
        name: What the demo calls it.
        log: Its standard output and error, appended to over restarts.
        process: The one that runs now.
        exits: Exit codes of those that ran before.
    """

    name: str
    argv: tuple[str, ...]
    log: Path
    environ: Mapping[str, str]
    process: asyncio.subprocess.Process | None = None
    exits: list[int] = field(default_factory=list)

    async def start(self) -> int:
        """Start it and wait until it listens; its port.

        Raises:
            PerformanceError: It ended, or listens nowhere after half a minute.
        """
        seen = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environ,
            )
        limit = time.monotonic() + _START_LIMIT_S
        while time.monotonic() < limit and self.process.returncode is None:
            port = _listening_port(self.log, seen)
            if port is not None:
                return port
            await asyncio.sleep(_POLL_S)
        tail = self.log.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
        raise PerformanceError(f"{self.name} did not start listening; its log ends:\n{tail}")

    def kill(self) -> None:
        """``kill -9``, this moment."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)

    async def stop(self) -> int | None:
        """SIGTERM, and SIGKILL if that is not heard; the exit code, None if it did not run."""
        if self.process is None:
            return None
        if self.process.returncode is None:
            self.process.terminate()
        try:
            async with asyncio.timeout(_STOP_LIMIT_S):
                return await self.ended()
        except TimeoutError:
            self.kill()
            return await self.ended()

    async def ended(self) -> int:
        """Wait for its end; the exit code, -9 after a kill."""
        if self.process is None:
            raise PerformanceError(f"{self.name} does not run")
        code = await self.process.wait()
        self.exits.append(code)
        self.process = None
        return code


def _listening_port(log: Path, start: int) -> int | None:
    with log.open("rb") as file:
        file.seek(start)
        for line in file:
            with contextlib.suppress(ValueError, AttributeError):
                event = json.loads(line)
                # The Unix socket of the control desk has no port.
                if event.get("event") == "listening_started" and "port" in event:
                    return int(event["port"])
    return None


@dataclass(slots=True)
class Cast:
    """All processes of one performance.

    Attributes:
        root: The folder for everything.
        environ: What every process finds in its environment besides PATH and the like.
    """

    root: Path
    environ: Mapping[str, str]
    _daemons: list[Daemon] = field(default_factory=list)
    _running: set[asyncio.subprocess.Process] = field(default_factory=set)
    _clock: SystemClock = field(default_factory=SystemClock)

    @contextlib.asynccontextmanager
    async def on_stage(self) -> AsyncIterator[Cast]:
        """End every process when the block ends."""
        try:
            yield self
        finally:
            for process in self._running:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            async with asyncio.TaskGroup() as group:
                for daemon in self._daemons:
                    group.create_task(daemon.stop())

    def daemon(self, name: str, *argv: str) -> Daemon:
        """A daemon, not started yet; its log is ``<name>.log``."""
        daemon = Daemon(name, _resolved(argv), self._log(name), self._whole_environ())
        self._daemons.append(daemon)
        return daemon

    async def companion(self, what: str, *argv: str) -> Companion:
        """Start a process to talk with; what it says besides goes to ``<what>.log``."""
        with self._log(what).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *_resolved(argv),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._whole_environ(),
            )
        self._running.add(process)
        return Companion(process, what)

    async def run(self, *argv: str, limit_s: float = 120.0, prefix: Sequence[str] = ()) -> Finished:
        """Run a command to its end; what it says is kept, whatever its exit code.

        Args:
            argv: A console script of this project and its arguments.
            limit_s: Killed after this long, with exit code -9.
            prefix: A command to run it under.
        """
        line = (*prefix, *_resolved(argv))
        began_at = self._clock.now()
        process = await asyncio.create_subprocess_exec(
            *line,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._whole_environ(),
        )
        self._running.add(process)
        try:
            stdout, stderr = await _communicate(process, limit_s)
        finally:
            self._running.discard(process)
            if process.returncode is None:
                process.kill()
        return Finished(
            argv=argv,
            exit_code=await process.wait(),
            stdout=stdout.decode(errors="replace"),
            stderr=stderr.decode(errors="replace"),
            began_at=began_at,
            ended_at=self._clock.now(),
        )

    def _log(self, name: str) -> Path:
        folder = self.root / "logs"
        folder.mkdir(exist_ok=True)
        return folder / f"{name}.log"

    def _whole_environ(self) -> dict[str, str]:
        inherited = os.environ  # noqa: TID251 - for the processes, not for us
        usual = {name: value for name, value in inherited.items() if not name.startswith("BISTRO")}
        return {**usual, **self.environ, "TZ": "UTC", "PYTHONUNBUFFERED": "1"}


async def _communicate(process: asyncio.subprocess.Process, limit_s: float) -> tuple[bytes, bytes]:
    talk = asyncio.ensure_future(process.communicate())  # noqa: TID251 - awaited in any case
    done, _ = await asyncio.wait({talk}, timeout=limit_s)
    if not done:
        process.kill()
    return await talk


def _resolved(argv: Sequence[str]) -> tuple[str, ...]:
    """The console script that belongs to the Python that runs the demo."""
    program = Path(sys.executable).with_name(argv[0])
    if not program.exists():
        raise PerformanceError(f"{program} is missing: install the project (make does it)")
    return (str(program), *argv[1:])


async def without_network() -> tuple[str, ...]:
    """A command prefix under which no network exists, not even loopback; empty if none works."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    prefix = (unshare, "--map-root-user", "--net")
    process = await asyncio.create_subprocess_exec(
        *prefix,
        "true",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return prefix if await process.wait() == 0 else ()
