"""The policy as a whole, in simulated time: buckets at the door, turns inside."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random  # noqa: TID251 - seeded

import pytest

from bistro.daemon.buckets import Buckets, Rate
from bistro.daemon.turns import Turns

TICK_S = 0.010
TICKS = 600
MODEST = [f"modest {number}" for number in range(40)]
CAPACITY = 100
"""Items that are worked on in a tick: 10,000 a second."""

SHARE = 2.5
"""Items that each address may have in a tick; all 40 modest ones fill the capacity by it."""

GREED = 50
DEMAND = 0.5 * SHARE
"""What a modest one asks for on average."""


@dataclass
class Result:
    """How long each served item waited, in ticks, and how many were turned away."""

    waited: dict[str, list[int]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)

    def p99(self, names: list[str]) -> int:
        """Of all items of some, so many ticks."""
        found = sorted(ticks for name in names for ticks in self.waited.get(name, []))
        return found[int(0.99 * (len(found) - 1))]

    def count(self, names: list[str]) -> int:
        """Items of some that were turned away."""
        return sum(self.refused.get(name, 0) for name in names)


def simulate(demands: dict[str, float], *, rate: Rate, seed: int = 1) -> Result:
    """Let everybody ask at random, with a mean demand in each tick, and serve in turns."""
    chance, result = Random(seed), Result()
    buckets: Buckets[str] = Buckets(rate)
    turns: Turns[tuple[str, int]] = Turns(4_096)
    for tick in range(TICKS):
        asking = list(demands)
        chance.shuffle(asking)
        for name in asking:
            # A whole number whose mean is the demand, and which comes in crowds.
            count = int(chance.expovariate(1 / demands[name]) + chance.random())
            for _ in range(count):
                is_let_in = not buckets.of(name).take(1, tick * TICK_S)
                if is_let_in and turns.has_room(name, 1):
                    turns.add(name, [(name, tick)])
                else:
                    result.refused[name] = result.refused.get(name, 0) + 1
        for name, since in turns.take(CAPACITY):
            result.waited.setdefault(name, []).append(tick - since)
    return result


@pytest.mark.parametrize("greedy_count", [1, 3])
@pytest.mark.parametrize(
    "rate",
    [Rate(SHARE / TICK_S, 1_000), Rate(1e9, 10**9)],
    ids=["with buckets", "by turns alone"],
)
def test_a_greedy_one_at_fifty_times_its_share_is_felt_by_nobody(
    rate: Rate, greedy_count: int
) -> None:
    """The others' p99 at most doubles, and none of theirs is turned away."""
    modest = dict.fromkeys(MODEST, DEMAND)
    greedy = [f"greedy {number}" for number in range(greedy_count)]
    alone = simulate(modest, rate=rate)
    beside = simulate({**modest, **dict.fromkeys(greedy, GREED * SHARE)}, rate=rate)
    assert alone.count(MODEST) == beside.count(MODEST) == 0
    assert beside.p99(MODEST) <= max(1, 2 * alone.p99(MODEST))
    assert beside.count(greedy) > 100 * TICKS * greedy_count // 2
    served = sum(map(len, beside.waited.values()))
    assert served > 0.9 * CAPACITY * TICKS or rate.per_s < 1e9, "what is left over is used"


def test_an_office_of_two_hundred_behind_one_address_is_not_starved() -> None:
    """Each asks within two seconds of the deadline; the bucket's burst is for that."""
    office = {"office": 200 / (2 / TICK_S)}
    demands = {**dict.fromkeys(MODEST, DEMAND), **office, "greedy": GREED * SHARE}
    result = simulate(demands, rate=Rate(SHARE / TICK_S, 1_000))
    assert result.count(["office"]) == 0
    assert result.p99(["office"]) <= 1


def test_a_crowd_of_greedy_ones_gets_equal_shares() -> None:
    """When everybody wants everything, nobody gets more than the others."""
    names = [f"greedy {number}" for number in range(10)]
    result = simulate(dict.fromkeys(names, 100.0), rate=Rate(1e9, 10**9))
    counts = [len(result.waited[name]) for name in names]
    assert max(counts) - min(counts) <= 0.02 * max(counts)
