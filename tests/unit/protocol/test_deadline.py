"""On time, staging, opening."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import DeadlinePassedError, NotOpenError
from bistro.instant import MAX_INSTANT, UnixMillis
from bistro.protocol.deadline import (
    Ruling,
    is_on_time,
    latest_on_time,
    may_open,
    may_stage,
    terms_in_force,
    unsealed_from,
)
from tests.unit.protocol.builders import (
    CLOSES,
    GRACE_MS,
    OPENS,
    REPAIR_BY,
    STAGE_BY,
    make_terms,
    successor,
)

LAST = CLOSES + GRACE_MS


def test_on_time_includes_the_last_millisecond_of_grace() -> None:
    """``time <= closes + grace_ms``, and not one millisecond more."""
    terms = make_terms()
    assert latest_on_time(terms) == LAST
    assert is_on_time(UnixMillis(LAST), terms)
    assert not is_on_time(UnixMillis(LAST + 1), terms)


def test_the_terms_before_a_ticket_in_the_log_rule_it() -> None:
    """An extension never makes an earlier late ticket good, nor a later one bad."""
    first = make_terms()
    second = successor(first, closes=UnixMillis(CLOSES + 5_000))
    versions = [(0, first), (7, second)]
    assert terms_in_force(1, versions) is first
    assert terms_in_force(6, versions) is first
    assert terms_in_force(8, versions) is second
    with pytest.raises(ValueError, match="no terms"):
        terms_in_force(0, versions)


@pytest.mark.parametrize(("repair", "until"), [(False, STAGE_BY), (True, REPAIR_BY)])
def test_staging_ends_with_stage_by_and_repairs_with_repair_by(
    *, repair: bool, until: UnixMillis
) -> None:
    """The last moment is inside; before the call opens nothing is staged."""
    terms = make_terms()
    assert may_stage(until, terms, repair=repair).allowed
    late = may_stage(UnixMillis(until + 1), terms, repair=repair)
    assert (late.allowed, late.allowed_from) == (False, None)
    with pytest.raises(DeadlinePassedError):
        late.require()
    early = may_stage(UnixMillis(OPENS - 1), terms, repair=repair)
    assert (early.allowed, early.allowed_from) == (False, OPENS)
    with pytest.raises(NotOpenError) as caught:
        early.require()
    assert "1970-01-01T00:16:40.000Z" in caught.value.hint


@pytest.mark.parametrize(
    ("sealed_until", "first"),
    [("none", OPENS), ("closes", LAST + 1), ("stage_by", STAGE_BY + 1)],
)
def test_envelopes_stay_sealed_until_the_terms_say(sealed_until: str, first: int) -> None:
    """Nobody at the destination reads a filing before that moment."""
    assert unsealed_from(make_terms(sealed_until=sealed_until)) == first


@pytest.mark.parametrize(
    ("sealed_until", "unstaged", "uncollected", "first"),
    [
        ("stage_by", 0, 0, STAGE_BY + 1),
        ("stage_by", 5, 0, STAGE_BY + 1),
        ("stage_by", 0, 1, REPAIR_BY + 1),
        ("closes", 0, 0, LAST + 1),
        ("closes", 1, 0, STAGE_BY + 1),
        ("none", 0, 0, REPAIR_BY + 1),
    ],
)
def test_the_call_opens_when_nothing_more_can_come(
    sealed_until: str, unstaged: int, uncollected: int, first: int
) -> None:
    """Nothing is admitted after the opening entry, so it waits for all that still may come."""
    terms = make_terms(sealed_until=sealed_until)

    def rule(now: int, *, is_closed: bool = True) -> Ruling:
        return may_open(
            UnixMillis(now),
            terms,
            is_closed=is_closed,
            unstaged_count=unstaged,
            uncollected_count=uncollected,
        )

    assert rule(first).allowed
    early = rule(first - 1)
    assert (early.allowed, early.allowed_from) == (False, first)
    assert not rule(first, is_closed=False).allowed
    assert "closed entry" in rule(first, is_closed=False).reason


@pytest.mark.parametrize("sealed_until", ["stage_by", "closes", "none"])
def test_terms_that_end_with_the_last_date_are_judged(sealed_until: str) -> None:
    """No date follows it: a ruling about it must still find words."""
    last = UnixMillis(MAX_INSTANT)
    terms = make_terms(stage_by=last, repair_by=last, sealed_until=sealed_until)
    ruling = may_open(
        UnixMillis(OPENS), terms, is_closed=True, unstaged_count=1, uncollected_count=1
    )
    assert (ruling.allowed, ruling.allowed_from) == (False, last)
    assert unsealed_from(terms) <= last
    with pytest.raises(NotOpenError):
        ruling.require()


@given(st.integers(0, REPAIR_BY + 10_000), st.integers(0, 2), st.integers(0, 2))
def test_a_ruling_that_names_a_moment_allows_it_then(
    now: int, unstaged: int, uncollected: int
) -> None:
    """What people are told to wait for is true, provided the call was closed by then."""
    terms = make_terms()
    counts = {"unstaged_count": unstaged, "uncollected_count": uncollected}
    ruling = may_open(UnixMillis(now), terms, is_closed=True, **counts)
    assert ruling.allowed_from is not None
    assert ruling.allowed == (now >= ruling.allowed_from)
    assert may_open(ruling.allowed_from, terms, is_closed=True, **counts).allowed
