"""The system clock says how wrong it may be, or that it does not know."""

import sys

import pytest

from bistro import clock
from bistro.clock import SystemClock, bound_from_timex


@pytest.mark.parametrize(
    ("state", "status", "max_error_us", "offset", "bound"),
    [
        (0, 0, 10_000, 0, 10),
        (0, 0, 10_001, 0, 11),
        (0, 0, 9_000, -1_500, 11),
        (0, 0x2000, 9_000, 1_500_000, 11),
        (0, 0x2000, 9_000, 1, 10),
        (1, 0x10, 16, 0, 1),
        (5, 0, 10, 0, None),
        (5, 0x40, 16_000_000, 0, None),
        (0, 0x40, 16_000_000, 0, None),
        (-1, 0, 0, 0, None),
    ],
)
def test_the_kernel_s_answer_becomes_a_bound_in_ms(
    state: int, status: int, max_error_us: int, offset: int, bound: int | None
) -> None:
    """Rounded up, and unknown as soon as the kernel says that it is not synchronised."""
    found = bound_from_timex(state=state, status=status, max_error_us=max_error_us, offset=offset)
    assert found == bound


def test_an_assumed_error_counts_only_where_the_kernel_knows_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A known bound is never replaced by a better-looking assumption."""
    monkeypatch.setattr(clock, "kernel_error_bound_ms", lambda: None)
    assert SystemClock().error_bound_ms() is None
    assert SystemClock(assumed_error_ms=40).error_bound_ms() == 40
    monkeypatch.setattr(clock, "kernel_error_bound_ms", lambda: 900)
    assert SystemClock(assumed_error_ms=40).error_bound_ms() == 900


def test_the_kernel_is_really_asked() -> None:
    """The structure matches the kernel's: the answer is unknown or a sensible number."""
    bound = clock.kernel_error_bound_ms()
    assert bound is None or 0 <= bound < 60_000


def test_other_systems_know_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no ``adjtimex`` an operator must state a bound."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert clock.kernel_error_bound_ms() is None


def test_time_goes_on() -> None:
    """Both clocks move forward, in milliseconds."""
    system = SystemClock()
    assert 1_700_000_000_000 < system.now() <= system.now()
    assert system.monotonic_ms() <= system.monotonic_ms()
