"""Single items of ticket requests on their way through the sequencers of their call.

Most go in lots (``ticket_lots``). An ``Item`` is one of which something is special: it has an
admission, is for other terms, or its commitment is known or stands twice in a batch.

Source: docs/spec/ticketing.md, decision, refusals.
"""

from __future__ import annotations

from bistro.errors import DeadlinePassedError, UnavailableError
from bistro.instant import UnixMillis
from bistro.ledger.appended import Appended
from bistro.ledger.claims import Claim, Result
from bistro.wire.plain_ticket import Plain, spell_refused, spell_ticketed
from bistro_server.services.ledgers import refusal_key, ticket_key
from bistro_server.services.ticket_parties import Party


class Item(Claim):
    """One commitment that wants a ticket.

    Args:
        party: Who asked.
        place: Which item of theirs.
        plain: Commitment and terms hash.
        received_at: When the request's last byte had been read.
        has_admission: Whether an admission came with it.
    """

    __slots__ = ("_has_admission", "_late_at", "_party", "_place", "_terms_hash", "commitment")

    def __init__(
        self,
        party: Party,
        place: int,
        plain: Plain,
        received_at: UnixMillis,
        *,
        has_admission: bool = False,
    ) -> None:
        self.commitment, self._terms_hash = plain
        super().__init__(ticket_key(self.commitment), received_at)
        self._party = party
        self._place = place
        self._has_admission = has_admission
        self._late_at: UnixMillis | None = None

    def is_wanted(self) -> bool:
        """Whether somebody waits for the answer."""
        return not self.is_done and not self._party.has_gone(self._place)

    def build(self, time: UnixMillis) -> bytes:
        """The ticket's entry, unless the rules refuse it."""
        ledgers = self._party.ledgers
        ledgers.rules.require_right(
            self._terms_hash,
            has_admission=self._has_admission,
            received_at=self.received_at,
            is_opened=ledgers.is_opened,
        )
        try:
            (entry,) = ledgers.rules.spell_tickets(time, [self.commitment])
        except DeadlinePassedError:
            self._late_at = time
            raise
        return entry

    def settle(self, result: Result) -> None:
        """Hand on the ticket, ask for a refusal, or say why there is neither."""
        if isinstance(result, Appended):
            self._party.put((self._place,), (spell_ticketed(result.proof),))
        elif self._late_at is None:
            self._party.postpone((self._place,), self.received_at, result)
        else:
            refusal = Refusal(self._party, self._place, self.commitment, self._late_at)
            try:
                self._party.ledgers.refusals_sequencer.enqueue([refusal])
            except UnavailableError as exc:
                refusal.tell(exc)


class Refusal(Claim):
    """The refusal of one item that came too late.

    Args:
        party: Who asked.
        place: Which item of theirs.
        commitment: What is refused.
        late_at: The time that its ticket would have got.
    """

    __slots__ = ("_commitment", "_party", "_place")

    def __init__(self, party: Party, place: int, commitment: bytes, late_at: UnixMillis) -> None:
        super().__init__(refusal_key(commitment), late_at)
        self._party = party
        self._place = place
        self._commitment = commitment

    def is_wanted(self) -> bool:
        """Whether somebody waits for the answer."""
        return not self.is_done and not self._party.has_gone(self._place)

    def build(self, time: UnixMillis) -> bytes:
        """The refusal's entry."""
        (entry,) = self._party.ledgers.rules.spell_refusals(time, [self._commitment])
        return entry

    def settle(self, result: Result) -> None:
        """Hand on the refusal, or say why there is none."""
        if isinstance(result, Appended):
            self._party.put((self._place,), (spell_refused(result.proof),))
        else:
            self._party.postpone((self._place,), self.received_at, result)
