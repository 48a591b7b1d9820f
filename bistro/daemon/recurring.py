"""Writes what comes again and again once, and then now and then, with how often it came.

A full disk fails every round of every part, several times a second: a log with each of them
hides everything else, and needs the room that there is not. Metrics count each.

Source: docs/reference/events.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from bistro.errors import BistroError

EVERY_S: Final = 60.0
_MOST_KINDS: Final = 8
"""Messages of a period that are written at once; more are one kind that changes its words."""


class Recurring:
    """One kind of failure that may recur; says which are to be written.

    Args:
        every_s: Seconds from a message to the next of the same words.
        now_s: A clock that only goes forward.
    """

    def __init__(
        self, *, every_s: float = EVERY_S, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._every_s = every_s
        self._now_s = now_s
        self._since_s = 0.0
        self._told: set[str] = set()
        self._count = 0
        self._left_out = 0

    def came(self, error: BistroError) -> int:
        """It came: for how many a line is to be written now, those left out before included.

        0: none is, since its words were written within the period.
        """
        now_s = self._now_s()
        self._count += 1
        if self._told and now_s - self._since_s >= self._every_s:
            self._told.clear()
        if error.message in self._told or len(self._told) >= _MOST_KINDS:
            self._left_out += 1
            return 0
        if not self._told:
            self._since_s = now_s
        self._told.add(error.message)
        count, self._left_out = self._left_out + 1, 0
        return count

    def ended(self) -> int:
        """It did not come: how many had come in all, if some are in no line; else 0."""
        count = self._count if self._left_out else 0
        self._told.clear()
        self._count = self._left_out = 0
        return count
