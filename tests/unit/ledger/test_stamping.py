"""The rules of time: PROTOCOL section 5, rule 2, row by row."""

import pytest

from bistro.errors import StorageError, UnavailableError
from bistro.instant import UnixMillis
from bistro.ledger.stamping import ClockGuard
from tests.support.clocks import NOON, ManualClock


def ask(guard: ClockGuard, *, previous: int = NOON, received: int = NOON) -> UnixMillis:
    return guard.require_time(previous=UnixMillis(previous), received=UnixMillis(received))


@pytest.mark.parametrize(("bound", "limit"), [(None, 100), (101, 100), (11, 10)])
def test_an_unknown_or_large_error_refuses_for_now(bound: int | None, limit: int) -> None:
    """And stamping goes on as soon as the bound is good again."""
    clock = ManualClock(bound_ms=bound)
    guard = ClockGuard(clock, error_limit_ms=limit)
    with pytest.raises(UnavailableError, match=f"at most {limit} ms"):
        ask(guard)
    clock.bound_ms = limit
    assert ask(guard) == NOON


@pytest.mark.parametrize("step", [-1_000, -1, 0, 500])
def test_small_steps_are_borne(step: int) -> None:
    """Up to 1 s back and 500 ms ahead, also long after."""
    clock = ManualClock()
    guard = ClockGuard(clock)
    clock.step(step)
    assert ask(guard) == NOON + step
    clock.advance(86_400_000)
    assert ask(guard) == NOON + step + 86_400_000


@pytest.mark.parametrize("step", [-1_001, -3_600_000, 501, 3_600_000])
@pytest.mark.parametrize("idle", [0, 7_200_000])
def test_larger_steps_stop_the_ledger(step: int, idle: int) -> None:
    """Also where no entry is near enough to show that the clock went back."""
    clock = ManualClock()
    guard = ClockGuard(clock)
    clock.advance(idle)
    clock.step(step)
    with pytest.raises(StorageError, match="the clock"):
        ask(guard)


def test_small_steps_do_not_add_up_unseen() -> None:
    """Drift is measured since the ledger was opened, not since the last stamp."""
    clock = ManualClock()
    guard = ClockGuard(clock)
    clock.step(300)
    assert ask(guard) == NOON + 300
    clock.step(300)
    with pytest.raises(StorageError, match="since the ledger was opened"):
        ask(guard)


def test_after_a_restart_the_last_entry_is_the_witness() -> None:
    """A clock that was set back while the ledger was down is seen."""
    guard = ClockGuard(ManualClock())
    assert ask(guard, previous=NOON + 1_000) == NOON
    with pytest.raises(StorageError, match="went back from 2026"):
        ask(guard, previous=NOON + 1_001)


def test_a_request_from_the_future_is_a_clock_that_went_back() -> None:
    """It was received by this machine's clock."""
    with pytest.raises(StorageError, match="went back"):
        ask(ClockGuard(ManualClock()), received=NOON + 1_001)
