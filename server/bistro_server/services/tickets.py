"""The ticket desk: the short way from a request to a durable ticket or refusal.

It touches nothing but the call's two ledgers. Every item is judged in the sequencer, at the
moment at which it would be stamped, in the order of the specification:

| if | answer |
|---|---|
| the commitment has an entry in the log | its ticket |
| unknown terms hash; admission given or needed; before ``opens`` | postponed |
| opened, or ``repair_by`` has passed | postponed, ``deadline-passed`` |
| too late by the time it would get | its refusal, new or old |
| otherwise | a new ticket |

Source: docs/spec/ticketing.md, decision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from bistro.clock import Clock
from bistro.errors import BistroError, OverloadedError, UnavailableError
from bistro.instant import UnixMillis
from bistro.protocol.backoff import Chooser
from bistro.wire.plain_ticket import Plain, read_plain, read_plain_array
from bistro.wire.ticketing import TicketRequests
from bistro_server.services.ledgers import CallLedgers
from bistro_server.services.ticket_items import Answer, Asker, Requested, later

ADDRESS_LIMIT: Final = 10_000
"""Items of one address that may wait at the same time: half of what a ledger lets wait."""


class TicketDesk:
    """Answers ticket requests of all calls.

    Args:
        clock: Says when requests are received.
        chooser: Where jitter comes from.
        address_limit: Items of one address that may wait at the same time.
    """

    def __init__(
        self, clock: Clock, chooser: Chooser, *, address_limit: int = ADDRESS_LIMIT
    ) -> None:
        self._clock = clock
        self._chooser = chooser
        self._address_limit = address_limit
        self._waiting: dict[str, int] = {}

    @property
    def waiting_count(self) -> int:
        """Items that wait for their answer now."""
        return sum(self._waiting.values())

    def received(self) -> UnixMillis:
        """The time now; asked when a request's last byte has been read."""
        return self._clock.now()

    async def answer(
        self, ledgers: CallLedgers, body: bytes, *, received_at: UnixMillis, address: str
    ) -> bytes:
        """As ``ask``, for who awaits the answer.

        Raises:
            BistroError: As ``ask``, and what it tells.
        """
        waiting = _Awaiting(address)
        requested = self.ask(ledgers, body, waiting, received_at=received_at)
        try:
            answer = await waiting.answer
        finally:
            requested.leave()
        if isinstance(answer, BistroError):
            raise answer
        return answer

    def ask(
        self, ledgers: CallLedgers, body: bytes, asker: Asker, *, received_at: UnixMillis
    ) -> Requested:
        """Let a request wait; its asker is told when every ticket and refusal is durable.

        Args:
            ledgers: Of the call that is asked.
            body: Not looked at yet.
            asker: Told one answer for each item.
            received_at: When the request's last byte had been read.

        Raises:
            FormatError: The body is not as it should be.
            OverloadedError: Too much waits; nothing was stamped.
            UnavailableError: The ledger has stopped.
        """
        plain, admitted, is_bulk = _read(body)
        count = self._waiting.get(asker.address, 0)
        if count + len(plain) > self._address_limit:
            error = OverloadedError(f"{count} requests of your address wait already")
            raise later(error, self._chooser)
        requested = Requested(ledgers, asker, self._waiting, self._chooser)
        items = requested.expect(plain, received_at, is_bulk=is_bulk)
        for place in admitted:
            items[place].has_admission = True
        try:
            ledgers.log_sequencer.enqueue(items)
        except UnavailableError as exc:
            raise later(exc, self._chooser) from exc
        self._waiting[asker.address] = count + len(plain)
        return requested


class _Awaiting:
    """Somebody who awaits the answer."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def tell(self, answer: Answer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


def _read(body: bytes) -> tuple[Sequence[Plain], Sequence[int], bool]:
    """Commitments and terms hashes, the places of those with admissions, whether it is bulk."""
    one = read_plain(body)
    if one is not None:
        return (one,), (), False
    several = read_plain_array(body)
    if several is not None:
        return several, (), True
    decoded = TicketRequests.decode(body)
    plain = [(item.commitment, item.terms_hash) for item in decoded.items]
    admitted = [place for place, item in enumerate(decoded.items) if item.admission is not None]
    return plain, admitted, decoded.is_bulk
