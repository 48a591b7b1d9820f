"""What the demo says about clocks, and what it reads from programs."""

from __future__ import annotations

import pytest

from tests.e2e.demo.companions import PerformanceError
from tests.e2e.demo.following import Request
from tests.e2e.demo.scenes import is_mid_upload, slowness_of
from tests.e2e.demo.stage import plan_clock, printed_vkey


def test_an_unsynchronised_clock_gets_an_assumed_error_that_is_stated() -> None:
    """Both daemons are told, and so is everybody else."""
    plan = plan_clock(None)
    assert plan.is_assumed
    assert "50 ms" in plan.statement
    assert plan.environ == {
        "BISTRO_SERVER_CLOCK__ASSUMED_ERROR_MS": "50",
        "BISTRO_RELAY_CLOCK__ASSUMED_ERROR_MS": "50",
    }


def test_a_synchronised_clock_assumes_nothing() -> None:
    """The kernel's word is taken, and no setting is needed."""
    plan = plan_clock(12)
    assert (plan.is_assumed, plan.environ) == (False, {})
    assert "12 ms" in plan.statement


def test_a_known_but_large_error_raises_the_limit_openly() -> None:
    """Where a time service renews the bound seldom, stamping would stop in the middle."""
    plan = plan_clock(80)
    assert not plan.is_assumed
    assert plan.environ["BISTRO_RELAY_CLOCK__ERROR_LIMIT_MS"] == "180"
    assert "180 ms" in plan.statement


def test_the_vkey_is_read_from_what_init_prints() -> None:
    """And a program that prints none stops the demo at once."""
    assert printed_vkey("server  x\nvkey         a.b+1+2\nfingerprint  1") == "a.b+1+2"
    with pytest.raises(PerformanceError):
        printed_vkey("nothing")


def test_a_busy_machine_gives_everybody_more_time_but_not_for_ever() -> None:
    """On a free machine the deadline is as far away as it should be."""
    assert [slowness_of(ms) for ms in (3_000, 15_000, 30_000, 10**9)] == [1, 1, 2, 5]


@pytest.mark.parametrize(
    ("path", "size", "sent", "expected"),
    [
        ("/uploads/x", 4_000, 2_000, True),
        ("/uploads/x", 4_000, 100, False),
        ("/uploads/x", 4_000, 3_900, False),
        ("/uploads/x", 500, 250, False),
        ("/batches", 4_000, 2_000, False),
    ],
)
def test_a_relay_is_killed_in_the_middle_of_a_large_upload(
    path: str, size: int, sent: int, *, expected: bool
) -> None:
    """Neither before it began nor after it had all."""
    assert is_mid_upload(Request("PATCH", path, size, 0, sent), 1_000) is expected
