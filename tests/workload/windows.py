"""The window of a profile that is replayed: which seconds, with which bursts and accidents.

| profile | window | deadline |
|---|---|---|
| C | the peak minute, with its second of 570 in the middle | at its end |
| D | the last minute, bursts of 1,200 in three seconds from the last before the deadline | in it |
| F | five seconds before the opening, then the first minute | at its end |
| G | the service is killed, people wait, it is started again | at its end |

Source: docs/reference/workload.md, windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from tests.workload.chance import bursty, moments, seeded
from tests.workload.profiles import PROFILES, Name
from tests.workload.shapes import HOUR_S

Replayed = Literal["C", "D", "F", "G"]
REPLAYED: Final[tuple[Replayed, ...]] = ("C", "D", "F", "G")
GRACE_S: Final = 1.0
DEFAULT_S: Final = 60
MIN_S: Final = 10

_C_PEAK_MINUTE: Final = 9_573
_C_PEAK_SECOND: Final = 570
_D_BURST: Final = 1_200
_F_EARLY_S: Final = 5
_F_EARLY_SHARE: Final = 0.5
_G_KILLED: Final = 0.2
_G_BACK: Final = 0.4
_G_BACKLOG_S: Final = 25


@dataclass(frozen=True, slots=True)
class Outage:
    """When the server is killed and when it is started again, seconds of the window."""

    killed_s: float
    started_s: float


@dataclass(frozen=True, slots=True)
class Window:
    """Some seconds of a profile; all times count from its beginning.

    Attributes:
        expected: Filings of each second, on average.
        fixed: Seconds with exactly so many filings.
        keeps_total: Whether all seconds together have what is expected.
        opens_s: When the call opens; below 0: before the window.
        closes_s: The deadline; a grace of one second follows.
        outage: When the server is dead.
        backlog: Filings besides, evenly over the outage: those who had been waiting.
    """

    profile: Name
    expected: tuple[float, ...]
    closes_s: float
    fixed: Mapping[int, int] = field(default_factory=dict)
    keeps_total: bool = False
    opens_s: float = -1.0
    outage: Outage | None = None
    backlog: int = 0

    @property
    def length_s(self) -> int:
        """From the first second to the last."""
        return len(self.expected)

    def arrivals(self, seed: int) -> list[float]:
        """When filers ask, ascending."""
        chance = seeded(seed, f"{self.profile}/window")
        free = [0.0 if at in self.fixed else mean for at, mean in enumerate(self.expected)]
        rates = bursty(free, chance, keep_total=self.keeps_total)
        found = list(moments(rates, chance, fixed=self.fixed))
        if self.outage is not None:
            span = self.outage.killed_s, self.outage.started_s
            found += [chance.uniform(*span) for _ in range(self.backlog)]
        return sorted(found)


def window_of(name: Replayed, *, seconds: int = DEFAULT_S, scale: float = 1.0) -> Window:
    """The window of a profile.

    Args:
        name: Which profile.
        seconds: Length; a few seconds before or after the moment that matters come on top.
        scale: Factor of all rates and bursts.

    Raises:
        ValueError: Too short, or nothing left of it.
    """
    if seconds < MIN_S or not 0 < scale < math.inf:
        raise ValueError(f"expected {MIN_S} s or more and a scale above 0")
    return _MAKERS[name](seconds, scale)


def _scaled(count: float, scale: float) -> int:
    return max(1, round(count * scale))


def _peak_minute(seconds: int, scale: float) -> Window:
    middle = 16.5 * HOUR_S
    shape = PROFILES["C"].expected(middle - seconds / 2, middle + seconds / 2)
    peak = seconds // 2
    # The peak minute is one that chance has raised over its hour: as much as was published.
    burst = _scaled(_C_PEAK_SECOND, scale)
    rest = max(0.0, _C_PEAK_MINUTE / 60 * seconds * scale - burst)
    factor = rest / (math.fsum(shape) - shape[peak])
    expected = [mean * factor for mean in shape]
    expected[peak] = burst
    return Window("C", tuple(expected), closes_s=seconds, fixed={peak: burst}, keeps_total=True)


def _last_minute(seconds: int, scale: float) -> Window:
    profile = PROFILES["D"]
    rush = profile.expected(profile.length_s - seconds, profile.length_s)
    burst = _scaled(_D_BURST, scale)
    expected = [mean * scale for mean in rush] + [burst, burst]
    expected[seconds - 1] = burst
    # The last second before the deadline, the grace, and the first second that is too late.
    fixed = dict.fromkeys(range(seconds - 1, seconds + 2), burst)
    return Window("D", tuple(expected), closes_s=seconds, fixed=fixed)


def _opening_bell(seconds: int, scale: float) -> Window:
    bell = [mean * scale for mean in PROFILES["F"].expected(0, seconds)]
    early = [bell[0] * _F_EARLY_SHARE] * _F_EARLY_S
    expected = (*early, *bell)
    return Window("F", expected, closes_s=len(expected), opens_s=_F_EARLY_S)


def _recovery(seconds: int, scale: float) -> Window:
    steady = [mean * scale for mean in PROFILES["G"].expected(0, seconds)]
    return Window(
        "G",
        tuple(steady),
        closes_s=seconds,
        outage=Outage(seconds * _G_KILLED, seconds * _G_BACK),
        backlog=_scaled(steady[0] * _G_BACKLOG_S, 1.0),
    )


_MAKERS: Final[Mapping[Replayed, Callable[[int, float], Window]]] = {
    "C": _peak_minute,
    "D": _last_minute,
    "F": _opening_bell,
    "G": _recovery,
}
