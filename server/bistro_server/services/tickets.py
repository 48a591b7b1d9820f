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

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from bistro.clock import Clock
from bistro.errors import (
    BistroError,
    DeadlinePassedError,
    NotOpenError,
    NotRegisteredError,
    OverloadedError,
    UnavailableError,
    UnknownObjectError,
)
from bistro.instant import UnixMillis, format_rfc3339
from bistro.ledger.ledger import Appended
from bistro.ledger.sequencer import Draft, Result
from bistro.protocol.backoff import Chooser
from bistro.protocol.deadline import is_on_time, latest_on_time
from bistro.wire.entry import RefusedEntry, TicketEntry
from bistro.wire.ticketing import (
    MAX_RETRY_MS,
    Postponed,
    Refused,
    TicketAnswer,
    TicketAnswers,
    Ticketed,
    TicketRequest,
    TicketRequests,
)
from bistro_server.services.ledgers import CallLedgers, refusal_key, ticket_key

ADDRESS_LIMIT: Final = 10_000
"""Items of one address that may wait at the same time: half of what a ledger lets wait."""

_RETRY_S: Final = 1.0
_MS_PER_S: Final = 1_000


@dataclass(slots=True)
class _Item:
    """One request on its way through the sequencer.

    Attributes:
        late_at: The time it would have got, once it was found too late.
    """

    request: TicketRequest
    received_at: UnixMillis
    ledgers: CallLedgers
    late_at: UnixMillis | None = None

    def draft(self) -> Draft:
        """What asks for the ticket."""
        return Draft(ticket_key(self.request.commitment), self.received_at, self.build)

    def build(self, time: UnixMillis) -> bytes:
        """The ticket's entry, unless the rules refuse it."""
        call, terms = self.ledgers.call, self.ledgers.terms
        if call.version(self.request.terms_hash) is None:
            raise UnknownObjectError(f"call {call.id}: no such version of the terms")
        if terms.filers != "anyone" or self.request.admission is not None:
            raise NotRegisteredError(f"call {call.id}: expected no admission")
        if self.received_at < terms.opens:
            raise NotOpenError(f"call {call.id}: it opens at {format_rfc3339(terms.opens)}")
        if self.ledgers.is_opened or self.received_at > terms.repair_by:
            raise DeadlinePassedError(f"call {call.id}: it is over")
        if not is_on_time(time, terms):
            self.late_at = time
            last = format_rfc3339(latest_on_time(terms))
            raise DeadlinePassedError(f"call {call.id}: the last moment was {last}")
        origin = str(call.origin)
        return TicketEntry(origin=origin, time=time, digest=self.request.commitment).encode()

    def refusal(self) -> Draft:
        """What asks for the refusal of an item that came too late."""
        late_at = self.received_at if self.late_at is None else self.late_at

        def build(time: UnixMillis) -> bytes:
            return RefusedEntry(
                origin=self.ledgers.call.origin.refusals,
                time=time,
                digest=self.request.commitment,
                reason="deadline-passed",
            ).encode()

        return Draft(refusal_key(self.request.commitment), late_at, build)

    def postpone(self, error: BistroError, chooser: Chooser) -> Postponed:
        """The answer for an error that wrote nothing."""
        retry_ms = 0
        if isinstance(error, NotOpenError):
            retry_ms = self.ledgers.terms.opens - self.received_at
        elif isinstance(error, UnavailableError):
            retry_ms = int(_jittered(error, chooser) * _MS_PER_S)
        return Postponed(error.code, max(0, min(MAX_RETRY_MS, retry_ms)))


def _jittered(error: UnavailableError, chooser: Chooser) -> float:
    """When to come back: never all in the same second."""
    pause_s = error.retry_after_s or _RETRY_S
    return pause_s * (1.0 + chooser.random())


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
        self._waiting: Counter[str] = Counter()

    @property
    def waiting_count(self) -> int:
        """Items that wait for their answer now."""
        return self._waiting.total()

    def received(self) -> UnixMillis:
        """The time now; asked when a request's last byte has been read."""
        return self._clock.now()

    async def answer(
        self,
        ledgers: CallLedgers,
        requests: TicketRequests,
        *,
        received_at: UnixMillis,
        address: str,
    ) -> TicketAnswers:
        """One answer for each item; returns when every ticket and refusal in it is durable.

        Args:
            ledgers: Of the call that is asked.
            requests: Decoded, nothing else checked.
            received_at: When the request's last byte had been read.
            address: Whose request it is, for fairness only.

        Raises:
            OverloadedError: Too much waits; nothing was stamped.
            UnavailableError: The ledger cannot stamp now; nothing of a single item was.
        """
        items = [_Item(request, received_at, ledgers) for request in requests.items]
        with self._share(address, len(items)):
            results = await self._submit(ledgers, items)
            await self._refuse(ledgers, items, results)
        if not requests.is_bulk and isinstance(results[0], UnavailableError):
            raise self._later(results[0])
        answers = tuple(
            self._answer(item, result) for item, result in zip(items, results, strict=True)
        )
        return TicketAnswers(answers, requests.is_bulk)

    @contextmanager
    def _share(self, address: str, count: int) -> Iterator[None]:
        if self._waiting[address] + count > self._address_limit:
            raise self._later(
                OverloadedError(f"{self._waiting[address]} requests of your address wait already")
            )
        self._waiting[address] += count
        try:
            yield
        finally:
            self._waiting[address] -= count
            if not self._waiting[address]:
                del self._waiting[address]

    async def _submit(self, ledgers: CallLedgers, items: Sequence[_Item]) -> list[Result]:
        try:
            results = await ledgers.log_sequencer.submit_all([item.draft() for item in items])
        except OverloadedError as exc:
            raise self._later(exc) from exc
        except UnavailableError as exc:
            results = [exc] * len(items)
        for at, (item, result) in enumerate(zip(items, results, strict=True)):
            if isinstance(result, UnavailableError) and not isinstance(result, OverloadedError):
                # A ledger that cannot stamp (the clock, say) still proves what it has.
                found = await ledgers.find_ticket(item.request.commitment)
                results[at] = found or result
        return results

    async def _refuse(
        self, ledgers: CallLedgers, items: Sequence[_Item], results: list[Result]
    ) -> None:
        """Put the refusals of late items in place of their errors."""
        late = [at for at, item in enumerate(items) if item.late_at is not None]
        if not late:
            return
        try:
            refusals = await ledgers.refusals_sequencer.submit_all(
                [items[at].refusal() for at in late]
            )
        except UnavailableError as exc:
            refusals = [exc] * len(late)
        for at, refusal in zip(late, refusals, strict=True):
            results[at] = refusal

    def _answer(self, item: _Item, result: Result) -> TicketAnswer:
        if isinstance(result, Appended):
            text = result.proof.decode()
            return Ticketed(text) if item.late_at is None else Refused(text)
        return item.postpone(result, self._chooser)

    def _later(self, error: UnavailableError) -> UnavailableError:
        return type(error)(
            error.message, hint=error.hint, retry_after_s=_jittered(error, self._chooser)
        )
