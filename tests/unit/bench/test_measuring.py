"""Medians, directions and doubts of the benchmarks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.bench.measuring import (
    Case,
    Contest,
    Core,
    Measure,
    NotMeasured,
    Result,
    Round,
    Sample,
    Samples,
    compare,
)
from tests.bench.processes import scaled

RATE = Measure("ticket.rate", "tickets/s", needs_busy_core=True)
COST = Measure("ticket.cpu", "us/ticket", is_more_better=False)
BUSY = Core(1.0, 1.0)


def rounds_of(turns: list[str], who: str, *values: float, busy: float | None = None) -> Round:
    """A round that gives one value after the other and writes down whose turn it was."""
    left = iter(values)

    def take() -> Samples:
        turns.append(who)
        value = next(left)
        return {"ticket.rate": Sample(value, busy), "ticket.cpu": Sample(1_000_000 / value)}

    return take


def case_of(ours: Round, floor: Round | None, *measures: Measure) -> Case:
    @contextlib.contextmanager
    def opens() -> Iterator[Contest]:
        yield Contest(ours, floor)

    return Case("ticket", measures or (RATE, COST), opens)


def test_floor_and_ours_take_turns_the_floor_first() -> None:
    """What slows the machine down for a while slows both down."""
    turns: list[str] = []
    case = case_of(rounds_of(turns, "ours", 1, 2, 3), rounds_of(turns, "floor", 1, 2, 3))
    compare(case, rounds=3)
    assert turns == ["floor", "ours"] * 3


def test_a_single_bad_round_does_not_move_the_median() -> None:
    """One disturbance in five is nothing."""
    ours = rounds_of([], "ours", 50, 1, 52, 51, 49)
    floor = rounds_of([], "floor", 100, 101, 99, 9_000, 100)
    rate, cost = compare(case_of(ours, floor), rounds=5)
    assert (rate.value, rate.floor) == (50, 100)
    assert rate.core == Core()
    assert (cost.value, cost.floor) == (20_000, 10_000)


@pytest.mark.parametrize(
    ("measure", "ours", "floor", "ratio"),
    [(RATE, 50.0, 100.0, 0.5), (RATE, 200.0, 100.0, 2.0), (COST, 20.0, 10.0, 0.5)],
)
def test_a_larger_ratio_is_always_better(
    measure: Measure, ours: float, floor: float, ratio: float
) -> None:
    """Twice the cost is half the ratio, twice the rate is twice the ratio."""
    assert Result(measure, ours, floor).ratio == ratio


@pytest.mark.parametrize(
    ("busy", "floor_busy", "count"),
    [(0.95, 1.0, 0), (0.949, 1.0, 1), (1.0, 0.5, 1), (None, 1.0, 1), (0.5, 0.5, 2)],
)
def test_a_rate_counts_only_if_both_cores_were_busy(
    busy: float | None, floor_busy: float, count: int
) -> None:
    """A server that had time left was not at its limit: the client was."""
    result = Result(RATE, 1.0, 2.0, Core(busy, busy), Core(floor_busy, floor_busy))
    assert len(result.doubts) == count


@pytest.mark.parametrize(("own", "count"), [(1.0, 0), (0.86, 0), (0.84, 1), (None, 1)])
def test_a_rate_counts_only_if_the_server_had_the_core(own: float | None, count: int) -> None:
    """A core that is busy with somebody else says nothing about the server."""
    assert len(Result(RATE, 1.0, 2.0, Core(1.0, 1.0), Core(1.0, own)).doubts) == count


def test_a_floor_is_scaled_up_to_a_busy_core_and_never_down() -> None:
    """Its client is at its limit first; what it would do with the rest is held against us."""
    rested = scaled(Sample(60.0, busy=0.9, own=0.6))
    assert (rested.value, rested.is_scaled) == (100.0, True)
    assert Result(RATE, 1.0, 2.0, BUSY, Core.of([rested])).doubts == ()
    for own in (None, 0.0, 1.0, 1.01):
        same = Sample(60.0, busy=0.9, own=own)
        assert scaled(same) == same


def test_a_rate_without_floor_needs_one_busy_core() -> None:
    """There is no second server that could have rested."""
    assert Result(RATE, 1.0, None, BUSY).doubts == ()


def test_costs_count_whatever_the_core_did() -> None:
    """CPU time of a request is the same on a core that rests in between."""
    assert Result(COST, 1.0, 2.0, Core(0.1, 0.1)).doubts == ()


def test_a_goal_is_reached_only_by_a_number_that_counts() -> None:
    """A good ratio against a floor that rested is no success."""
    measure = Measure("ticket.rate", "tickets/s", goal=0.4, needs_busy_core=True)
    assert Result(measure, 40.0, 100.0, BUSY, BUSY).is_reached is True
    assert Result(measure, 39.0, 100.0, BUSY, BUSY).is_reached is False
    assert Result(measure, 90.0, 100.0, BUSY, Core(0.5, 0.5)).is_reached is False
    assert Result(RATE, 90.0, 100.0, BUSY, BUSY).is_reached is None


def test_a_measure_without_floor_has_no_ratio() -> None:
    """Where a machine lacks what to compare with, nothing is invented."""
    (result,) = compare(case_of(rounds_of([], "ours", 3), None, RATE), rounds=1)
    assert (result.value, result.floor, result.ratio) == (3, None, None)


def test_a_row_has_six_fields_and_five_digits() -> None:
    """Programs that read bench.json rely on them."""
    assert Result(COST, 3.0, 1.0).row() == {
        "name": "ticket.cpu",
        "value": 3.0,
        "unit": "us/ticket",
        "floor": 1.0,
        "ratio": 0.33333,
        "goal": None,
    }


def failing(before: Callable[[], None]) -> Round:
    def take() -> Samples:
        before()
        raise NotMeasured("the server ended")

    return take


def test_a_case_that_fails_gives_no_numbers() -> None:
    """Half a measurement is none."""
    turns: list[str] = []
    case = case_of(failing(lambda: turns.append("ours")), rounds_of(turns, "floor", 1, 1))
    with pytest.raises(NotMeasured):
        compare(case, rounds=2)
    assert turns == ["floor", "ours"]
