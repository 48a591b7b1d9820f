"""Taking turns in a bounded queue."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bistro.daemon.turns import Turns

ASKED = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 30)), max_size=30)


def test_one_alone_gets_everything_in_order() -> None:
    """While nobody else waits, it is a queue like any other."""
    turns: Turns[int] = Turns(100)
    turns.add("a", range(50))
    assert turns.take(10) == list(range(10))
    assert turns.take(100) == list(range(10, 50))
    assert turns.take(1) == []


def test_a_crowd_does_not_stand_before_others() -> None:
    """Of a batch everybody gets the same, and what one leaves goes to the rest."""
    turns: Turns[str] = Turns(10_000)
    turns.add("greedy", ["greedy"] * 4_000)
    for number in range(10):
        turns.add(f"modest {number}", [f"modest {number}"] * 3)
    found = Counter(turns.take(100))
    assert found.pop("greedy") == 70
    assert set(found.values()) == {3}


def test_whoever_had_no_turn_begins_the_next() -> None:
    """More of them than a batch holds: all are served within two."""
    turns: Turns[int] = Turns(1_000)
    for number in range(150):
        turns.add(str(number), [number] * 2)
    first, second = turns.take(100), turns.take(100)
    assert set(first) | set(second) == set(range(150))


def test_there_is_always_room_for_another() -> None:
    """Nobody may have more waiting than there is room left, however many are greedy."""
    turns: Turns[int] = Turns(1_000)
    for who in ("a", "b", "c"):
        while turns.has_room(who, 1):
            turns.add(who, [0])
    assert len(turns) < 1_000
    assert turns.has_room("another", 1)
    assert not turns.has_room("a", 1)
    turns.take(len(turns))
    assert turns.has_room("a", 500)
    assert not turns.has_room("a", 1_001)


@given(ASKED, st.integers(1, 40))
def test_everything_comes_out_once_and_in_its_own_order(
    asked: list[tuple[str, int]], size: int
) -> None:
    """Whatever is added, by whomever, and however it is taken."""
    turns: Turns[tuple[str, int]] = Turns(10_000)
    counts: Counter[str] = Counter()
    for who, count in asked:
        turns.add(who, [(who, counts[who] + number) for number in range(count)])
        counts[who] += count
    taken: list[tuple[str, int]] = []
    while batch := turns.take(size):
        assert len(batch) <= size
        taken += batch
    assert len(turns) == 0
    for who, count in counts.items():
        assert [number for mine, number in taken if mine == who] == list(range(count))
