"""Points in time and durations, as values and as texts for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import FormatError
from bistro.instant import (
    MAX_INSTANT,
    UnixMillis,
    format_duration,
    format_rfc3339,
    parse_rfc3339,
)


@given(st.integers(0, MAX_INSTANT).map(UnixMillis))
def test_reading_undoes_writing_to_the_millisecond(at: UnixMillis) -> None:
    """No time changes on its way to people and back."""
    assert parse_rfc3339(format_rfc3339(at)) == at


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_790_000_000_042, "2026-09-21T14:13:20.042Z"),
        (MAX_INSTANT, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_time_is_written_in_utc_with_three_decimals(at: int, text: str) -> None:
    """Every time has one text, which sorts as the times do."""
    assert format_rfc3339(UnixMillis(at)) == text


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:01Z", 1_000),
        ("1970-01-01 00:00:01.5Z", 1_500),
        ("1970-01-01T00:00:00.001999Z", 1),
    ],
)
def test_any_offset_is_understood_and_fractions_are_cut(text: str, at: int) -> None:
    """People write times of their own zone; nobody is late by rounding up."""
    assert parse_rfc3339(text) == at


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01T00:00:00Z", "17:30"])
def test_what_is_no_time_is_malformed(text: str) -> None:
    """The message shows what a time looks like."""
    with pytest.raises(FormatError, match="expected RFC 3339 such as"):
        parse_rfc3339(text)


def test_a_time_without_offset_is_malformed() -> None:
    """A deadline in nobody's time zone would be everybody's dispute."""
    with pytest.raises(FormatError, match="no offset given"):
        parse_rfc3339("2026-11-22T17:30:00")


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (0, "0 ms"),
        (850, "850 ms"),
        (1_000, "1 s"),
        (60_000, "1 min"),
        (250_000, "4 min 10 s"),
        (3_600_000, "1 h"),
        (3_601_000, "1 h"),
        (183_600_000, "2 d 3 h"),
        (-5_000, "-5 s"),
    ],
)
def test_a_duration_is_written_as_people_say_it(duration_ms: int, text: str) -> None:
    """Two units tell enough."""
    assert format_duration(duration_ms) == text
