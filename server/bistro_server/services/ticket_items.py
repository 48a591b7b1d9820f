"""A request for tickets on its way through the sequencers of its call.

Source: docs/spec/ticketing.md, decision, refusals.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final, Protocol

from bistro.errors import BistroError, DeadlinePassedError, NotOpenError, UnavailableError
from bistro.instant import UnixMillis, format_rfc3339
from bistro.ledger.claims import Claim, Result
from bistro.ledger.ledger import Appended
from bistro.protocol.backoff import Chooser
from bistro.wire import codec
from bistro.wire.entry import RefusedEntry
from bistro.wire.plain_ticket import Plain, join_answers, spell_refused, spell_ticketed
from bistro.wire.ticketing import MAX_RETRY_MS, Postponed
from bistro_server.services.ledgers import CallLedgers, refusal_key, ticket_key

_RETRY_S: Final = 1.0
_MS_PER_S: Final = 1_000


def later(error: UnavailableError, chooser: Chooser) -> UnavailableError:
    """The error with a time to come back: never all in the same second."""
    told = copy.copy(error)
    told.retry_after_s = (error.retry_after_s or _RETRY_S) * (1.0 + chooser.random())
    return told


Answer = bytes | BistroError
"""The body of an answer, or the error of a whole request."""


class Asker(Protocol):
    """Who waits for an answer.

    Attributes:
        address: Where from, for fairness only.
    """

    address: str

    def tell(self, answer: Answer) -> None:
        """Hear the answer, once; must not raise or block."""


class Requested:
    """A request that waits until each of its items is answered.

    Args:
        ledgers: Of the call that is asked.
        asker: Who is told.
        waiting: How many items of each address wait; counted down once this one does not.
        chooser: Where jitter comes from.

    Attributes:
        ledgers: As given.
        items: What is asked for, in order; given by ``expect``.
    """

    __slots__ = (
        "_answers",
        "_asker",
        "_chooser",
        "_is_bulk",
        "_missing_count",
        "_waiting",
        "items",
        "ledgers",
    )

    def __init__(
        self, ledgers: CallLedgers, asker: Asker, waiting: dict[str, int], chooser: Chooser
    ) -> None:
        self.ledgers = ledgers
        self.items: list[Item] = []
        self._asker = asker
        self._waiting = waiting
        self._chooser = chooser
        self._is_bulk = False
        self._answers: list[bytes] = []
        self._missing_count = 0

    def expect(
        self, plain: Sequence[Plain], received_at: UnixMillis, *, is_bulk: bool
    ) -> list[Item]:
        """One item for each commitment and terms hash; the answer is an array if it is bulk."""
        self.items = [Item(self, place, one, received_at) for place, one in enumerate(plain)]
        self._is_bulk = is_bulk
        self._missing_count = len(plain)
        if is_bulk:
            self._answers = [b""] * len(plain)
        return self.items

    def leave(self) -> None:
        """Nobody waits any more: what is not stamped yet is not going to be."""
        if self._missing_count:
            for item in self.items:
                item.is_done = True
            self._end()

    def _end(self) -> None:
        self._missing_count = 0
        left = self._waiting[self._asker.address] - len(self.items)
        self.items = []  # they know this request: a circle would stay in memory for long
        if left:
            self._waiting[self._asker.address] = left
        else:
            del self._waiting[self._asker.address]

    def _reply(self, answer: Answer) -> None:
        if self._missing_count:
            self._end()
            self._asker.tell(answer)

    def put(self, place: int, answer: bytes) -> None:
        """Take the encoded answer to one item."""
        if not self._is_bulk:
            self._reply(answer)
            return
        self._answers[place] = answer
        if self._missing_count > 1:
            self._missing_count -= 1
        else:
            self._reply(join_answers(self._answers))

    def postpone(self, item: Item, error: BistroError) -> None:
        """Take the error of one item, for which nothing was written."""
        retry_ms = 0
        if isinstance(error, UnavailableError):
            error = later(error, self._chooser)
            if not self._is_bulk:
                self._reply(error)
                return
            retry_ms = int((error.retry_after_s or 0) * _MS_PER_S)
        elif isinstance(error, NotOpenError):
            retry_ms = self.ledgers.rules.opens - item.received_at
        answer = Postponed(error.code, max(0, min(MAX_RETRY_MS, retry_ms)))
        self.put(item.place, codec.encode(answer.value()))


class Item(Claim):
    """One commitment that wants a ticket.

    Args:
        requested: What it belongs to.
        place: Which item of it.
        plain: Commitment and terms hash.
        received_at: When the request's last byte had been read.

    Attributes:
        requested: As given.
        place: As given.
        has_admission: Whether an admission came with it.
    """

    __slots__ = ("_late_at", "commitment", "has_admission", "place", "requested", "terms_hash")

    def __init__(
        self, requested: Requested, place: int, plain: Plain, received_at: UnixMillis
    ) -> None:
        # All that ``Claim`` sets, too: this is done for every ticket.
        commitment, self.terms_hash = plain
        self.commitment = commitment
        self.key = ticket_key(commitment)
        self.received_at = received_at
        self.is_barrier = self.is_done = False
        self.requested = requested
        self.place = place
        self.has_admission = False
        self._late_at: UnixMillis | None = None

    def build(self, time: UnixMillis) -> bytes:
        """The ticket's entry, unless the rules refuse it."""
        ledgers = self.requested.ledgers
        entry = ledgers.rules.stamp(self, time, is_opened=ledgers.is_opened)
        if entry is None:
            self._late_at = time
            last = format_rfc3339(ledgers.rules.last)
            raise DeadlinePassedError(f"call {ledgers.call.id}: the last moment was {last}")
        return entry

    def settle(self, result: Result) -> None:
        """Hand on the ticket, ask for a refusal, or say why there is neither."""
        if isinstance(result, Appended):
            self.requested.put(self.place, spell_ticketed(result.proof))
        elif self._late_at is not None:
            self._refuse(self._late_at)
        else:
            self.requested.postpone(self, result)

    def _refuse(self, late_at: UnixMillis) -> None:
        try:
            self.requested.ledgers.refusals_sequencer.enqueue([Refusal(self, late_at)])
        except UnavailableError as exc:
            self.requested.postpone(self, exc)


class Refusal(Claim):
    """The refusal of an item that came too late.

    Args:
        item: What is refused.
        late_at: The time that its ticket would have got.
    """

    __slots__ = ("_item",)

    def __init__(self, item: Item, late_at: UnixMillis) -> None:
        super().__init__(refusal_key(item.commitment), late_at)
        self._item = item

    def build(self, time: UnixMillis) -> bytes:
        """The refusal's entry."""
        return RefusedEntry(
            origin=self._item.requested.ledgers.call.origin.refusals,
            time=time,
            digest=self._item.commitment,
            reason="deadline-passed",
        ).encode()

    def settle(self, result: Result) -> None:
        """Hand on the refusal, or say why there is none."""
        if isinstance(result, Appended):
            self._item.requested.put(self._item.place, spell_refused(result.proof))
        else:
            self._item.requested.postpone(self._item, result)
