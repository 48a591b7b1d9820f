"""How filings spread over time: each shape says which part of them has come before a moment.

Shares are exact integrals, so whatever is cut out of a profile adds up.

Source: docs/reference/workload.md, shapes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

DAY_S: Final = 86_400
HOUR_S: Final = 3_600
_LAST_HOUR_S: Final = DAY_S - HOUR_S


class Shape(Protocol):
    """A distribution of filings over the seconds of a profile."""

    def share(self, second: float) -> float:
        """The part that comes before ``second``: 0 at the beginning, 1 at the end."""
        ...


def between(shape: Shape, begin_s: float, end_s: float) -> float:
    """The part of the filings that comes from ``begin_s`` to ``end_s``."""
    return shape.share(end_s) - shape.share(begin_s)


@dataclass(frozen=True, slots=True)
class HardClose:
    """The rush before a deadline: the rate is as 1 / (time left + ``delay_s``).

    Attributes:
        close_s: When it closes.
        horizon_s: How long before that people begin.
        delay_s: How early the most patient stop waiting; small is steep.
    """

    close_s: float
    horizon_s: float
    delay_s: float

    def share(self, second: float) -> float:
        """See ``Shape``."""
        left = min(self.horizon_s, max(0.0, self.close_s - second))
        whole = math.log((self.horizon_s + self.delay_s) / self.delay_s)
        return 1.0 - math.log((left + self.delay_s) / self.delay_s) / whole


@dataclass(frozen=True, slots=True)
class Diurnal:
    """A day with one wave: ``1 + swing * cos`` around ``peak_s``."""

    peak_s: float
    swing: float

    def share(self, second: float) -> float:
        """See ``Shape``."""
        at = min(float(DAY_S), max(0.0, second))
        turn = math.tau / DAY_S
        wave = math.sin((at - self.peak_s) * turn) + math.sin(self.peak_s * turn)
        return at / DAY_S + self.swing * wave / math.tau


@dataclass(frozen=True, slots=True)
class Steady:
    """The same rate from ``begin_s`` to ``end_s``."""

    begin_s: float
    end_s: float

    def share(self, second: float) -> float:
        """See ``Shape``."""
        return min(1.0, max(0.0, (second - self.begin_s) / (self.end_s - self.begin_s)))


@dataclass(frozen=True, slots=True)
class Shock:
    """A crowd that comes at once: ``ramp_s`` of rising rate, then steady until ``end_s``."""

    begin_s: float
    end_s: float
    ramp_s: float

    def share(self, second: float) -> float:
        """See ``Shape``."""
        length = self.end_s - self.begin_s
        at = min(length, max(0.0, second - self.begin_s))
        rising = min(at, self.ramp_s)
        area = rising * rising / (2 * self.ramp_s) + at - rising
        return area / (length - self.ramp_s / 2)


@dataclass(frozen=True, slots=True)
class Mixture:
    """Several shapes at once, each with its part; the parts add up to 1."""

    parts: Sequence[tuple[float, Shape]]

    def share(self, second: float) -> float:
        """See ``Shape``."""
        return math.fsum(part * shape.share(second) for part, shape in self.parts)


def filing_day(*, peak_hour: float, last_hour: float, peak_s: float, delay_s: float) -> Mixture:
    """A day that ends with its deadline, fitted to what statistics publish.

    Two numbers fix two unknowns: how much is daily rhythm and how much is rush, and how strong
    the rhythm is.

    Args:
        peak_hour: Share of the hour around ``peak_s``.
        last_hour: Share of the hour before midnight.
        peak_s: Middle of the peak hour.
        delay_s: As in ``HardClose``.

    Raises:
        ValueError: No such day exists.
    """
    flat, wave = Diurnal(peak_s, 0.0), Diurnal(peak_s, 1.0)
    rush = HardClose(DAY_S, DAY_S, delay_s)
    rows = []
    for begin, wanted in ((peak_s - HOUR_S / 2, peak_hour), (float(_LAST_HOUR_S), last_hour)):
        hour = [between(shape, begin, begin + HOUR_S) for shape in (flat, wave, rush)]
        # u * (flat - rush) + v * (wave - flat) = wanted - rush, with v = u * swing
        rows.append((hour[0] - hour[2], hour[1] - hour[0], wanted - hour[2]))
    (a, b, x), (c, d, y) = rows
    determinant = a * d - b * c
    daily, swinging = (x * d - b * y) / determinant, (a * y - x * c) / determinant
    if not 0 < daily <= 1 or not 0 <= swinging <= daily:
        raise ValueError(f"no day has a peak hour of {peak_hour} and a last hour of {last_hour}")
    return Mixture(((daily, Diurnal(peak_s, swinging / daily)), (1 - daily, rush)))
