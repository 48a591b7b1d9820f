"""A failure that comes again and again is written now and then, and none is lost in the count."""

from __future__ import annotations

import pytest

from bistro.daemon.recurring import Recurring
from bistro.errors import UnavailableError

FULL = UnavailableError("the disk is full")


class Time:
    """Goes on when the test says so."""

    now_s = 0.0


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def failures(time: Time) -> Recurring:
    return Recurring(every_s=60, now_s=lambda: time.now_s)


def test_the_first_is_written_at_once_and_a_summary_follows(
    failures: Recurring, time: Time
) -> None:
    """Ten a second for two minutes are two lines, and the end has the number of all."""
    lines = []
    for number in range(1_200):
        time.now_s = number / 10
        lines += [count] if (count := failures.came(FULL)) else []
    assert lines == [1, 600]
    assert failures.ended() == 1_200
    assert failures.ended() == 0


def test_what_came_once_has_no_end_of_its_own(failures: Recurring) -> None:
    """A busy database now and then is one line each time, as ever."""
    for _ in range(3):
        assert failures.came(FULL) == 1
        assert failures.ended() == 0


def test_other_words_are_written_at_once_but_not_without_end(failures: Recurring) -> None:
    """A message with a number that changes is one that recurs, too."""
    assert failures.came(FULL) == 1
    assert failures.came(UnavailableError("the clock may be wrong by 3 s")) == 1
    lines = [failures.came(UnavailableError(f"try {number}")) for number in range(100)]
    assert sum(lines) == 6
    assert failures.ended() == 102
