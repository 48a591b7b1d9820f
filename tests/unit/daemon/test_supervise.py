"""Supervision: order of stopping, restarts, and no silent end."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from bistro.daemon.supervise import Part, PartEndedError, Policy, run, run_loop
from bistro.errors import StorageError, UnavailableError


async def forever() -> None:
    await asyncio.Event().wait()


async def test_parts_are_stopped_in_reverse_order_one_after_the_other() -> None:
    """HTTP ends its requests while what it depends on still runs."""
    seen: list[str] = []
    stop = asyncio.Event()

    def part(name: str, turns: int) -> Part:
        async def body() -> None:
            try:
                await forever()
            finally:
                seen.append(f"{name} begins to stop")
                for _ in range(turns):
                    await asyncio.sleep(0)
                seen.append(f"{name} stopped")

        return body

    async def stopper() -> None:
        stop.set()
        await forever()

    await run({"sequencer": part("sequencer", 0), "http": part("http", 5), "x": stopper}, stop=stop)
    assert seen == [
        "http begins to stop",
        "http stopped",
        "sequencer begins to stop",
        "sequencer stopped",
    ]


async def test_a_signal_stops_the_daemon() -> None:
    """SIGTERM ends run() without an error."""

    async def signaller() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await forever()

    await run({"signaller": signaller, "other": forever})


async def test_a_second_signal_cancels_what_is_left() -> None:
    """An operator who insists does not wait for the grace."""

    async def stubborn() -> None:
        try:
            await forever()
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            await forever()

    async def signaller() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await forever()

    with pytest.raises(asyncio.CancelledError):
        await run({"signaller": signaller, "stubborn": stubborn})


async def test_a_part_that_raises_stops_the_daemon_with_its_error() -> None:
    """The error arrives by itself, not in a group."""

    async def broken() -> None:
        raise StorageError("disk: no space left")

    with pytest.raises(StorageError, match="no space"):
        await run({"broken": broken, "other": forever})


async def test_two_errors_stay_together() -> None:
    """No failure hides another."""

    async def broken() -> None:
        try:
            await forever()
        finally:
            raise StorageError("second")

    async def first() -> None:
        await asyncio.sleep(0)
        raise StorageError("first")

    with pytest.raises(ExceptionGroup) as caught:
        await run({"broken": broken, "first": first})
    assert {str(error) for error in caught.value.exceptions} == {"first", "second"}


async def test_a_part_that_returns_stops_the_daemon() -> None:
    """A part that ends silently would leave a daemon that only looks alive."""

    async def ends() -> None:
        pass

    with pytest.raises(PartEndedError, match="'ends'"):
        await run({"ends": ends, "other": forever})


async def test_an_unavailable_peer_is_asked_again_after_a_growing_pause() -> None:
    """The pauses grow, and a peer's wish is kept."""
    pauses: list[float] = []
    restarted: list[str] = []
    stop = asyncio.Event()
    errors = [UnavailableError("away"), UnavailableError("busy", retry_after_s=7)]

    async def flaky() -> None:
        if errors:
            raise errors.pop(0)
        stop.set()
        await forever()

    async def sleep(pause_s: float) -> None:
        pauses.append(pause_s)

    await run({"flaky": flaky}, stop=stop, sleep=sleep, on_restart=restarted.append)
    assert 0 <= pauses[0] <= 0.5
    assert 7 <= pauses[1] <= 8
    assert restarted == ["flaky", "flaky"]


async def test_a_part_that_ran_long_begins_with_the_first_pause_again() -> None:
    """One failure a day is not a row of failures."""
    pauses: list[float] = []
    stop = asyncio.Event()

    async def flaky() -> None:
        if len(pauses) == 20:
            stop.set()
            await forever()
        raise UnavailableError("away")

    async def sleep(pause_s: float) -> None:
        pauses.append(pause_s)

    await run({"flaky": flaky}, stop=stop, sleep=sleep, policy=Policy(settled_s=0))
    assert max(pauses) <= 0.5


async def test_a_slow_part_does_not_keep_the_others_running() -> None:
    """After its grace the next part is cancelled too; the first is still waited for."""
    stop = asyncio.Event()
    others_stopped = asyncio.Event()

    async def slow() -> None:
        try:
            await forever()
        finally:
            await others_stopped.wait()

    async def other() -> None:
        try:
            stop.set()
            await forever()
        finally:
            others_stopped.set()

    await run({"other": other, "slow": slow}, stop=stop, policy=Policy(grace_s=0.01))


def test_the_loop_returns_what_main_returns() -> None:
    """Exit codes pass through."""

    async def main() -> int:
        return 5

    assert run_loop(main()) == 5


def test_without_signal_handlers_the_stop_event_still_works() -> None:
    """A daemon inside another thread (a test, an embedding) is stopped by its event."""

    async def main() -> None:
        stop = asyncio.Event()

        async def stopper() -> None:
            stop.set()
            await forever()

        await run({"stopper": stopper}, stop=stop)

    async def in_thread() -> None:
        await asyncio.to_thread(asyncio.run, main())

    asyncio.run(in_thread())
