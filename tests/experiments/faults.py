"""How likely a filing cannot be restored: checksum groups of old, and fragments over operators.

Formulas stand beside simulations of the same thing, which share no code with them.

Source: docs/experiments/fault-tolerance.md.
"""

from __future__ import annotations

import random  # noqa: TID251 - seeded by the caller
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, comb
from typing import Final

from tests.experiments.page import table
from tests.experiments.plot import Axis, Line, Plot, Point


@dataclass(frozen=True, slots=True)
class Groups:
    """The scheme of 2004: packets under checksums that cover several of them.

    Attributes:
        groups: Y, FEC groups of a transfer; each must be restored.
        k: Data packets of a FEC group.
        n: Packets of a FEC group with parity.
        checksums: Z, checksum groups of a FEC group: one bad packet spoils its whole group.
    """

    groups: int
    k: int
    n: int
    checksums: int

    def failure(self, p: float) -> float:
        """c1: the probability that something must be sent again, if packets fail with ``p``."""
        good: float = (1 - p) ** (self.n / self.checksums)
        needed = ceil(self.k * self.checksums / self.n)
        one = sum(
            comb(self.checksums, count) * good**count * (1 - good) ** (self.checksums - count)
            for count in range(needed, self.checksums + 1)
        )
        return 1 - float(one**self.groups)

    @property
    def checksums_per_packet(self) -> float:
        """c2: what the request for a time stamp is longer by, in checksums a data packet."""
        return self.checksums / self.k

    def fails(self, p: float, chance: random.Random) -> bool:
        """One transfer, packet by packet; n is a multiple of the number of checksums."""
        size = self.n // self.checksums
        for _ in range(self.groups):
            usable = 0
            for _ in range(self.checksums):
                is_good = [chance.random() >= p for _ in range(size)]
                usable += size if all(is_good) else 0
            if usable < self.k:
                return True
        return False


@dataclass(frozen=True, slots=True)
class Spreading:
    """Fragments of one envelope over operators.

    Attributes:
        k: Fragments that restore the envelope.
        at: Fragments at each operator, each at a relay of its own.
    """

    k: int
    at: tuple[int, ...]

    @property
    def n(self) -> int:
        """Fragments there are."""
        return sum(self.at)

    def loss(self, *, relay: float, operator: float) -> float:
        """The probability that fewer than k fragments are left.

        Args:
            relay: That a relay loses or corrupts its fragment while its operator is well.
            operator: That an operator loses or corrupts everything it has.
        """
        left = [1.0]  # probability of each number of fragments that are left
        for count in self.at:
            alive = [
                (1 - operator) * comb(count, good) * (1 - relay) ** good * relay ** (count - good)
                for good in range(count + 1)
            ]
            alive[0] += operator
            summed = [0.0] * (len(left) + count)
            for before, weight in enumerate(left):
                for good, share in enumerate(alive):
                    summed[before + good] += weight * share
            left = summed
        return sum(left[: self.k])

    def loss_without_one(self, *, relay: float) -> float:
        """The same, of relays alone, while the operator with most fragments is gone."""
        most = self.at.index(max(self.at))
        rest = Spreading(self.k, self.at[:most] + self.at[most + 1 :])
        return rest.loss(relay=relay, operator=0.0)

    def good_fragments(self, chance: random.Random, *, relay: float, operator: float) -> list[int]:
        """One run: the indexes of the fragments that are left as they were."""
        good: list[int] = []
        index = 0
        for count in self.at:
            is_up = chance.random() >= operator
            for _ in range(count):
                if chance.random() >= relay and is_up:
                    good.append(index)
                index += 1
        return good


OLD: Final = (
    ("no parity", Groups(5, 10, 10, 1)),
    ("2 parity packets, Z = 1", Groups(5, 10, 12, 1)),
    ("2 parity packets, Z = 2", Groups(5, 10, 12, 2)),
    ("2 parity packets, Z = 6", Groups(5, 10, 12, 6)),
    ("2 parity packets, one checksum each", Groups(5, 10, 12, 12)),
)
OLD_P: Final = 0.01
SPREADINGS: Final = (
    ("one server, (1, 1)", Spreading(1, (1,))),
    ("two copies, (1, 2)", Spreading(1, (1, 1))),
    ("(4, 6), one operator", Spreading(4, (6,))),
    ("(4, 6), three operators", Spreading(4, (2, 2, 2))),
    ("(4, 6), six operators", Spreading(4, (1,) * 6)),
    ("(4, 8), four operators", Spreading(4, (2,) * 4)),
)
RELAY_P: Final = 0.02
OPERATOR_P: Final = 0.005


def tables() -> dict[str, str]:
    """The tables of the page."""
    old = [
        [name, f"{one.failure(OLD_P):.3f}", f"{one.checksums_per_packet:.1f}"] for name, one in OLD
    ]
    ours = [
        [
            name,
            f"{one.n / one.k:.2f}",
            f"{one.loss(relay=RELAY_P, operator=OPERATOR_P):.2e}",
            f"{one.loss_without_one(relay=RELAY_P):.2e}",
        ]
        for name, one in SPREADINGS
    ]
    return {
        "old": table(["scheme", "c1", "c2"], old),
        "ours": table(
            ["spread", "bytes sent", "loss", "loss while the largest operator is gone"], ours
        ),
    }


def plots() -> dict[str, str]:
    """The pictures of the page, by file name."""
    return {"checksums.svg": _checksum_plot().svg(), "spreading.svg": _spreading_plot().svg()}


def _checksum_plot() -> Plot:
    rates = _steps(1e-4, 0.1)
    lines = [Line(name, [(p, one.failure(p)) for p in rates]) for name, one in OLD]
    return Plot(
        "Something must be sent again: Y = 5, k = 10",
        Axis("probability that a packet is bad", 1e-4, 0.1, (1e-4, 1e-3, 0.01, 0.1), is_log=True),
        Axis("c1", 1e-6, 1.0, (1e-6, 1e-4, 0.01, 1.0), is_log=True),
        lines,
    )


def _spreading_plot() -> Plot:
    rates = _steps(1e-4, 0.1)
    lines: list[Line] = []
    for name, one in SPREADINGS:
        points: list[Point] = [(p, one.loss(relay=RELAY_P, operator=p)) for p in rates]
        lines.append(Line(name, points))
    return Plot(
        f"The envelope cannot be restored; relays fail with {RELAY_P}",
        Axis("probability that an operator fails", 1e-4, 0.1, (1e-4, 1e-3, 0.01, 0.1), is_log=True),
        Axis("loss", 1e-6, 1.0, (1e-6, 1e-4, 0.01, 1.0), is_log=True),
        lines,
    )


def _steps(low: float, high: float, count: int = 40) -> Sequence[float]:
    return [low * (high / low) ** (step / count) for step in range(count + 1)]
