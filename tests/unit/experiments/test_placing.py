"""The study of placement: the simulation is fair, and the page says what it found."""

from __future__ import annotations

import random  # noqa: TID251 - seeded in every test
import re

import pytest

from bistro.protocol.placement import AnyRelay, TwoChoices
from tests.experiments import placing
from tests.experiments.page import FOLDER
from tests.experiments.placing import SCENES, delay_s, quantiles, restorable_s
from tests.experiments.rush import STEP_S, Filer, Scene, filers, run


def test_a_filer_alone_needs_what_the_own_line_takes() -> None:
    """Nobody else is there: sealing, ticket, six fragments, one round trip."""
    scene = Scene()
    (filer,) = filers(1, scene, random.Random(5))
    filer.rate = 1e6  # less than any relay and any window allows
    run(TwoChoices(), scene, [filer], random.Random(6))
    assert len(filer.receipts) == 6
    assert filer.alone_s(scene.spread) == filer.ticket_s + 1.5 * filer.size / 1e6
    assert 0 <= delay_s(filer, scene) <= 2 * STEP_S + 0.2
    assert restorable_s(filer, scene) <= max(filer.receipts)


def test_every_byte_that_is_sent_is_received_once() -> None:
    """Lines and relays are shared, not multiplied: together no faster than all relays."""
    scene = Scene()
    waiting = filers(200, scene, random.Random(7))
    for filer in waiting:
        filer.arrives_at, filer.size, filer.rate = 0.0, 50e6, 60e6
    waiting.sort(key=lambda filer: filer.ticket_s)
    run(AnyRelay(), scene, waiting, random.Random(8))
    total = 200 * 50e6 * 1.5
    capacity = sum(relay.rate for relay in scene.relays())
    assert max(max(filer.receipts) for filer in waiting) >= total / capacity


def test_scenes_differ_in_what_they_say_they_do() -> None:
    """Weak relays keep their weight, one server has what all relays have."""
    usual = {relay.name: relay for relay in SCENES["weights"].relays()}
    weak = {relay.name: relay for relay in SCENES["weak"].relays()}
    changed = {name for name in usual if usual[name].rate != weak[name].rate}
    assert changed == SCENES["weak"].weak
    assert all(usual[name].weight == weak[name].weight for name in usual)
    assert {relay.weight for relay in SCENES["no-weights"].relays()} == {1}
    operators = [relay.operator for relay in usual.values()]
    assert {operators.count(one) for one in operators} == {2}
    (server,) = placing.ONE_SERVER.relays()
    assert server.rate == sum(relay.rate for relay in usual.values())


def test_quantiles_are_values_that_were_seen() -> None:
    """The least value that so many do not exceed."""
    assert quantiles([float(value) for value in range(1, 101)]) == [50.0, 95.0, 99.0, 100.0]
    assert quantiles([3.0]) == [3.0] * 4


@pytest.mark.timeout(120)
def test_the_page_says_what_is_computed() -> None:
    """One scene of it, in full: whoever changes the rule runs ``make experiments``."""
    page = (FOLDER / "placement.md").read_text(encoding="utf-8")
    found = dict(re.findall(r"<!-- table: ([a-z-]+) -->\n(.*?)\n<!-- end -->", page, re.DOTALL))
    assert set(found) == {"tickets", "seeds", *SCENES}
    assert found["no-weights"] == placing.scene_table(SCENES["no-weights"])


def test_the_same_seed_gives_the_same_rush() -> None:
    """Numbers on a page can be checked by anybody."""
    runs: list[list[Filer]] = []
    for _ in range(2):
        waiting = filers(50, Scene(), random.Random(9))
        run(TwoChoices(), Scene(), waiting, random.Random(10))
        runs.append(waiting)
    assert [one.receipts for one in runs[0]] == [one.receipts for one in runs[1]]
