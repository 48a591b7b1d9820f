"""Compares placement policies under one rush: the tables and pictures of the page.

Source: docs/experiments/placement.md.
"""

from __future__ import annotations

import random  # noqa: TID251 - seeded
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from bistro.protocol.placement import AnyRelay, Nearest, Policy, TwoChoices
from tests.experiments.page import table
from tests.experiments.plot import Axis, Line, Plot
from tests.experiments.rush import Filer, Scene, filers, run

FILERS: Final = 3_000
SEED: Final = 2_026
OTHER_SEEDS: Final = (1, 77)
"""For the question whether the order depends on chance."""
POLICIES: Final[tuple[tuple[str, Policy], ...]] = (
    ("random", AnyRelay()),
    ("nearest", Nearest()),
    ("nearest below load 0.7", Nearest(load_limit=0.7)),
    ("two choices", TwoChoices(load_limit=None)),
    ("two choices below load 0.7", TwoChoices()),
)
SCENES: Final = {
    "weights": Scene(),
    "no-weights": Scene(has_weights=False),
    "stale": Scene(has_weights=False, advertised_every_s=60.0),
    "weak": Scene(weak=frozenset({"north-2", "east-2", "south-1"})),
}
ONE_SERVER: Final = Scene(is_one_server=True)
_MARKS: Final = (0.5, 0.95, 0.99, 1.0)


@lru_cache
def rush(policy_name: str, scene: Scene, seed: int = SEED) -> Sequence[Filer]:
    """The same filers under a policy, each time from the same seeds."""
    waiting = filers(FILERS, scene, random.Random(seed))
    run(dict(POLICIES)[policy_name], scene, waiting, random.Random(seed + 1))
    return waiting


def quantiles(values: Sequence[float]) -> list[float]:
    """Median, 95th and 99th percentile, maximum: the least value that so many do not exceed."""
    ordered = sorted(values)
    return [ordered[max(-(-int(mark * len(ordered) * 1_000) // 1_000), 1) - 1] for mark in _MARKS]


def restorable_s(filer: Filer, scene: Scene) -> float:
    """Seconds to the receipt that makes the envelope restorable."""
    return sorted(filer.receipts)[scene.spread[0] - 1]


def complete_s(filer: Filer) -> float:
    """Seconds to the last receipt."""
    return max(filer.receipts)


def delay_s(filer: Filer, scene: Scene) -> float:
    """Seconds that others cost: all receipts, beyond what the filer's own line takes."""
    return max(complete_s(filer) - filer.alone_s(scene.spread), 0.0)


def _rows(name: str, values: Sequence[float]) -> list[str]:
    return [name, *(f"{value:.1f}" for value in quantiles(values))]


def scene_table(scene: Scene) -> str:
    """Times of all policies in one scene."""
    rows: list[list[str]] = []
    for name, _ in POLICIES:
        done = rush(name, scene)
        rows.append(_rows(f"{name}: k receipts", [restorable_s(one, scene) for one in done]))
        rows.append(_rows(f"{name}: n receipts", [complete_s(one) for one in done]))
        rows.append(_rows(f"{name}: delay by others", [delay_s(one, scene) for one in done]))
    return table(_HEAD, rows)


def _seed_table() -> str:
    """The 95th percentile of the delay by others, for every seed."""
    rows: list[list[str]] = []
    for policy_name, _ in POLICIES:
        cells: list[str] = []
        for scene in SCENES.values():
            found = [
                quantiles([delay_s(one, scene) for one in rush(policy_name, scene, seed)])[1]
                for seed in (SEED, *OTHER_SEEDS)
            ]
            cells.append(" · ".join(f"{value:.0f}" for value in found))
        rows.append([policy_name, *cells])
    return table(("p95 of the delay, s", *SCENES), rows)


_HEAD: Final = ("seconds", "median", "p95", "p99", "max")


def tables() -> dict[str, str]:
    """The tables of the page."""
    found = {name: scene_table(scene) for name, scene in SCENES.items()}
    done = rush("two choices", SCENES["weights"])
    server = rush("two choices", ONE_SERVER)
    found["seeds"] = _seed_table()
    found["tickets"] = table(
        _HEAD,
        [
            _rows("ticket, with relays", [one.ticket_s for one in done]),
            _rows("one server: receipt", [complete_s(one) for one in server]),
            _rows("one server: delay by others", [delay_s(one, ONE_SERVER) for one in server]),
        ],
    )
    return found


def plots() -> dict[str, str]:
    """The pictures of the page, by file name."""
    return {f"placement-{name}.svg": _delay_plot(name).svg() for name in SCENES}


def _delay_plot(name: str) -> Plot:
    scene = SCENES[name]
    lines: list[Line] = []
    for policy_name, _ in POLICIES:
        delays = sorted(delay_s(one, scene) for one in rush(policy_name, scene))
        step = len(delays) // 100
        points = [
            (max(delays[at], 0.1), (at + 1) / len(delays)) for at in range(0, len(delays), step)
        ]
        lines.append(Line(policy_name, points))
    titles = {
        "weights": "Delay by others, weights that fit",
        "no-weights": "Delay by others, equal weights",
        "stale": "Delay by others, equal weights, loads up to a minute old",
        "weak": "Delay by others, three weak relays",
    }
    return Plot(
        titles[name],
        Axis(
            "seconds beyond what the own line takes", 0.1, 1_000.0, (0.1, 1, 10, 100, 1_000), True
        ),
        Axis("share of filers", 0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0)),
        lines,
    )
