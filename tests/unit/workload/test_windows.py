"""Windows hold the peaks that must be met, with the deadline where it belongs."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.workload.filings import READS, filings_of
from tests.workload.windows import REPLAYED, Replayed, Window, window_of


def counted(window: Window, seed: int = 1) -> Counter[int]:
    return Counter(int(at) for at in window.arrivals(seed))


@pytest.mark.parametrize("name", REPLAYED)
def test_a_window_is_the_same_in_every_process(name: Replayed) -> None:
    """Client and judge draw it each for themselves."""
    first, second = (list(filings_of(window_of(name, seconds=12, scale=0.1), 5)) for _ in "ab")
    assert first == second
    assert first != list(filings_of(window_of(name, seconds=12, scale=0.1), 6))
    assert [one.number for one in first] == list(range(len(first)))
    assert len({one.commitment for one in first}) == len(first)


@pytest.mark.parametrize("name", REPLAYED)
@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_what_comes_is_what_is_expected(name: Replayed, scale: float) -> None:
    """On average over seeds; scale is a factor of everything."""
    window = window_of(name, seconds=20, scale=scale)
    expected = sum(window.expected) + window.backlog
    found = [len(window.arrivals(seed)) for seed in range(20)]
    assert sum(found) / len(found) == pytest.approx(expected, rel=0.08)
    whole = window_of(name, seconds=20)
    assert expected == pytest.approx(scale * (sum(whole.expected) + whole.backlog), rel=0.02)


def test_the_peak_minute_has_its_peak_second() -> None:
    """9,573 filings in a minute, 570 of them in one second."""
    window = window_of("C")
    seconds = counted(window)
    assert window.length_s == window.closes_s == 60
    assert seconds[30] == 570
    assert sum(window.expected) == pytest.approx(9_573)
    assert seconds.total() == pytest.approx(9_573, rel=0.05)


def test_the_last_minute_bursts_around_its_deadline() -> None:
    """Before the deadline, in the grace, and after both, when it is too late."""
    window = window_of("D")
    seconds = counted(window)
    assert (window.closes_s, window.length_s) == (60, 62)
    assert [seconds[at] for at in (59, 60, 61)] == [1_200] * 3
    assert sum(window.expected[:59]) / 59 == pytest.approx(335, rel=0.02)


def test_some_come_before_the_opening_bell() -> None:
    """They are told when it rings."""
    window = window_of("F", seconds=30)
    seconds = counted(window)
    assert (window.opens_s, window.length_s, window.closes_s) == (5, 35, 35)
    assert sum(seconds[at] for at in range(5)) > 0
    assert sum(window.expected[5:]) / 30 == pytest.approx(150)


def test_who_waits_for_a_dead_service_asks_while_it_is_dead() -> None:
    """The backlog comes besides those who would have come anyway."""
    window = window_of("G")
    outage = window.outage
    assert outage is not None
    assert (outage.killed_s, outage.started_s) == (12, 24)
    seconds = counted(window)
    dead = sum(seconds[at] for at in range(12, 24))
    assert dead == pytest.approx(window.backlog + 12 * 139, rel=0.1)
    assert window.backlog == pytest.approx(25 * 139, rel=0.01)


@pytest.mark.parametrize(("seconds", "scale"), [(9, 1.0), (60, 0.0), (60, float("inf"))])
def test_a_window_without_content_is_refused(seconds: int, scale: float) -> None:
    """Too short to hold its accident, or empty, or endless."""
    with pytest.raises(ValueError, match="expected 10 s or more"):
        window_of("D", seconds=seconds, scale=scale)


def test_filers_have_addresses_of_their_own_and_read_afterwards() -> None:
    """A server that counts by address sees many filers, none of which reads before it asks."""
    filings = list(filings_of(window_of("C", seconds=20), 1))
    assert len({one.address for one in filings}) > 0.9 * len(filings)
    assert all(one.address.startswith("127.1.") for one in filings)
    assert all(READS[0] <= len(one.reads_s) <= READS[1] for one in filings)
    assert all(0.5 <= at <= 20 for one in filings for at in one.reads_s)
    assert filings == sorted(filings, key=lambda one: one.due_s)
