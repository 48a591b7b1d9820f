"""The study of fault tolerance: formulas against simulations, and the page against both."""

from __future__ import annotations

import random  # noqa: TID251 - seeded in every test
from math import sqrt

import pytest

from bistro.crypto.digest import sha256
from bistro.crypto.erasure import Coder
from bistro.protocol.placement import Placement, RelayProbe
from tests.experiments import faults
from tests.experiments.faults import Groups, Spreading
from tests.experiments.page import FOLDER, filled


def require_close(found: int, runs: int, expected: float) -> None:
    """Within five standard deviations of what the formula says."""
    deviation = sqrt(max(expected * (1 - expected), 1 / runs) / runs)
    assert abs(found / runs - expected) < 5 * deviation, (found / runs, expected)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (Groups(5, 10, 10, 1), 0.395),
        (Groups(5, 10, 12, 1), 0.453),
        (Groups(5, 10, 12, 6), 0.028),
        (Groups(5, 10, 12, 12), 0.001),
    ],
)
def test_the_known_values_come_out(groups: Groups, expected: float) -> None:
    """Y = 5, k = 10, p = 0.01: parity with one checksum is worse than no parity."""
    assert round(groups.failure(0.01), 3) == expected


@pytest.mark.parametrize("checksums", [1, 2, 3, 4, 6, 12])
def test_checksum_groups_fail_as_often_as_the_formula_says(checksums: int) -> None:
    """Packet by packet, also where n/Z does not divide k."""
    groups, chance, runs = Groups(2, 9, 12, checksums), random.Random(checksums), 4_000
    failed = sum(groups.fails(0.05, chance) for _ in range(runs))
    require_close(failed, runs, groups.failure(0.05))


@pytest.mark.parametrize(
    "spreading",
    [Spreading(1, (1,)), Spreading(4, (6,)), Spreading(4, (2, 2, 2)), Spreading(3, (2, 1, 2, 1))],
)
def test_envelopes_are_lost_as_often_as_the_formula_says(spreading: Spreading) -> None:
    """At probabilities high enough to see something."""
    chance, runs = random.Random(7), 20_000
    lost = sum(
        len(spreading.good_fragments(chance, relay=0.1, operator=0.15)) < spreading.k
        for _ in range(runs)
    )
    require_close(lost, runs, spreading.loss(relay=0.1, operator=0.15))


def test_real_fragments_placed_by_the_real_rule_are_lost_as_often() -> None:
    """Placed, lost or corrupted, found by their hashes, restored: the formula's loss."""
    k, n, runs, chance = 4, 6, 3_000, random.Random(11)
    probes = [RelayProbe(f"r{i}.example", f"operator {i // 2}") for i in range(6)]
    coder = Coder(k, n)
    units = [chance.randbytes(32) for _ in range(k)]
    every = [*units, *coder.encode(units)]
    hashes = [sha256(unit) for unit in every]
    lost = 0
    for _ in range(runs):
        placed = Placement(k=k, n=n, fragment_size=32).place(probes, chance)
        down = {operator for operator in {p.operator for p in placed} if chance.random() < 0.1}
        arrived = {}
        for index, probe in enumerate(placed):
            if chance.random() < 0.05:  # the relay corrupts it
                arrived[index] = bytes([every[index][0] ^ 1]) + every[index][1:]
            elif probe.operator not in down:
                arrived[index] = every[index]
        good = {index: unit for index, unit in arrived.items() if sha256(unit) == hashes[index]}
        if len(good) < k:
            lost += 1
        else:
            assert coder.restore(good) == units
    require_close(lost, runs, Spreading(4, (2, 2, 2)).loss(relay=0.05, operator=0.1))


def test_an_operator_within_the_cap_cannot_lose_an_envelope_alone() -> None:
    """With n - k fragments at most, the others are enough while their relays are well."""
    assert Spreading(4, (2, 2, 2)).loss_without_one(relay=0.0) == 0.0
    assert Spreading(4, (3, 2, 1)).loss_without_one(relay=0.0) == 1.0


def test_the_page_says_what_is_computed() -> None:
    """Whoever changes a formula runs ``make experiments``."""
    page = (FOLDER / "fault-tolerance.md").read_text(encoding="utf-8")
    assert page == filled(page, faults.tables())
    for name, svg in faults.plots().items():
        assert (FOLDER / name).read_text(encoding="utf-8") == svg


def test_a_page_without_a_place_for_a_table_is_refused() -> None:
    """A table that vanishes silently would leave an old one behind."""
    with pytest.raises(ValueError, match="expected places for"):
        filled("no place", {"old": "| |"})
