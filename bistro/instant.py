"""Points in time and durations as values, and their texts for people.

On the wire a time is a ``UnixMillis``; RFC 3339 stands in front of people.

Source: docs/spec/README.md, conventions; docs/spec/encodings.md, times; RFC 3339.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NewType

from bistro.errors import FormatError

UnixMillis = NewType("UnixMillis", int)
"""UTC milliseconds since 1970, leap seconds not counted."""

MAX_INSTANT = UnixMillis(253_402_300_799_999)
"""The last millisecond of the year 9999: later times are malformed."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS_PER_S = 1_000
_S_PER_MIN = 60
_S_PER_HOUR = 3_600
_S_PER_DAY = 86_400


def format_rfc3339(at: UnixMillis) -> str:
    """``2026-11-22T18:39:11.042Z``: always UTC, always three decimals."""
    moment = _EPOCH + timedelta(milliseconds=at)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at % _MS_PER_S:03d}Z"


def parse_rfc3339(text: str) -> UnixMillis:
    """Read a date and time with an offset; fractions are cut to milliseconds.

    Raises:
        FormatError: Not a date and time, or no offset is given.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise FormatError(f"time {text!r}: expected RFC 3339 such as 2026-11-22T17:30:00Z") from exc
    if moment.tzinfo is None:
        raise FormatError(f"time {text!r}: no offset given, expected Z or one such as +01:00")
    return UnixMillis((moment - _EPOCH) // timedelta(milliseconds=1))


def format_duration(duration_ms: int) -> str:
    """A duration as people say it: ``2 d 3 h``, ``4 min 10 s``, ``850 ms``."""
    if duration_ms < 0:
        return "-" + format_duration(-duration_ms)
    if duration_ms < _MS_PER_S:
        return f"{duration_ms} ms"
    seconds = duration_ms // _MS_PER_S
    days, rest = divmod(seconds, _S_PER_DAY)
    hours, rest = divmod(rest, _S_PER_HOUR)
    minutes, rest = divmod(rest, _S_PER_MIN)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    while parts and parts[0][0] == 0:
        parts.pop(0)
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count) or "0 s"
