"""Closes calls when their time has come: without being asked, and never earlier.

Source: docs/spec/ticketing.md, closing.
"""

from __future__ import annotations

from bistro.clock import Clock
from bistro.daemon import logs
from bistro_server.services.ledgers import CallLedgers

_log = logs.get_logger("closing")


class Closer:
    """Writes one call's ``closed`` entry.

    Args:
        ledgers: The call's.
        clock: Says whether it is due.
    """

    def __init__(self, ledgers: CallLedgers, clock: Clock) -> None:
        self._ledgers = ledgers
        self._clock = clock

    async def step(self) -> bool:
        """Append the entry if it is due and not there; never more to do than that.

        Raises:
            UnavailableError: The ledger cannot stamp now; the next round tries again.
        """
        ledgers = self._ledgers
        if ledgers.is_closed or self._clock.now() < ledgers.closes_from:
            return False
        appended = await ledgers.append_closed()
        _log.info("call_closed", call=ledgers.call.id, index=appended.index)
        return False
