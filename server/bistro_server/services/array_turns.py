"""Lets one array of each address at a time into the ledgers' queues.

An array is stamped as a whole, and may hold as many items as a batch. If somebody sends ten of
them at once, all others would wait for ten batches; so they wait for one, take their turn, and
then comes the next. What waits here is counted as waiting, and has the time at which it came.

Source: docs/spec/ticketing.md, fairness.
"""

from __future__ import annotations

from collections import deque

from bistro.errors import UnavailableError
from bistro.ledger.claims import Lot
from bistro_server.services.ledgers import CallLedgers


class ArrayTurns:
    """The arrays that wait for their address's turn."""

    def __init__(self) -> None:
        self._present: dict[str, object] = {}
        self._later: dict[str, deque[tuple[object, CallLedgers, Lot]]] = {}

    def enqueue(self, who: str, mark: object, ledgers: CallLedgers, lot: Lot) -> None:
        """Let an array wait, in the ledger's queue or for the one before it to end.

        Args:
            who: The address.
            mark: Names the array when it ends.
            ledgers: Of the call that is asked.
            lot: The array; its party hears errors of later.

        Raises:
            OverloadedError: The ledger's queue has no room; nothing waits.
            UnavailableError: The ledger has stopped.
        """
        if who in self._present:
            self._later.setdefault(who, deque()).append((mark, ledgers, lot))
        else:
            ledgers.log_sequencer.enqueue([lot])
            self._present[who] = mark

    def end(self, who: str, mark: object) -> None:
        """An array was answered, or nobody waits for it any more."""
        if self._present.get(who) is not mark:
            return  # it never had its turn
        later = self._later.get(who)
        while later:
            next_mark, ledgers, lot = later.popleft()
            lot.prune()
            if lot.count and self._has_begun(ledgers, lot):
                self._present[who] = next_mark
                return
        self._later.pop(who, None)
        del self._present[who]

    def _has_begun(self, ledgers: CallLedgers, lot: Lot) -> bool:
        try:
            ledgers.log_sequencer.enqueue([lot])
        except UnavailableError as exc:
            lot.decline(exc)
            return False
        return True
