"""The process that is to die: started warm or from nothing, traced, tampered with, killed.

Only processes that were started here are ever signalled, each by its number.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from tests.crash.deaths import Death
from tests.crash.tampering import Tampering
from tests.crash.warm import Order

TRACE_LIMIT: Final = 16_000_000
"""Strings in traces are whole: no record is longer."""
_ATTACH_S: Final = 30.0
_END_S: Final = 40.0
_ABORT_S: Final = 2.0
_POLL_S: Final = 0.003
_STOPPED: Final = 'kill -STOP $$; exec "$@"'


class CampaignError(Exception):
    """The campaign itself failed: nothing is known about the service."""


class Warm:
    """A running ``tests.crash.warm``; obtained from ``start``, ended by ``close``."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._statuses: dict[int, asyncio.Future[int]] = {}
        self._started: asyncio.Queue[int] = asyncio.Queue()
        self._reader = asyncio.ensure_future(self._read())  # noqa: TID251 - ended in close

    @classmethod
    async def start(cls, modules: Sequence[str]) -> Self:
        """Import ``modules`` in a new process."""
        command = [sys.executable, "-m", "tests.crash.warm", *modules]
        warm = cls(await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE))
        await asyncio.wait_for(warm._started.get(), 60)
        warm._statuses.clear()
        return warm

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            facts = json.loads(line)
            if "status" in facts:
                self._statuses[facts["pid"]].set_result(facts["status"])
            else:
                self._statuses[facts["pid"]] = asyncio.get_running_loop().create_future()
                self._started.put_nowait(facts["pid"])

    async def run(self, order: Order) -> tuple[int, asyncio.Future[int]]:
        """The number of a new process, and its exit status once it has ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(order.encode())
        pid = await asyncio.wait_for(self._started.get(), _ATTACH_S)
        return pid, self._statuses[pid]

    async def close(self) -> None:
        """End it and all its children."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reader


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start.

    Attributes:
        program: ``module:function``, for a warm start.
        command: The same as a command, for a start from nothing.
        arguments: Of the command line.
        environment: Variables beside ours.
        log: Where outputs go.
        sabotage: A name of ``sabotage.SABOTAGES``, or nothing.
        setup: ``module:function``, called before a warm start; or nothing.
    """

    program: str
    command: Sequence[str]
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    sabotage: str = ""
    setup: str = ""


@dataclass
class Victim:
    """A process; obtained from ``start``.

    Attributes:
        pid: Its number.
        status: Its exit status once it has ended, negative for a signal.
        mark: Made by ``tampering`` when it struck.
    """

    pid: int
    status: asyncio.Future[int]
    mark: Path
    _strace: list[tuple[Process, Path]] = field(default_factory=list)

    @classmethod
    async def start(cls, launch: Launch, warm: Warm | None, death: Death | None) -> Self:
        """Start it, stopped before its first own call; ``go`` lets it begin.

        Args:
            launch: What.
            warm: Forks it; ``None``: from nothing.
            death: The one of its kind that comes from within is prepared.
        """
        mark = launch.log.with_name(f"{launch.log.name}.mark")
        for old in (mark, launch.log):
            old.unlink(missing_ok=True)
        if warm is None:
            victim = cls(*await _start_from_nothing(launch), mark)
        else:
            tampering: Mapping[str, object] = {}
            if death is not None and death.way == "fail-stored":
                found = Tampering(death.group, death.number, death.error, str(mark))
                tampering = found.facts()
            order = Order(
                program=launch.program,
                arguments=list(launch.arguments),
                environment=launch.environment,
                log=str(launch.log),
                is_stopped=True,
                tampering=tampering,
                sabotage=launch.sabotage,
                setup=launch.setup,
            )
            victim = cls(*await warm.run(order), mark)
        await victim._wait_for(lambda: _state(victim.pid) == "T", "stop before it begins")
        return victim

    def go(self) -> None:
        """Let it begin."""
        self._signal(signal.SIGCONT)

    async def trace(self, file: Path, *options: str) -> None:
        """Attach strace to all its threads; returns once calls are seen.

        Args:
            file: Gets the trace.
            options: Of strace.
        """
        command = ["strace", "-f", "-q", "-o", str(file), *options, "-p", str(self.pid)]
        strace = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE
        )
        self._strace.append((strace, file))

        def is_traced() -> bool:
            if strace.returncode:
                raise CampaignError(f"{command}: ended with {strace.returncode}")
            # It ends well once all are dead, whom its first injection may have killed.
            return strace.returncode is not None or _is_traced(self.pid)

        await self._wait_for(is_traced, "be traced")

    async def _wait_for(self, condition: object, what: str) -> None:
        assert callable(condition)
        give_up_at = time.monotonic() + _ATTACH_S
        while not self.status.done() and not condition():
            if time.monotonic() > give_up_at:
                raise CampaignError(f"process {self.pid} does not {what}")
            await asyncio.sleep(_POLL_S)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, if it lives."""
        self._signal(number)

    def _signal(self, number: int) -> None:
        if not self.status.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def ended(self, timeout_s: float = _END_S) -> int:
        """Its exit status, after strace has written everything down.

        Raises:
            CampaignError: It does not end.
        """
        done, _ = await asyncio.wait([self.status], timeout=timeout_s)
        if not done:
            self.kill(signal.SIGABRT)
            await asyncio.wait([self.status], timeout=_ABORT_S)
            self.kill()
            raise CampaignError(f"process {self.pid} does not end; its log says where it is")
        for strace, _ in self._strace:
            try:
                await asyncio.wait_for(strace.wait(), _END_S)
            except TimeoutError:
                strace.kill()
                raise CampaignError(f"the strace of process {self.pid} does not end") from None
        return self.status.result()


async def _start_from_nothing(launch: Launch) -> tuple[int, asyncio.Future[int]]:
    command: list[str] = [*launch.command]
    if launch.sabotage:
        module = "tests.crash.sabotage"
        command = [sys.executable, "-m", module, launch.sabotage, launch.program]
    environment = {
        **os.environ,  # noqa: TID251 - a process needs it
        "PYTHONFAULTHANDLER": "1",
        **launch.environment,
    }
    with launch.log.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", _STOPPED, "sh", *command, *launch.arguments),
            stdin=DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
        )
    ended = asyncio.ensure_future(process.wait())  # noqa: TID251 - awaited by its victim
    return process.pid, ended


def _state(pid: int) -> str:
    """The letter that stands for a process's state; empty if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[0]


def _is_traced(pid: int) -> bool:
    """Whether somebody traces every thread of a process."""
    try:
        statuses = [
            (task / "status").read_text(encoding="utf-8", errors="replace")
            for task in Path(f"/proc/{pid}/task").iterdir()
        ]
    except OSError:
        return False
    return all("TracerPid:\t0\n" not in status for status in statuses)
