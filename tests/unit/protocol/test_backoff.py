"""Waiting before asking again."""

from __future__ import annotations

import random  # noqa: TID251 - seeded in every test

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.protocol.backoff import Backoff


@given(st.integers(-1, 200), st.integers(0, 2**32))
def test_a_delay_stays_below_its_ceiling(attempt: int, seed: int) -> None:
    """Full jitter: anything from nothing to the ceiling, which never passes the cap."""
    policy = Backoff(first_ms=100, cap_ms=5_000)
    delay = policy.delay_ms(attempt, random.Random(seed))
    assert 0 <= delay <= policy.ceiling_ms(attempt) <= 5_000


def test_the_ceiling_doubles_until_the_cap() -> None:
    """The first ceiling is the first delay's."""
    policy = Backoff(first_ms=100, cap_ms=1_000)
    assert [policy.ceiling_ms(n) for n in range(6)] == [100, 200, 400, 800, 1_000, 1_000]


@given(st.floats(0, 3_600), st.integers(0, 2**32))
def test_what_the_peer_asked_for_is_a_floor_also_above_the_cap(asked_s: float, seed: int) -> None:
    """A peer that names a time is never asked earlier, and not by all at once."""
    delay = Backoff(first_ms=100, cap_ms=200).delay_ms(
        0, random.Random(seed), retry_after_s=asked_s
    )
    assert 0 <= delay - round(asked_s * 1_000) <= 100


def test_the_same_chance_gives_the_same_delays() -> None:
    """Chance is passed in: a run can be repeated."""
    first, second = random.Random(7), random.Random(7)
    policy = Backoff()
    assert [policy.delay_ms(n, first) for n in range(9)] == [
        policy.delay_ms(n, second) for n in range(9)
    ]


@pytest.mark.parametrize(("first", "cap"), [(0, 10), (-1, 10), (11, 10)])
def test_a_policy_that_could_not_wait_is_refused(first: int, cap: int) -> None:
    """A zero delay would make a busy loop."""
    with pytest.raises(ValueError, match="first_ms"):
        Backoff(first_ms=first, cap_ms=cap)
