"""One life of a service: started, traced where wanted, loaded until it dies.

How a life went is told by facts (did it serve, how did it end, was it hit), never by whether it
*should* have survived: any death is fine, forgetting is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random  # noqa: TID251 - passed in, seeded
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.crash.cuts import TRACED
from tests.crash.deaths import Death, Phase
from tests.crash.victims import TRACE_LIMIT, CampaignError, Launch, Victim, Warm

UP_S: Final = 60.0
_POLL_S: Final = 0.003
_WATCH_S: Final = 0.005

Load = Callable[[int, random.Random], Awaitable[None]]


class NotServingError(Exception):
    """A service ended, or did not begin to listen."""


@dataclass(frozen=True, slots=True)
class LifeFacts:
    """How a life went.

    Attributes:
        status: Exit status; negative: by this signal.
        has_served: Whether it listened.
        was_hit: Whether the injected death struck; of ``kill``, whether it still lived.
    """

    status: int
    has_served: bool
    was_hit: bool


def listening_port(log: Path) -> int | None:
    """The TCP port in the newest event ``listening_started``; ``None``: there is none yet."""
    try:
        lines = log.read_bytes().splitlines()
    except FileNotFoundError:
        return None
    for line in lines:
        if b'"listening_started"' in line:
            event = json.loads(line)
            if event.get("host") != "unix" and event.get("port"):
                return int(event["port"])
    return None


async def wait_until_serving(victim: Victim, log: Path) -> int:
    """The port on which it listens.

    Raises:
        NotServingError: It ended before, or does not listen in time.
    """
    give_up_at = time.monotonic() + UP_S
    while time.monotonic() < give_up_at:
        port = listening_port(log)
        if port is not None:
            return port
        if victim.status.done():
            break
        await asyncio.sleep(_POLL_S)
    raise NotServingError(_tail(log))


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-3_000:] if log.exists() else "no log"


@contextlib.asynccontextmanager
async def serving(launch: Launch, warm: Warm | None) -> AsyncIterator[int]:
    """A healthy service, from when it listens until the end of the block; then SIGTERM.

    Raises:
        NotServingError: It does not begin, or does not end cleanly.
    """
    victim = await Victim.start(launch, warm, None)
    victim.go()
    try:
        yield await wait_until_serving(victim, launch.log)
        victim.kill(signal.SIGTERM)
        try:
            status = await victim.ended()
        except CampaignError as exc:
            raise NotServingError(f"SIGTERM does not end it: {_tail(launch.log)}") from exc
        if status:
            raise NotServingError(f"SIGTERM ended it with {status}: {_tail(launch.log)}")
    finally:
        victim.kill()
        await victim.ended()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to happen in a life.

    Attributes:
        death: How it ends; if that never comes, it is killed at the end.
        serving_s: How long it serves otherwise.
        trace: Where every change of files goes; ``None``: nothing is recorded.
    """

    death: Death
    serving_s: float
    trace: Path | None = None


async def live(
    launch: Launch, warm: Warm | None, plan: Plan, load: Load, chance: random.Random
) -> LifeFacts:
    """Let a service live and die.

    Raises:
        CampaignError: It could not be started, traced or ended.
    """
    victim = await Victim.start(launch, warm, plan.death)
    life = _Life(victim, plan, launch.log, launch.log.with_suffix(".strace"))
    try:
        async with asyncio.TaskGroup() as helpers:
            await life.begin("start", helpers)
            victim.go()
            with contextlib.suppress(NotServingError):
                port = await wait_until_serving(victim, launch.log)
                life.has_served = True
                await life.begin("serving", helpers)
                await _load(victim, load(port, chance), plan.serving_s)
            life.has_died = victim.status.done() and victim.status.result() != 0
            victim.kill()
            life.is_over.set()
    finally:
        victim.kill()
        status = await victim.ended()
    return LifeFacts(status, life.has_served, life.was_hit())


@dataclass
class _Life:
    """A life under way.

    Attributes:
        has_died: Whether it died before we ended it.
        is_over: Set when nothing has to be watched any more.
    """

    victim: Victim
    plan: Plan
    log: Path
    watched: Path
    has_served: bool = False
    has_died: bool = False
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    async def begin(self, phase: Phase, helpers: asyncio.TaskGroup) -> None:
        """Prepare what begins in this phase; a whole trace begins at the start."""
        death, trace = self.plan.death, self.plan.trace
        is_recorded = trace is not None
        if (is_recorded and phase == "start") or (
            death.injection and not is_recorded and death.phase == phase
        ):
            await _trace(self.victim, death, trace, self.watched)
            if death.way == "kill-after":
                helpers.create_task(self._kill_what_is_held())
        if death.way in {"kill", "stop"} and death.phase == phase:
            helpers.create_task(self._kill_in_time())

    async def _kill_what_is_held(self) -> None:
        """Kill a process that strace holds behind a call."""
        while not self._has_struck() and not self.is_over.is_set():
            await _pause(self.is_over, _WATCH_S)
        self.victim.kill()

    async def _kill_in_time(self) -> None:
        await _pause(self.is_over, self.plan.death.after_s)
        self.has_died = not self.victim.status.done()
        self.victim.kill(signal.SIGTERM if self.plan.death.way == "stop" else signal.SIGKILL)

    def _has_struck(self) -> bool:
        file = self.plan.trace or self.watched
        data = file.read_bytes() if file.exists() else b""
        return (b"(DELAYED)" if self.plan.death.way == "kill-after" else b"(INJECTED)") in data

    def was_hit(self) -> bool:
        """Whether the death struck."""
        if self.plan.death.way == "fail-stored":
            return self.victim.mark.exists()
        if self.plan.death.way in {"kill-after", "fail", "fail-on"}:
            return self._has_struck()
        return self.has_died


async def _pause(over: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), seconds)


async def _trace(victim: Victim, death: Death, full: Path | None, watched: Path) -> None:
    """Attach strace, to record everything or only to let one call fail."""
    names: tuple[str, ...] = ()
    options = ["-e", "signal=none", "-s", "0"]
    if full is not None:
        names = TRACED
        options = ["-e", "signal=none", "-ttt", "-xx", "-yy", "-s", str(TRACE_LIMIT)]
    injection = death.injection
    if injection:
        names += tuple(injection.partition(":")[0].split(","))
        options += ["-e", f"inject={injection}"]
    options += ["-e", "trace=" + ",".join(dict.fromkeys(names))]
    await victim.trace(full or watched, *options)


async def _load(victim: Victim, load: Awaitable[None], seconds: float) -> None:
    """Load it until it has ended, or for this long."""
    loading = asyncio.ensure_future(load)  # noqa: TID251 - ended below
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(victim.status), seconds)
    if not loading.done():
        # Once it is dead, what it had sent is still on its way to its clients.
        await asyncio.sleep(_WATCH_S)
        loading.cancel()
        await asyncio.wait([loading])
    if not loading.cancelled():
        loading.result()
