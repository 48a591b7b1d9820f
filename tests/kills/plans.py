"""What a run does, drawn from its seed: the files, and how each life of the client ends."""

from __future__ import annotations

import random  # noqa: TID251 - seeded
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.crash.deaths import Death

CALLS: Final = {
    "pwrite": 12,
    "write": 30,
    "fdatasync": 12,
    "fsync": 12,
    "rename": 8,
    "openat": 40,
    "unlink": 3,
    "mkdir": 4,
}
"""Kinds of system calls, and how many of each one thread of a client may reach."""
_LONGEST_S: Final = 1.5
_SMALL: Final = (1, 200_000)
_LARGE: Final = (2_200_000, 4_000_000)
_LARGE_SHARE: Final = 0.3


@dataclass(frozen=True, slots=True)
class Plan:
    """One run.

    Attributes:
        seed: Of everything in it.
        sizes: Of the files, bytes; a large one travels in more requests than one.
        deaths: One for each life; whoever outlives its death is done early.
    """

    seed: int
    sizes: tuple[int, ...]
    deaths: tuple[Death, ...]


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    chance = random.Random(seed)
    ranges = [_LARGE] if chance.random() < _LARGE_SHARE else [_SMALL] * chance.randint(1, 3)
    deaths = tuple(_death(chance) for _ in range(chance.choice((1, 1, 2, 3, 4))))
    return Plan(seed, tuple(chance.randint(*one) for one in ranges), deaths)


def _death(chance: random.Random) -> Death:
    way = chance.choice(("kill", "kill", "kill-at", "kill-after"))
    if way == "kill":
        # Short and long lives alike: what happens once happens early.
        return Death("kill", "start", after_s=_LONGEST_S * chance.random() ** 2)
    group = chance.choice(list(CALLS))
    number = max(1, round(CALLS[group] ** chance.random()))
    return Death("kill-at" if way == "kill-at" else "kill-after", "start", group, number)


def write_files(plan: Plan, folder: Path) -> None:
    """The files of a run: of the seed, so that no two runs file the same."""
    chance = random.Random(plan.seed)
    folder.mkdir(parents=True)
    for number, size in enumerate(plan.sizes):
        (folder / f"part-{number}.bin").write_bytes(chance.randbytes(size))
