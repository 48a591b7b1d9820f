"""Quiet hours: spans of the day in a time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import FormatError
from bistro.instant import UnixMillis, format_rfc3339
from bistro.protocol.quiet_hours import QuietHours

BERLIN = ZoneInfo("Europe/Berlin")
ZONES: list[tzinfo] = [UTC, BERLIN]


def at(text: str) -> UnixMillis:
    return UnixMillis(int(datetime.fromisoformat(text).timestamp() * 1_000))


def end(spans: list[str], now: str, zone: tzinfo = UTC) -> str | None:
    found = QuietHours.parse(spans, zone).end_after(at(now))
    return None if found is None else format_rfc3339(found)


def test_a_span_within_a_day_begins_with_its_first_minute_and_ends_before_its_last() -> None:
    """The first minute is inside, the last is outside."""
    assert end(["08:00-18:00"], "2026-11-23T07:59:59Z") is None
    assert end(["08:00-18:00"], "2026-11-23T08:00:00Z") == "2026-11-23T18:00:00.000Z"
    assert end(["08:00-18:00"], "2026-11-23T17:59:59Z") == "2026-11-23T18:00:00.000Z"
    assert end(["08:00-18:00"], "2026-11-23T18:00:00Z") is None


def test_a_span_over_midnight_ends_on_the_next_day() -> None:
    """Before midnight it is tomorrow's end, after midnight today's."""
    assert end(["22:00-06:00"], "2026-11-23T23:00:00Z") == "2026-11-24T06:00:00.000Z"
    assert end(["22:00-06:00"], "2026-11-24T05:00:00Z") == "2026-11-24T06:00:00.000Z"
    assert end(["22:00-06:00"], "2026-11-24T12:00:00Z") is None


def test_spans_are_meant_in_their_zone() -> None:
    """08:00 in Berlin is 07:00 UTC in winter and 06:00 in summer."""
    assert end(["08:00-09:00"], "2026-11-23T07:30:00Z", BERLIN) == "2026-11-23T08:00:00.000Z"
    assert end(["08:00-09:00"], "2026-07-23T06:30:00Z", BERLIN) == "2026-07-23T07:00:00.000Z"


def test_spans_that_touch_are_one() -> None:
    """Whoever comes back at the end told finds it over."""
    spans = ["22:00-00:00", "00:00-06:00", "05:00-07:00"]
    assert end(spans, "2026-11-23T22:30:00Z") == "2026-11-24T07:00:00.000Z"


def test_a_day_without_a_gap_has_an_end_all_the_same() -> None:
    """Nobody is told to come back later than the next day or so."""
    found = QuietHours.parse(["00:00-12:00", "12:00-00:00"]).end_after(at("2026-11-23T01:00:00Z"))
    assert found is not None
    assert found - at("2026-11-23T01:00:00Z") <= timedelta(days=2) // timedelta(milliseconds=1)


@pytest.mark.parametrize("wrong", ["", "8-18", "08:00-08:00", "24:00-06:00", "08:60-09:00", "a"])
def test_what_is_no_span_is_refused(wrong: str) -> None:
    """Also an empty one: nobody can tell whether it means nothing or all day."""
    with pytest.raises(FormatError):
        QuietHours.parse([wrong])


@given(
    st.integers(0, 1_439),
    st.integers(0, 1_439),
    st.integers(0, 4_102_444_800_000),
    st.sampled_from(ZONES),
)
def test_an_end_is_ahead_and_outside(begins: int, ends: int, now: int, zone: tzinfo) -> None:
    """Whatever the span: its end is later than now, and not quiet any more."""
    if begins == ends:
        return
    text = "-".join(f"{minute // 60:02d}:{minute % 60:02d}" for minute in (begins, ends))
    hours = QuietHours.parse([text], zone)
    found = hours.end_after(UnixMillis(now))
    if found is not None:
        assert now < found <= now + 26 * 3_600_000
