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
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from bistro.clock import Clock
from bistro.daemon.bursts import Answer, Burst
from bistro.daemon.peers import Peers, Who
from bistro.errors import (
    BistroError,
    FormatError,
    OverloadedError,
    RefusedError,
    UnavailableError,
)
from bistro.instant import UnixMillis
from bistro.ledger.batch import Waiting
from bistro.ledger.sequencer import QUEUE_LIMIT
from bistro.protocol.backoff import Chooser
from bistro.wire.plain_ticket import Plain, read_plain, read_plain_array, read_plain_lot
from bistro.wire.ticketing import TicketRequests
from bistro_server.services.array_turns import ArrayTurns
from bistro_server.services.ledgers import CallLedgers
from bistro_server.services.registration import Registration
from bistro_server.services.ticket_items import Item
from bistro_server.services.ticket_lots import TicketLot
from bistro_server.services.ticket_parties import Asker, Crowd, Party, Requested, later

ADDRESS_LIMIT: Final = 10_000
"""Items of one address that may wait at the same time, besides one on each connection."""


class TicketDesk:
    """Answers ticket requests of all calls.

    Args:
        clock: Says when requests are received.
        chooser: Where jitter comes from.
        address_limit: Items of one address that may wait at the same time.
        registration: Takes the requests of calls for registered filers.
        peers: Knows what each address may ask for.
    """

    def __init__(
        self,
        clock: Clock,
        chooser: Chooser,
        *,
        address_limit: int = ADDRESS_LIMIT,
        registration: Registration,
        peers: Peers,
    ) -> None:
        self._registration = registration
        self._peers = peers
        self._arrays = ArrayTurns()
        self._clock = clock
        self._chooser = chooser
        self._address_limit = address_limit
        self._waiting: dict[str, int] = {}
        self._waiting_count = 0
        self._bursts: weakref.WeakSet[Burst] = weakref.WeakSet()

    @property
    def waiting_count(self) -> int:
        """Items that wait for their answer now."""
        return self._waiting_count + sum(burst.waiting_count for burst in self._bursts)

    def received(self) -> UnixMillis:
        """The time now; asked when a request's last byte has been read."""
        return self._clock.now()

    def require_for_anyone(self, ledgers: CallLedgers) -> None:
        """Accept a call whose requests hold no secret, for a port without TLS.

        Raises:
            RefusedError: Its requests name the filer.
        """
        if self._registration.has(ledgers.call.id):
            raise RefusedError(
                f"call {ledgers.call.id}: its requests name their filer, and this port has no TLS",
                hint="ask over HTTPS",
            )

    async def answer(
        self, ledgers: CallLedgers, body: bytes, *, received_at: UnixMillis, who: Who
    ) -> bytes:
        """As ``ask``, for who awaits the answer.

        Raises:
            BistroError: As ``ask``, and what it tells.
        """
        waiting = _Awaiting(who)
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
        lot = read_plain_array(body)
        if lot is not None:
            commitments, terms_hash = lot
            return self._ask_array(ledgers, commitments, terms_hash, asker, received_at)
        if self._registration.has(ledgers.call.id):
            return self._ask_registered(ledgers, body, asker, received_at)
        plain, admitted, is_bulk = _read(body)
        party = self._admit(ledgers, asker, len(plain), is_bulk=is_bulk)
        items = [
            Item(party, place, one, received_at, has_admission=place in admitted)
            for place, one in enumerate(plain)
        ]
        self._enqueue(ledgers, asker, items, len(items))
        return party

    def _ask_array(
        self,
        ledgers: CallLedgers,
        commitments: list[bytes],
        terms_hash: bytes,
        asker: Asker,
        received_at: UnixMillis,
    ) -> Requested:
        """As ``ask`` for many plain items under the same terms."""
        mark, count = object(), len(commitments)
        on_end = partial(self._arrays.end, asker.address, mark)
        party = self._admit(ledgers, asker, count, is_bulk=True, on_end=on_end)
        lot = TicketLot(party, range(count), commitments, terms_hash, received_at)
        if asker.bucket is None:
            # Perhaps a proxy that names nobody: then these are not one's, and take no turns.
            self._enqueue(ledgers, asker, [lot], count)
            return party
        try:
            self._arrays.enqueue(asker.address, mark, ledgers, lot)
        except UnavailableError as exc:
            raise later(exc, self._chooser) from exc
        self._count(asker, count)
        return party

    def _ask_registered(
        self,
        ledgers: CallLedgers,
        body: bytes,
        asker: Asker,
        received_at: UnixMillis,
    ) -> Requested:
        """As ``ask`` where items may have admissions."""
        requests = TicketRequests.decode(body)
        count = len(requests.items)
        party = self._admit(ledgers, asker, count, is_bulk=requests.is_bulk)
        self._count(asker, count)
        try:
            self._registration.enqueue(party, requests.items, received_at, who=asker.address)
        except UnavailableError as exc:
            party.leave()
            raise later(exc, self._chooser) from exc
        return party

    def _admit(
        self,
        ledgers: CallLedgers,
        asker: Asker,
        count: int,
        *,
        is_bulk: bool,
        on_end: Callable[[], None] | None = None,
    ) -> Requested:
        """Who asks, unless they or all together wait for too much already."""
        self._peers.require_tokens(asker.bucket, count)
        waiting = self._waiting.get(asker.address, 0)
        # Nobody may have more than what is left for others: two greedy ones leave a quarter.
        room = min(self._address_limit, QUEUE_LIMIT - self._waiting_count)
        if waiting + count > room:
            error = OverloadedError(f"{waiting} requests of your address wait already")
            raise later(error, self._chooser)

        def end() -> None:
            self._waiting_count -= count
            left = self._waiting[asker.address] - count
            if left:
                self._waiting[asker.address] = left
            else:
                del self._waiting[asker.address]
            if on_end is not None:
                on_end()

        return Requested(ledgers, self._chooser, asker, count=count, is_bulk=is_bulk, on_end=end)

    def _enqueue(
        self, ledgers: CallLedgers, asker: Asker, waiting: Sequence[Waiting], count: int
    ) -> None:
        try:
            ledgers.log_sequencer.enqueue(waiting)
        except UnavailableError as exc:
            raise later(exc, self._chooser) from exc
        self._count(asker, count)

    def _count(self, asker: Asker, count: int) -> None:
        self._waiting[asker.address] = self._waiting.get(asker.address, 0) + count
        self._waiting_count += count

    def ask_all(self, ledgers: CallLedgers, burst: Burst) -> None:
        """Let requests of one plain item each wait, which came at the same moment.

        Args:
            ledgers: Of the call that is asked.
            burst: Its bodies have the size of plain requests, and are not looked at yet.

        Raises:
            OverloadedError: Too much waits; nothing was stamped.
            UnavailableError: The ledger has stopped.
        """
        crowd = Crowd(ledgers, self._chooser, burst)
        lot = read_plain_lot(burst.bodies)
        waiting: list[Waiting]
        if lot is None:
            waiting = self._sort_out(crowd, burst)
        else:
            places = range(len(burst.bodies))
            waiting = [TicketLot(crowd, places, *lot, burst.received_at)]
        try:
            ledgers.log_sequencer.enqueue(waiting)
        except UnavailableError as exc:
            raise later(exc, self._chooser) from exc
        self._bursts.add(burst)

    def _sort_out(self, crowd: Party, burst: Burst) -> list[Waiting]:
        """Lots for each version of the terms, items for other terms; the rest is malformed."""
        by_terms: dict[bytes, list[tuple[int, bytes]]] = {}
        waiting: list[Waiting] = []
        for place, body in enumerate(burst.bodies):
            try:
                plain, _, _ = _read(body)
            except FormatError as exc:
                burst.tell_all((place,), exc)
                continue
            # A body of this size holds one plain item, or an array that is no such size.
            ((commitment, terms_hash),) = plain
            if crowd.ledgers.rules.is_known(terms_hash):
                by_terms.setdefault(terms_hash, []).append((place, commitment))
            else:
                waiting.append(Item(crowd, place, (commitment, terms_hash), burst.received_at))
        for terms_hash, asked in by_terms.items():
            places, commitments = map(list, zip(*asked, strict=True))
            waiting.append(TicketLot(crowd, places, commitments, terms_hash, burst.received_at))
        return waiting


class _Awaiting:
    """Somebody who awaits the answer."""

    def __init__(self, who: Who) -> None:
        self.address, self.bucket = who
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def tell(self, answer: Answer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


def _read(body: bytes) -> tuple[Sequence[Plain], frozenset[int], bool]:
    """Commitments and terms hashes, the places of those with admissions, whether it is bulk."""
    one = read_plain(body)
    if one is not None:
        return (one,), frozenset(), False
    decoded = TicketRequests.decode(body)
    plain = [(item.commitment, item.terms_hash) for item in decoded.items]
    admitted = (place for place, item in enumerate(decoded.items) if item.admission is not None)
    return plain, frozenset(admitted), decoded.is_bulk
