"""Waiting is bounded, told, and never told too often."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bistro.errors import ConflictError, FormatError, UnavailableError
from bistro.instant import UnixMillis
from bistro_client.listening import Level, Notice
from bistro_client.patience import TELL_AGAIN_MS, Patience
from bistro_client.times import ServerTime, show
from tests.support.clocks import NOON, ManualClock
from tests.unit.client.worlds import Recorder


def patient(clock: ManualClock, listener: Recorder, limit_ms: int | None = None) -> Patience:
    async def sleep(seconds: float) -> None:
        clock.advance(int(seconds * 1_000))

    return Patience(clock, limit_ms=limit_ms, sleep=sleep, listener=listener)


async def test_attempts_are_repeated_until_one_succeeds() -> None:
    """Unavailable and unreadable answers are waited out; anything else is raised at once."""
    answers: list[Exception | str] = [UnavailableError("down"), FormatError("html"), "here"]

    async def attempt() -> str:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    clock, listener = ManualClock(), Recorder()
    assert await patient(clock, listener).begin().ask(attempt) == "here"
    assert listener.keys == ["waiting", "waiting"]

    async def refused() -> str:
        raise ConflictError("no")

    with pytest.raises(ConflictError):
        await patient(clock, listener).begin().ask(refused)


async def test_patience_ends_after_its_limit() -> None:
    """The last error comes out, and no wait passes the limit."""
    clock = ManualClock()

    async def attempt() -> None:
        raise UnavailableError("down", retry_after_s=1.0)

    with pytest.raises(UnavailableError, match="down"):
        await patient(clock, Recorder(), 20_000).begin().ask(attempt)
    assert NOON + 5_000 < clock.now() <= NOON + 20_000


@pytest.mark.parametrize("offset_ms", [0, 3_600_000, -3_600_000])
async def test_waiting_ends_when_it_is_too_late_for_the_server(offset_ms: int) -> None:
    """Its clock counts, whatever ours says."""
    clock = ManualClock()
    until = UnixMillis(NOON + offset_ms + 60_000)
    time = ServerTime(clock, offset_ms)

    async def attempt() -> None:
        raise UnavailableError("down", retry_after_s=1.0)

    with pytest.raises(UnavailableError):
        await patient(clock, Recorder()).begin(until=until, time=time).ask(attempt)
    assert NOON + 30_000 < clock.now() <= NOON + 60_000


@pytest.mark.parametrize("back_ms", [3_000, 20_000, 55_000])
async def test_nobody_sleeps_through_a_service_that_is_back_in_time(back_ms: int) -> None:
    """Pauses shrink with the time that is left; afterwards they are as long as ever."""
    clock, deadline = ManualClock(), UnixMillis(NOON + 60_000)

    async def attempt() -> int:
        if clock.now() < NOON + back_ms:
            raise UnavailableError("down", retry_after_s=30.0)
        return clock.now()

    wait = patient(clock, Recorder()).begin(best_by=deadline, time=ServerTime(clock, 0))
    assert NOON + back_ms <= await wait.ask(attempt) < deadline

    clock.advance(120_000)
    began = clock.now()
    with pytest.raises(UnavailableError):
        await (
            patient(clock, Recorder(), 40_000)
            .begin(best_by=deadline, time=ServerTime(clock, 0))
            .ask(always_down)
        )
    assert clock.now() - began >= 30_000


async def always_down() -> None:
    raise UnavailableError("down", retry_after_s=30.0)


def test_the_same_reason_is_told_from_time_to_time_only() -> None:
    """Once when it is new, then at most every 30 s; each new reason at once."""
    clock, listener = ManualClock(), Recorder()
    policy = patient(clock, listener)
    for number in range(61):
        policy.tell("a", listener_notice(f"a {number}"))
        clock.advance(1_000)
    policy.tell("b", listener_notice("b"))
    assert [one.text for one in listener.notices] == ["a 0", "a 30", "a 60", "b"]
    assert TELL_AGAIN_MS == 30_000


def listener_notice(text: str) -> Notice:

    return Notice(Level.WARNING, "waiting", text)


@pytest.mark.parametrize(
    ("date", "offset_ms"),
    [
        ("Sun, 22 Nov 2026 12:00:00 GMT", 500),
        ("Sun, 22 Nov 2026 13:00:00 GMT", 3_600_500),
        ("yesterday", None),
        (None, None),
        ("Sun, 99 Nov 2026 12:00:00 GMT", None),
    ],
)
def test_the_servers_clock_is_read_from_its_answers(
    date: str | None, offset_ms: int | None
) -> None:
    """Good to about a second; nothing is assumed where it says nothing."""
    time = ServerTime.from_date(date, ManualClock())
    assert time.offset_ms == offset_ms
    assert time.now() == NOON + (offset_ms or 0)
    assert time.is_far_off == (offset_ms == 3_600_500)


def test_times_are_shown_in_the_zone_that_was_named() -> None:
    """A zone that does not exist is shown as UTC, which is always right."""
    assert datetime.fromtimestamp(NOON / 1_000, tz=UTC).hour == 12
    assert show(NOON).startswith("2026-11-22 12:00:00 UTC")
    assert show(NOON, "Europe/Lisbon").startswith("2026-11-22 12:00:00 Europe/Lisbon")
    assert show(NOON, "Asia/Kathmandu").startswith("2026-11-22 17:45:00 Asia/Kathmandu")
    assert show(NOON, "No/Where").startswith("2026-11-22 12:00:00 UTC")
