"""The national profiles: how many filings, in which shape, and the peak that must be met.

Source: docs/reference/workload.md, profiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from tests.workload.chance import bursty, moments, seeded
from tests.workload.shapes import (
    DAY_S,
    HOUR_S,
    HardClose,
    Mixture,
    Shape,
    Shock,
    Steady,
    between,
    filing_day,
)

Name = Literal["A", "B", "C", "D", "E", "F", "G"]

_MINUTE_S: Final = 60
_AFTERNOON_S: Final = 16.5 * HOUR_S
_EVENING_S: Final = 21.0 * HOUR_S


@dataclass(frozen=True, slots=True)
class Profile:
    """One deadline as it happened somewhere.

    Attributes:
        count: Filings in all.
        length_s: From the first second to the last.
        peak: The peak to meet, in words.
    """

    name: Name
    title: str
    count: int
    length_s: int
    shape: Shape
    peak: str

    def expected(self, begin_s: float, end_s: float) -> list[float]:
        """How many filings come on average in each second from ``begin_s`` to ``end_s``."""
        seconds = range(round(end_s - begin_s))
        return [self.count * between(self.shape, begin_s + at, begin_s + at + 1) for at in seconds]

    def arrivals(
        self, seed: int, begin_s: float = 0, end_s: float | None = None
    ) -> Iterator[float]:
        """Moments of filings from ``begin_s`` on, in seconds after it."""
        chance = seeded(seed, f"{self.name}/arrivals")
        end_s = self.length_s if end_s is None else end_s
        return moments(bursty(self.expected(begin_s, end_s), chance), chance)


_MEDIUM: Final = filing_day(peak_hour=0.08, last_hour=0.04, peak_s=_AFTERNOON_S, delay_s=HOUR_S)
_LARGE: Final = filing_day(peak_hour=0.072, last_hour=0.04, peak_s=_AFTERNOON_S, delay_s=HOUR_S)

PROFILES: Final[dict[Name, Profile]] = {
    profile.name: profile
    for profile in (
        Profile(
            "A",
            "agency, 17:30 close",
            10_000,
            30 * DAY_S,
            HardClose(30 * DAY_S, 30 * DAY_S, 15 * _MINUTE_S),
            "1/s, bursts of 10/s",
        ),
        Profile(
            "B", "national, medium", 760_000, DAY_S, _MEDIUM, "17/s for an hour, bursts of 70/s"
        ),
        Profile(
            "C",
            "national, large",
            7_250_000,
            DAY_S,
            _LARGE,
            "144/s for an hour, 160/s for a minute, 570/s for a second",
        ),
        Profile(
            "D",
            "hard close",
            1_000_000,
            30 * DAY_S,
            HardClose(30 * DAY_S, 30 * DAY_S, 5 * _MINUTE_S),
            "335/s in the last minute, bursts of 1,200/s",
        ),
        Profile(
            "E",
            "shock",
            760_000,
            DAY_S,
            Mixture(((0.6, _MEDIUM), (0.4, Shock(_EVENING_S, _EVENING_S + HOUR_S, _MINUTE_S)))),
            "60/s, 50,000 open clients",
        ),
        Profile(
            "F",
            "opening bell",
            300_000,
            DAY_S,
            Mixture(((0.3, Steady(0, 10 * _MINUTE_S)), (0.7, Steady(10 * _MINUTE_S, DAY_S)))),
            "150/s from the first second",
        ),
        Profile(
            "G",
            "recovery",
            4_000_000,
            8 * HOUR_S,
            Steady(0, 8 * HOUR_S),
            "140/s for 8 h, a storm of retries when the service returns",
        ),
    )
}
