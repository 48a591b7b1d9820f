"""Spans of the day in which something rests, as people write them: ``22:00-06:00``.

Source: docs/spec/relay-life.md, pace of collection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from bistro.errors import FormatError
from bistro.instant import UnixMillis

_SPAN: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)
_HOUR: Final = 60


@dataclass(frozen=True, slots=True)
class Span:
    """From one minute of the day to another; one that ends before it begins spans midnight.

    Attributes:
        begins: Minutes after midnight.
        ends: Likewise; this minute is outside.
    """

    begins: int
    ends: int

    @classmethod
    def parse(cls, text: str) -> Span:
        """The span that ``text`` writes.

        Raises:
            FormatError: Not ``HH:MM-HH:MM``, or empty.
        """
        match = _SPAN.fullmatch(text)
        if match is None:
            raise FormatError(f"expected a span such as 22:00-06:00, found {text[:32]!r}")
        begins, ends = (int(match[at]) * _HOUR + int(match[at + 1]) for at in (1, 3))
        if begins == ends:
            raise FormatError(f"expected a span that ends when it has begun, found {text}")
        return cls(begins, ends)

    def end_after(self, local: datetime) -> datetime | None:
        """When the span that ``local`` lies in ends; None outside."""
        minute = local.hour * _HOUR + local.minute
        spans_midnight = self.ends < self.begins
        is_before_midnight = minute >= self.begins
        if not (
            is_before_midnight or minute < self.ends
            if spans_midnight
            else self.begins <= minute < self.ends
        ):
            return None
        day = local + _DAY if spans_midnight and is_before_midnight else local
        hour, rest = divmod(self.ends, _HOUR)
        return day.replace(hour=hour, minute=rest, second=0, microsecond=0, fold=0)


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Spans of every day in one time zone.

    Attributes:
        spans: Where they overlap or touch, they are one.
        zone: In which they are meant.
    """

    spans: tuple[Span, ...]
    zone: tzinfo = UTC

    @classmethod
    def parse(cls, texts: Iterable[str], zone: tzinfo = UTC) -> QuietHours:
        """The spans that ``texts`` write, or ``FormatError``."""
        return cls(tuple(map(Span.parse, texts)), zone)

    def end_after(self, now: UnixMillis) -> UnixMillis | None:
        """When the quiet time that ``now`` lies in ends; None outside.

        At most a day ahead, also where the spans leave no time between them.
        """
        local = (_EPOCH + timedelta(milliseconds=now)).astimezone(self.zone)
        latest, end = local + _DAY, local
        while end < latest:
            ends = [found for span in self.spans if (found := span.end_after(end)) is not None]
            if not ends:
                break
            end = max(ends)
        if end == local:
            return None
        return UnixMillis((end.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1))
