"""How often a filer's program looks while it stays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bistro_client.rhythm import FIRST_MS, LONGEST_MS, Rhythm

DAY_MS = 86_400_000


def test_looks_become_rare_while_nothing_happens() -> None:
    """Ten looks are enough for more than a day; with news it begins again."""
    rhythm = Rhythm()
    pauses = [rhythm.pause_ms(is_quiet=number > 0, left_ms=30 * DAY_MS) for number in range(10)]
    assert pauses[0] == FIRST_MS
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_MS
    assert sum(pauses) > DAY_MS
    assert rhythm.pause_ms(is_quiet=False, left_ms=30 * DAY_MS) == FIRST_MS


@given(
    st.lists(st.booleans(), max_size=100), st.one_of(st.none(), st.integers(-DAY_MS, 60 * DAY_MS))
)
def test_nobody_sleeps_through_the_time_for_repairs(looks: list[bool], left_ms: int | None) -> None:
    """A pause is an eighth of what is left, or so short that it takes nothing from it."""
    rhythm = Rhythm()
    for is_quiet in looks:
        pause_ms = rhythm.pause_ms(is_quiet=is_quiet, left_ms=left_ms)
        assert FIRST_MS <= pause_ms <= LONGEST_MS
        assert pause_ms == FIRST_MS or left_ms is None or pause_ms <= left_ms / 8


def test_whoever_says_how_often_gets_that() -> None:
    """As often, news or not."""
    rhythm = Rhythm(1_000)
    assert {rhythm.pause_ms(is_quiet=True, left_ms=None) for _ in range(9)} == {1_000}
