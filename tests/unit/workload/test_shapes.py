"""Shapes integrate to one, and profiles meet what statistics have published."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.workload.profiles import PROFILES, Name, Profile
from tests.workload.shapes import (
    DAY_S,
    HOUR_S,
    Diurnal,
    HardClose,
    Shape,
    Shock,
    Steady,
    between,
    filing_day,
)

NAMES: tuple[Name, ...] = ("A", "B", "C", "D", "E", "F", "G")
SHAPES: tuple[Shape, ...] = (
    HardClose(DAY_S, DAY_S, 300),
    Diurnal(16.5 * HOUR_S, 0.9),
    Steady(0, DAY_S),
    Shock(3_600, 7_200, 60),
    *(PROFILES[name].shape for name in ("B", "C", "E", "F")),
)
PEAK = (16 * HOUR_S, 17 * HOUR_S)
LAST = (23 * HOUR_S, 24 * HOUR_S)


def per_second(profile: Profile, begin_s: float, end_s: float) -> float:
    return profile.count * between(profile.shape, begin_s, end_s) / (end_s - begin_s)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_rises_from_nothing_to_everything(shape: Shape) -> None:
    """No filing comes before the first second, none after the last, none is taken back."""
    shares = [shape.share(at) for at in range(-600, DAY_S + 601, 600)]
    assert shares[:2] == pytest.approx([0, 0], abs=1e-12)
    assert shares[-2:] == pytest.approx([1, 1])
    assert all(earlier <= later for earlier, later in pairwise(shares))


@pytest.mark.parametrize("name", NAMES)
def test_the_seconds_of_a_profile_add_up_to_all_filings(name: Name) -> None:
    """Whatever is cut out of a profile is a part of its N."""
    profile = PROFILES[name]
    tail = profile.expected(profile.length_s - 600, profile.length_s)
    before = profile.count * profile.shape.share(profile.length_s - 600)
    assert before + sum(tail) == pytest.approx(profile.count)
    assert profile.shape.share(0) == pytest.approx(0, abs=1e-12)


def test_a_hard_close_is_steep_as_time_left() -> None:
    """The rate is as 1 / (time left + c): at the close it is twice that of c before."""
    shape = HardClose(DAY_S, DAY_S, 300)
    close, before = between(shape, DAY_S - 1, DAY_S), between(shape, DAY_S - 301, DAY_S - 300)
    assert close / before == pytest.approx(2, rel=0.01)


def test_a_shock_ramps_up_and_stays() -> None:
    """In the middle of its ramp it has half its rate."""
    shock = Shock(0, 3_600, 60)
    assert between(shock, 29.5, 30.5) / between(shock, 100, 101) == pytest.approx(0.5)
    assert between(shock, 100, 101) == pytest.approx(between(shock, 3_599, 3_600))


@pytest.mark.parametrize(("name", "peak", "last"), [("B", 0.08, 0.04), ("C", 0.072, 0.04)])
def test_a_filing_day_has_the_published_hours(name: Name, peak: float, last: float) -> None:
    """And its peak hour is its peak hour: no other is higher."""
    shape = PROFILES[name].shape
    assert between(shape, *PEAK) == pytest.approx(peak)
    assert between(shape, *LAST) == pytest.approx(last)
    hours = [between(shape, at * HOUR_S, (at + 1) * HOUR_S) for at in range(24)]
    assert max(hours) == hours[16]


def test_an_impossible_day_is_refused() -> None:
    """A rhythm cannot swing below nothing."""
    with pytest.raises(ValueError, match="no day has"):
        filing_day(peak_hour=0.2, last_hour=0.04, peak_s=16.5 * HOUR_S, delay_s=HOUR_S)


def test_national_peaks_are_met() -> None:
    """The last column of the table of profiles, on average."""
    agency, medium, large = PROFILES["A"], PROFILES["B"], PROFILES["C"]
    assert per_second(agency, agency.length_s - 60, agency.length_s) == pytest.approx(1.3, abs=0.3)
    assert per_second(medium, *PEAK) == pytest.approx(17, abs=0.5)
    assert per_second(large, *PEAK) == pytest.approx(145, abs=1)
    assert per_second(PROFILES["E"], 21.5 * HOUR_S, 22 * HOUR_S) > 60
    assert per_second(PROFILES["F"], 0, 600) == pytest.approx(150)
    assert per_second(PROFILES["G"], 0, 8 * HOUR_S) == pytest.approx(139, abs=1)


def test_a_hard_close_has_two_percent_in_its_last_minute() -> None:
    """One million filings: 335 in each of the last seconds."""
    profile = PROFILES["D"]
    last = (profile.length_s - 60, profile.length_s)
    assert between(profile.shape, *last) == pytest.approx(0.02, abs=0.0005)
    assert per_second(profile, *last) == pytest.approx(335, abs=1)
