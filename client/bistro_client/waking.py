"""Notices that the machine slept or is in another network, and lets go of dead connections.

Without that a request waits for its time limit, and an upload until it counts as stalled: a
laptop that is opened two minutes before a deadline has no time for either.

Source: docs/spec/commands.md, networks that change.
"""

from __future__ import annotations

import asyncio
from typing import Final, NoReturn

from bistro.clock import Clock
from bistro.net.session import Session

PERIOD_S: Final = 2.0
SLEPT_MS: Final = 10_000
"""By so much the wall clock must have run ahead of the one that stands still in sleep."""


class Waking:
    """Looks after the connections of a session.

    Args:
        session: An open session.
        clock: This machine's clock.
    """

    def __init__(self, session: Session, clock: Clock) -> None:
        self._session = session
        self._clock = clock
        self._ahead_ms = self._lead_ms()

    def look(self) -> int:
        """Let go of what cannot work any more, and say how many connections that were.

        After sleep that is all of them; a clock that was set looks the same, and costs little.
        """
        ahead_ms = self._lead_ms()
        has_slept = abs(ahead_ms - self._ahead_ms) >= SLEPT_MS
        self._ahead_ms = ahead_ms
        return self._session.let_go(only_lost=not has_slept)

    async def run(self) -> NoReturn:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            self.look()

    def _lead_ms(self) -> int:
        return self._clock.now() - self._clock.monotonic_ms()
