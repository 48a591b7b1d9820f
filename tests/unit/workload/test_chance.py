"""Arrivals are as bursty as real ones; sizes and lines have the published quantiles."""

from __future__ import annotations

import statistics
from collections import Counter

import pytest

from tests.workload.chance import (
    KB,
    MB,
    SIZE_LIMIT,
    bursty,
    draw_line,
    draw_size,
    moments,
    seeded,
)
from tests.workload.profiles import PROFILES
from tests.workload.shapes import HOUR_S

MANY = 40_000


def test_the_same_seed_gives_the_same_draws_and_another_gives_others() -> None:
    """A run can be repeated; purposes do not disturb each other."""
    assert seeded(1, "x").random() == seeded(1, "x").random()
    assert len({seeded(seed, what).random() for seed in (1, 2) for what in ("x", "y")}) == 4


def test_arrivals_of_a_profile_are_repeatable() -> None:
    """Moment by moment."""
    first, second, other = (
        list(PROFILES["B"].arrivals(seed, *(16 * HOUR_S, 16 * HOUR_S + 60))) for seed in (1, 1, 2)
    )
    assert first == second != other


def test_a_day_of_arrivals_integrates_to_all_filings() -> None:
    """760,000 give or take what chance gives and takes: five standard deviations."""
    profile = PROFILES["B"]
    count = sum(1 for _ in profile.arrivals(7))
    deviation = (profile.count + sum(x * x for x in profile.expected(0, 86_400)) / 4) ** 0.5
    assert abs(count - profile.count) < 5 * deviation


@pytest.mark.parametrize("seed", range(3))
def test_a_peak_hour_is_as_uneven_as_those_that_were_published(seed: int) -> None:
    """Peak minute to hour mean 1.04 to 1.15, peak second 1.8 to 4, with room for chance."""
    arrivals = [int(at) for at in PROFILES["C"].arrivals(seed, 16 * HOUR_S, 17 * HOUR_S)]
    seconds, minutes = Counter(arrivals), Counter(at // 60 for at in arrivals)
    mean = len(arrivals) / HOUR_S
    assert 1.04 <= max(minutes.values()) / 60 / mean <= 1.3
    assert 1.8 <= max(seconds.values()) / mean <= 5


def test_seconds_vary_more_than_chance_alone_would() -> None:
    """Gamma-mixed Poisson: the variance is mean + mean²/4."""
    chance = seeded(3, "variance")
    counts = Counter(int(at) for at in moments(bursty([100.0] * 5_000, chance), chance))
    found = [counts[second] for second in range(5_000)]
    assert statistics.fmean(found) == pytest.approx(100, rel=0.03)
    assert statistics.variance(found) == pytest.approx(100 + 100**2 / 4, rel=0.1)


def test_a_total_can_be_kept() -> None:
    """What is conditional on its total has it."""
    rates = bursty([3.0, 5.0, 0.0, 2.0], seeded(1, "total"), keep_total=True)
    assert sum(rates) == pytest.approx(10)
    assert bursty([0.0, 0.0], seeded(1, "none"), keep_total=True) == [0, 0]


def test_a_fixed_second_has_exactly_its_filings() -> None:
    """And every second keeps its arrivals to itself, in order."""
    found = list(moments([2.0, 0.0, 2.0], seeded(5, "fixed"), fixed={1: 570}))
    assert found == sorted(found)
    assert sum(1 <= at < 2 for at in found) == 570
    assert all(0 <= at < 3 for at in found)


def test_sizes_have_the_published_quantiles() -> None:
    """Median 16 KB, 99th percentile 7 MB, mean about 0.95 MB, nothing above 2 GB."""
    chance = seeded(11, "sizes")
    sizes = sorted(draw_size(chance) for _ in range(MANY))
    assert sizes[MANY // 2] == pytest.approx(16 * KB, rel=0.15)
    assert 4 * MB < sizes[MANY * 99 // 100] < 40 * MB
    assert 0.75 * MB < statistics.fmean(sizes) < 1.25 * MB
    assert 1 <= sizes[0] <= sizes[-1] <= SIZE_LIMIT


def test_structured_data_alone_is_small() -> None:
    """Median 10 KB, nine in ten at most 33 KB, mean 15 KB."""
    chance = seeded(12, "sizes")
    sizes = sorted(draw_size(chance, only_structured=True) for _ in range(MANY))
    assert sizes[MANY // 2] == pytest.approx(10 * KB, rel=0.05)
    assert sizes[MANY * 9 // 10] == pytest.approx(33 * KB, rel=0.05)
    assert statistics.fmean(sizes) == pytest.approx(15_400, rel=0.05)


def test_lines_have_the_published_quantiles() -> None:
    """Median 10 Mbit/s, one in ten at most 1, two in a hundred lossy, one leaves."""
    chance = seeded(13, "lines")
    lines = [draw_line(chance) for _ in range(MANY)]
    uplinks = sorted(line.uplink_bits_s for line in lines)
    assert uplinks[MANY // 2] == pytest.approx(10 * MB, rel=0.05)
    assert uplinks[MANY // 10] == pytest.approx(1 * MB, rel=0.1)
    assert sum(line.loss == 0.05 for line in lines) / MANY == pytest.approx(0.02, abs=0.004)
    assert sum(line.away_s > 0 for line in lines) / MANY == pytest.approx(0.01, abs=0.003)
    assert all(20 <= line.rtt_ms <= 300 and line.away_s <= 600 for line in lines)
