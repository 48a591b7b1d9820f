"""Which relay gets which fragment."""

from __future__ import annotations

import random  # noqa: TID251 - seeded in every test
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import UnavailableError
from bistro.protocol.placement import (
    AnyRelay,
    Nearest,
    Placement,
    Policy,
    RelayProbe,
    TwoChoices,
)


def probes_of(*operators: str) -> list[RelayProbe]:
    return [
        RelayProbe(name=f"r{number}.example", operator=operator)
        for number, operator in enumerate(operators)
    ]


@given(
    st.integers(1, 6),
    st.integers(0, 6),
    st.lists(st.sampled_from("abcde"), min_size=1, max_size=8),
    st.integers(0, 2**32),
)
def test_no_operator_can_lose_an_envelope_where_that_can_be_had(
    k: int, parity: int, operators: list[str], seed: int
) -> None:
    """At most n - k fragments with one operator, whenever the call names operators enough."""
    rule = Placement(k=k, n=k + parity, fragment_size=1)
    probes = probes_of(*operators)
    placed = rule.place(probes, random.Random(seed))
    assert len(placed) == rule.n
    most = max(Counter(probe.operator for probe in placed).values())
    operator_count = len(set(operators))
    if parity and operator_count * parity >= rule.n:
        assert most <= parity
    else:
        assert most <= max(rule.operator_cap(probes), -(-rule.n // operator_count))


def test_a_fragment_waits_rather_than_join_others_at_one_operator() -> None:
    """One of three relays is down: with n - k = 1 the third fragment goes nowhere now."""
    good, other, silent = (
        RelayProbe("good.example", "a"),
        RelayProbe("other.example", "b"),
        RelayProbe("silent.example", "c", latency_ms=None),
    )
    rule, chance = Placement(k=2, n=3, fragment_size=1), random.Random(5)
    with pytest.raises(UnavailableError, match="more than 1"):
        rule.place_one([good, other, silent], chance, others=[good, other])
    found = rule.place_one([good, silent], chance, others=[good], may_exceed=True)
    assert found is good


def test_two_operators_for_three_fragments_share_them() -> None:
    """Where the call names too few operators, the third fragment is better held than not."""
    rule = Placement(k=2, n=3, fragment_size=1)
    placed = rule.place(probes_of("a", "b"), random.Random(6))
    assert sorted(Counter(probe.operator for probe in placed).values()) == [1, 2]


def test_a_relay_that_is_not_to_be_asked_is_not_asked() -> None:
    """It asked for time, or was tried a moment ago."""
    one, two = probes_of("a", "b")
    rule = Placement(k=1, n=2, fragment_size=1)
    for seed in range(10):
        assert rule.place_one([one, two], random.Random(seed), without={one.name}) is two


@given(st.integers(1, 5), st.integers(0, 2**32))
def test_fragments_go_to_different_relays_while_there_are_some(n: int, seed: int) -> None:
    """Losing one relay loses one fragment."""
    rule = Placement(k=1, n=n, fragment_size=1)
    placed = rule.place(probes_of("a", "b", "c", "d", "e"), random.Random(seed))
    assert len({probe.name for probe in placed}) == n


def test_the_cheaper_of_two_wins() -> None:
    """Latency counts, and load counts like latency."""
    near = RelayProbe("near.example", "a", latency_ms=5.0)
    far = RelayProbe("far.example", "b", latency_ms=200.0)
    busy = RelayProbe("busy.example", "c", latency_ms=5.0, load=1.0)
    rule = Placement(k=1, n=1, fragment_size=1)
    for seed in range(20):
        assert rule.place_one([near, far], random.Random(seed)) is near
        assert rule.place_one([near, busy], random.Random(seed)) is near


def test_weights_steer_who_is_drawn() -> None:
    """A relay of ten times the weight gets most of the fragments."""
    light = RelayProbe("light.example", "a", weight=1)
    other = RelayProbe("other.example", "b", weight=1)
    heavy = RelayProbe("heavy.example", "c", weight=10)
    rule, chance = Placement(k=1, n=1, fragment_size=1), random.Random(1)
    drawn = Counter(rule.place_one([light, other, heavy], chance).name for _ in range(600))
    assert drawn["heavy.example"] > 400


def test_load_spreads_better_than_by_one_choice() -> None:
    """Not every client is sent to the same best relay, and none is left out."""
    relays = [RelayProbe(f"r{i}.example", f"o{i}", latency_ms=10.0 + i) for i in range(8)]
    rule, chance = Placement(k=1, n=1, fragment_size=1), random.Random(2)
    drawn = Counter(rule.place_one(relays, chance).name for _ in range(4_000))
    assert max(drawn.values()) < 4_000 / 3
    assert len(drawn) >= 7


@pytest.mark.parametrize(
    "useless",
    [
        RelayProbe("silent.example", "a", latency_ms=None),
        RelayProbe("drained.example", "a", weight=0),
        RelayProbe("full.example", "a", free_size=99),
    ],
)
def test_relays_that_cannot_take_it_are_passed_over(useless: RelayProbe) -> None:
    """Silent, drained or full ones; if there is no other the client is told what to do."""
    good = RelayProbe("good.example", "b", free_size=100)
    rule = Placement(k=1, n=2, fragment_size=100)
    assert rule.place_one([useless, good], random.Random(3)) is good
    with pytest.raises(UnavailableError) as caught:
        rule.place([useless], random.Random(3))
    assert "resume" in caught.value.hint


def test_a_relay_that_failed_is_taken_only_when_there_is_no_other() -> None:
    """It may work again, but not first."""
    one, two = probes_of("a", "b")
    rule = Placement(k=1, n=1, fragment_size=1)
    assert rule.place_one([one, two], random.Random(4), avoid={one.name}) is two
    assert rule.place_one([one], random.Random(4), avoid={one.name}) is one


def test_rounding_never_draws_nobody() -> None:
    """A chooser at the very end of its range draws the last relay."""

    class Last:
        def random(self) -> float:
            return 1.0

    one, two = probes_of("a", "b")
    assert Placement(k=1, n=1, fragment_size=1).place_one([one, two], Last()) in (one, two)


# --- policies

POLICIES: dict[str, Policy] = {
    "any": AnyRelay(),
    "nearest": Nearest(),
    "nearest below a load": Nearest(load_limit=0.5),
    "two choices": TwoChoices(),
    "two choices without a limit": TwoChoices(load_limit=None),
}
EVERY_POLICY = pytest.mark.parametrize("policy", POLICIES.values(), ids=list(POLICIES))


@EVERY_POLICY
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32))
def test_the_operator_cap_holds_under_every_policy(
    policy: Policy, k: int, parity: int, seed: int
) -> None:
    """A policy chooses among what is safe, never beside it."""
    rule = Placement(k=k, n=k + parity, fragment_size=1, policy=policy)
    placed = rule.place(probes_of(*"aabbccddeeffgg"), random.Random(seed))
    assert max(Counter(probe.operator for probe in placed).values()) <= parity
    assert len({probe.name for probe in placed}) == rule.n


def test_the_nearest_is_the_nearest_until_it_is_loaded() -> None:
    """Without a limit load does not count; beyond it in all, the least loaded is taken."""
    relays = [
        RelayProbe("near.example", "a", latency_ms=5.0, load=0.9),
        RelayProbe("middle.example", "b", latency_ms=50.0, load=0.4),
        RelayProbe("far.example", "c", latency_ms=90.0, load=0.1),
    ]
    chance = random.Random(1)
    assert Nearest().choose(relays, chance).name == "near.example"
    assert Nearest(load_limit=0.5).choose(relays, chance).name == "middle.example"
    assert Nearest(load_limit=0.05).choose(relays, chance).name == "far.example"


def test_two_choices_leave_out_who_is_loaded_while_others_are_there() -> None:
    """Near and heavy does not help a relay beyond the limit; all beyond it, load alone counts."""
    near = RelayProbe("near.example", "a", weight=100, latency_ms=5.0, load=0.8)
    far = RelayProbe("far.example", "b", latency_ms=300.0, load=0.6)
    full = RelayProbe("full.example", "c", latency_ms=1.0, load=1.0)
    chance = random.Random(4)
    for _ in range(50):
        assert TwoChoices().choose([near, far, full], chance) is far
        assert TwoChoices().choose([full, near], chance) is near
        assert TwoChoices(load_limit=None).choose([near, far], chance) is near
        assert TwoChoices().choose([full], chance) is full


def test_any_relay_is_drawn_by_weight_alone() -> None:
    """Neither distance nor load keeps a relay from its share."""
    near = RelayProbe("near.example", "a", latency_ms=1.0)
    far = RelayProbe("far.example", "b", latency_ms=900.0, load=1.0, weight=3)
    chance = random.Random(3)
    drawn = Counter(AnyRelay().choose([near, far], chance).name for _ in range(800))
    assert 540 < drawn["far.example"] < 660
