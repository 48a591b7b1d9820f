"""Wakes those who wait for new rows of a call.

Source: docs/spec/collection.md, staged rows.
"""

from __future__ import annotations

import asyncio

from bistro.ids import Origin


class Arrivals:
    """An event for each call that somebody waits for."""

    def __init__(self) -> None:
        self._events: dict[Origin, asyncio.Event] = {}
        self._is_closed = False

    def next(self, origin: Origin) -> asyncio.Event:
        """What is set at the next arrival; take it before looking, so that none is missed."""
        event = self._events.setdefault(origin, asyncio.Event())
        if self._is_closed:
            event.set()
        return event

    def announce(self, origin: Origin) -> None:
        """A row of a call has appeared."""
        event = self._events.pop(origin, None)
        if event is not None:
            event.set()

    def close(self) -> None:
        """Wake everybody: the daemon stops."""
        self._is_closed = True
        for event in self._events.values():
            event.set()
