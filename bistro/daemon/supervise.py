"""Runs the parts of a daemon under one ``TaskGroup`` and stops them in order.

A part is an ``async def run()`` that does not return. Its life:

| what happens | what follows |
|---|---|
| SIGTERM or SIGINT, or ``stop`` is set | parts are cancelled one by one, the last named first |
| a second signal | what is left is cancelled at once |
| a part raises ``UnavailableError`` | it is started again after a growing, jittered pause |
| a part raises anything else | the daemon stops with that error |
| a part returns | the daemon stops with ``PartEndedError``: a silent end is a fault |

Name parts in the order in which they depend on each other: ``{"sequencer": …, "http": …}``
lets the HTTP part finish its requests while the sequencer still answers them.

Source: docs/architecture.md, Background work.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from bistro.daemon import logs
from bistro.errors import UnavailableError
from bistro.protocol.backoff import Backoff

T = TypeVar("T")

Part = Callable[[], Awaitable[None]]
"""A part's ``run``: returns only when it is cancelled."""

_GARBAGE_THRESHOLD = 50_000
_SWITCH_S = 0.001

_CHOOSER = secrets.SystemRandom()

_log = logs.get_logger("supervise")


class PartEndedError(RuntimeError):
    """A part returned although it should have run until it was cancelled: a bug."""


@dataclass(frozen=True)
class Policy:
    """How parts are started again and how long they may take to stop.

    Attributes:
        backoff: Pauses between attempts.
        settled_s: A part that ran this long begins again with the first pause.
        grace_s: How long one part may take to stop before the next is cancelled too.
    """

    backoff: Backoff = field(default_factory=Backoff)
    settled_s: float = 60.0
    grace_s: float = 20.0


DEFAULT_POLICY = Policy()


async def run(
    parts: Mapping[str, Part],
    *,
    stop: asyncio.Event | None = None,
    policy: Policy = DEFAULT_POLICY,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    on_restart: Callable[[str], None] | None = None,
) -> None:
    """Run all parts until a signal or ``stop``, then stop them, the last named first.

    Args:
        parts: Name and ``run`` of each part, in the order in which they depend on each other.
        stop: Set it to stop the daemon from inside; signals set it too.
        policy: Pauses and grace.
        sleep: What waits between restarts; tests pass their own.
        on_restart: Told the part's name whenever it is started again, for metrics.

    Raises:
        PartEndedError: A part returned.
        BistroError: What a part raised, unless it was ``UnavailableError``.
        ExceptionGroup: Several parts failed before they could be stopped.
    """
    stop = asyncio.Event() if stop is None else stop
    keeper = _Keeper(policy, sleep, on_restart)
    try:
        with _signals(stop):
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(keeper.keep(name, part), name=name)
                    for name, part in parts.items()
                ]
                await stop.wait()
                _log.info("stop_requested", parts=list(parts))
                for task in reversed(tasks):
                    task.cancel()
                    # Cancelled but slow is no reason to leave the others running: the group
                    # waits for it at the end, a second signal ends the wait.
                    await asyncio.wait([task], timeout=policy.grace_s)
    except BaseExceptionGroup as failures:
        _raise_one(failures)


@dataclass(frozen=True)
class _Keeper:
    """Starts one part again for as long as it only meets what may pass."""

    policy: Policy
    sleep: Callable[[float], Awaitable[None]]
    on_restart: Callable[[str], None] | None

    async def keep(self, name: str, part: Part) -> NoReturn:
        clock = asyncio.get_running_loop().time
        failures = 0
        while True:
            started_s = clock()
            try:
                await part()
            except UnavailableError as exc:
                has_settled = clock() - started_s >= self.policy.settled_s
                failures = 0 if has_settled else failures
                pause_ms = self.policy.backoff.delay_ms(
                    failures, _CHOOSER, retry_after_s=exc.retry_after_s
                )
                failures += 1
                _log.warning(
                    "part_interrupted",
                    part=name,
                    error_code=exc.code,
                    message=exc.message,
                    pause_s=pause_ms / 1_000,
                )
            else:
                raise PartEndedError(f"part {name!r} returned, expected it to run until stopped")
            await self.sleep(pause_ms / 1_000)
            if self.on_restart is not None:
                self.on_restart(name)


@contextlib.asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A ``TaskGroup`` whose first failure comes out by itself: it has stopped all the others."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        found: BaseException = failures
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        raise found from failures


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """While inside, SIGTERM and SIGINT set ``stop``; the second one cancels this task."""
    loop = asyncio.get_running_loop()
    current = asyncio.current_task()

    def on_signal() -> None:
        if stop.is_set() and current is not None:
            current.cancel()
        stop.set()

    wanted = (signal.SIGTERM, signal.SIGINT)
    try:
        for number in wanted:
            loop.add_signal_handler(number, on_signal)
    except (RuntimeError, ValueError):
        # No handlers here (a loop without them, or a thread that is not the main one):
        # whoever started us stops us by ``stop`` or by cancelling.
        yield
        return
    try:
        yield
    finally:
        for number in wanted:
            loop.remove_signal_handler(number)


def _raise_one(failures: BaseExceptionGroup[BaseException]) -> NoReturn:
    """Raise the only failure by itself; several stay a group, so that none is lost."""
    found: BaseException = failures
    while isinstance(found, BaseExceptionGroup) and len(found.exceptions) == 1:
        found = found.exceptions[0]
    raise found


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a daemon's main coroutine on uvloop where it is installed, else on asyncio.

    Everything imported so far stays for good, so the garbage collector need not look at it, nor
    look often at what thousands of requests hold for a moment. A thread that computes gives way
    to the event loop within a millisecond.
    """
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD, *gc.get_threshold()[1:])
    sys.setswitchinterval(_SWITCH_S)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    if sys.platform != "win32":
        # Twice the requests a CPU-second; not every platform has a wheel.
        with contextlib.suppress(ImportError):
            import uvloop  # noqa: PLC0415

            return uvloop.new_event_loop
    return asyncio.new_event_loop
