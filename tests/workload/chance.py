"""Draws moments, sizes and clients; all chance comes from a seed, each kind from its own.

Arrivals are Poisson within a second; the rate of each second is multiplied by a gamma variate
of mean 1, since real arrivals are burstier than Poisson.

Source: docs/reference/workload.md, arrivals, sizes, clients.
"""

from __future__ import annotations

import math
import random  # noqa: TID251 - seeded
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

BURSTINESS: Final = 4.0
"""Shape of the gamma distribution; its standard deviation is half its mean."""
KB: Final = 1_000
MB: Final = 1_000_000
SIZE_LIMIT: Final = 2_000 * MB

_Z90: Final = 1.2815515655446004
"""The 90th percentile of the normal distribution."""

Content = Literal["structured", "document", "package", "heavy"]


def seeded(seed: int, purpose: str) -> random.Random:
    """Chance for one purpose: what others draw does not change it."""
    return random.Random(f"{seed}/{purpose}")


def bursty(
    expected: Sequence[float], chance: random.Random, *, keep_total: bool = False
) -> list[float]:
    """The rates of seconds in which ``expected`` filings come on average.

    Args:
        expected: One number for each second.
        chance: Where the bursts come from.
        keep_total: Whether the rates must add up to what was expected in all.
    """
    scale = 1.0 / BURSTINESS
    rates = [mean * chance.gammavariate(BURSTINESS, scale) for mean in expected]
    total = math.fsum(rates)
    if keep_total and total > 0:
        factor = math.fsum(expected) / total
        rates = [rate * factor for rate in rates]
    return rates


def moments(
    rates: Sequence[float], chance: random.Random, *, fixed: Mapping[int, int] | None = None
) -> Iterator[float]:
    """Moments of arrival in seconds, ascending.

    Args:
        rates: Of each second.
        chance: Where moments come from.
        fixed: Seconds in which exactly so many come, whatever their rate.
    """
    for second, rate in enumerate(rates):
        count = (fixed or {}).get(second)
        if count is not None:
            # A Poisson process of known count: uniform, independent moments.
            yield from sorted(second + chance.random() for _ in range(count))
        elif rate > 0:
            at = chance.expovariate(rate)
            while at < 1.0:
                yield second + at
                at += chance.expovariate(rate)


@dataclass(frozen=True, slots=True)
class Lognormal:
    """A distribution by what is published of it.

    Attributes:
        p90: Nine in ten are at most this.
    """

    median: float
    p90: float

    def draw(self, chance: random.Random) -> float:
        """One value."""
        sigma = math.log(self.p90 / self.median) / _Z90
        return self.median * math.exp(sigma * chance.gauss(0.0, 1.0))


SIZES: Final[Mapping[Content, tuple[float, Lognormal]]] = {
    "structured": (0.70, Lognormal(10 * KB, 33 * KB)),
    "document": (0.20, Lognormal(100 * KB, 1 * MB)),
    "package": (0.09, Lognormal(2 * MB, 4 * MB)),
    "heavy": (0.01, Lognormal(30 * MB, 150 * MB)),
}
"""Share of the filings, and their sizes in bytes."""


def draw_size(chance: random.Random, *, only_structured: bool = False) -> int:
    """The size of a filing in bytes, 1 to 2 GB."""
    kinds: list[Content] = list(SIZES)
    weights = [weight for weight, _ in SIZES.values()]
    kind = "structured" if only_structured else chance.choices(kinds, weights)[0]
    return min(SIZE_LIMIT, max(1, round(SIZES[kind][1].draw(chance))))


_UPLINK_MBIT: Final = Lognormal(10.0, 100.0)
"""Symmetric on a logarithmic scale: one in ten has 1 Mbit/s or less."""
_RTT_MS: Final = (20.0, 300.0)
_LOSSY_SHARE: Final = 0.02
_LOSS: Final = 0.05
_LEAVING_SHARE: Final = 0.01
_AWAY_S: Final = (1.0, 600.0)


@dataclass(frozen=True, slots=True)
class Line:
    """How a filer is connected.

    Attributes:
        uplink_bits_s: Bits a second.
        rtt_ms: Round trip.
        loss: Share of the packets that get lost.
        away_s: How long the filer is gone in the middle of an upload; 0 for most.
    """

    uplink_bits_s: float
    rtt_ms: float
    loss: float
    away_s: float


def draw_line(chance: random.Random) -> Line:
    """The line of one filer."""
    low, high = _RTT_MS
    rtt_ms = low * (high / low) ** chance.random()
    loss = _LOSS if chance.random() < _LOSSY_SHARE else 0.0
    away_s = chance.uniform(*_AWAY_S) if chance.random() < _LEAVING_SHARE else 0.0
    return Line(_UPLINK_MBIT.draw(chance) * MB, rtt_ms, loss, away_s)
