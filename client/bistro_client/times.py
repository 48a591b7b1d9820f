"""Times for people, in the zone that they think in, and the server's time beside our own.

Nothing that is decided rests on this machine's clock: promises carry the destination's times.
The clock serves only to say when something is due, corrected by what the server's answers say.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from email.utils import parsedate_to_datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bistro.clock import Clock
from bistro.instant import UnixMillis
from bistro_client.wording import say

TOLERATED_OFFSET_MS: Final = 5_000
"""A local clock that is further off is worth a warning."""
UNSURE_MS: Final = 2_000
"""How far ``ServerTime`` may be off: ``Date`` has whole seconds, and answers take time."""
_HALF_SECOND_MS: Final = 500
_MS_PER_S: Final = 1_000


@dataclass(frozen=True, slots=True)
class ServerTime:
    """The server's clock as far as its answers show it, good to about a second.

    Attributes:
        clock: This machine's clock.
        offset_ms: Server's time minus ours; None while nothing is known.
    """

    clock: Clock
    offset_ms: int | None = None

    @classmethod
    def from_date(cls, date: str | None, clock: Clock, *, round_trip_ms: int = 0) -> ServerTime:
        """Read an answer's ``Date`` field, which is cut to whole seconds."""
        try:
            at = parsedate_to_datetime(date or "").timestamp()
        except (ValueError, OverflowError):
            return cls(clock)
        middle = clock.now() - round_trip_ms // 2
        return cls(clock, round(at * _MS_PER_S) + _HALF_SECOND_MS - middle)

    def now(self) -> UnixMillis:
        """The server's time, or ours while nothing is known of it."""
        return UnixMillis(self.clock.now() + (self.offset_ms or 0))

    @property
    def is_far_off(self) -> bool:
        """Whether this machine's clock is wrong by more than a few seconds."""
        return self.offset_ms is not None and abs(self.offset_ms) > TOLERATED_OFFSET_MS


def show(at: UnixMillis, zone_name: str = "UTC") -> str:
    """``2026-11-22 17:30:00 Europe/Lisbon (18:30:00 your time)``; one zone if they agree."""
    zone = _zone(zone_name)
    moment = datetime.fromtimestamp(at / _MS_PER_S, tz=UTC)
    there = moment.astimezone(zone)
    here = moment.astimezone()
    label = zone_name if zone is not UTC else "UTC"
    text = f"{there:%Y-%m-%d %H:%M:%S} {label}"
    if here.utcoffset() == there.utcoffset():
        return text
    day = "" if here.date() == there.date() else f"{here:%Y-%m-%d} "
    return say("times.your-time", text=text, day=day, here=here)


def _zone(name: str) -> tzinfo:
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # No such zone, or a system without time zone data: UTC is always right.
        return UTC
