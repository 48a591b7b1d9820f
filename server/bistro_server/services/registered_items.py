"""Requests for tickets of registered calls: from the admission to the answer.

Source: docs/spec/ticketing.md, decision; docs/spec/admission.md.
"""

from __future__ import annotations

from typing import Protocol

from bistro.errors import (
    BistroError,
    ConflictError,
    DeadlinePassedError,
    NotOpenError,
    NotRegisteredError,
    OverloadedError,
    RefusedError,
    UnavailableError,
    UnknownObjectError,
)
from bistro.instant import UnixMillis, format_rfc3339
from bistro.ledger.appended import Appended
from bistro.ledger.claims import Claim, Result
from bistro.protocol.deadline import latest_on_time
from bistro.wire.admission import Admitted
from bistro.wire.entry import RefusedEntry, TicketEntry, decode_entry
from bistro.wire.plain_ticket import spell_ticketed
from bistro_server.services.ledgers import ticket_key
from bistro_server.services.ticket_items import Refusal
from bistro_server.services.ticket_parties import Party


class Roll(Protocol):
    """What is known of a call's filers while its tickets are stamped."""

    def is_registered(self, key: bytes) -> bool:
        """Whether the key counts now."""
        ...

    def has_room(self, key: bytes) -> bool:
        """Whether the filer may have another ticket."""
        ...

    def count(self, key: bytes, change: int) -> None:
        """A ticket more of this filer, or, as it was not written after all, one less."""
        ...


class AdmittedItem(Claim):
    """One commitment that a filer asks a ticket for.

    Args:
        party: Who asks.
        place: Which item of theirs.
        admitted: Commitment, terms hash and admission.
        roll: Who is registered, and has how many tickets.
        received_at: When the request's last byte had been read.

    Attributes:
        admitted: As given.
        is_kept: Whether the admission is durable: before that nothing is stamped.
    """

    __slots__ = ("_is_counted", "_party", "_place", "_refusal", "_roll", "admitted", "is_kept")

    def __init__(
        self,
        party: Party,
        place: int,
        admitted: Admitted,
        roll: Roll,
        received_at: UnixMillis,
    ) -> None:
        super().__init__(ticket_key(admitted.commitment), received_at)
        self.admitted = admitted
        self.is_kept = False
        self._party = party
        self._place = place
        self._roll = roll
        self._is_counted = False
        self._refusal: tuple[str, UnixMillis] | None = None

    @property
    def filer(self) -> bytes:
        """The filer's key."""
        return self.admitted.admission.filer_key

    def is_wanted(self) -> bool:
        """Whether somebody waits for it."""
        return not self.is_done and not self._party.has_gone(self._place)

    @property
    def may_be_stamped(self) -> bool:
        """Whether a new ticket is possible, as far as can be said before its turn."""
        terms = self._party.ledgers.terms
        return self.received_at <= latest_on_time(terms) and self._roll.has_room(self.filer)

    def build(self, time: UnixMillis) -> bytes:
        """The ticket's entry, unless the rules refuse it."""
        ledgers = self._party.ledgers
        call, terms = ledgers.call, ledgers.terms
        if call.version(self.admitted.terms_hash) is None:
            raise UnknownObjectError(f"call {call.id}: no such version of the terms")
        if not self._roll.is_registered(self.filer):
            raise NotRegisteredError(f"call {call.id}: this filer's key was revoked")
        if self.received_at < terms.opens:
            raise NotOpenError(f"call {call.id}: it opens at {format_rfc3339(terms.opens)}")
        if ledgers.is_opened or self.received_at > terms.repair_by:
            raise DeadlinePassedError(f"call {call.id}: it is over")
        if time > latest_on_time(terms):
            self._refusal = ("deadline-passed", time)
            raise DeadlinePassedError(f"call {call.id}: it is too late")
        if not self._roll.has_room(self.filer):
            self._refusal = ("tickets-per-filer", time)
            raise RefusedError(f"call {call.id}: this filer has all the tickets it may have")
        if not self.is_kept:
            # It seemed impossible when admissions were written; asking again writes this one.
            raise OverloadedError(f"call {call.id}: ask again")
        self._roll.count(self.filer, 1)
        self._is_counted = True
        return TicketEntry(
            origin=str(call.origin),
            time=time,
            digest=self.admitted.commitment,
            admission=self.admitted.admission.hash,
        ).encode()

    def tell(self, result: Result) -> None:
        """Settle, and count no ticket that is not in the log; also if nobody waits any more."""
        if self._is_counted and not isinstance(result, Appended):
            self._is_counted = False
            self._roll.count(self.filer, -1)
        super().tell(result)

    def settle(self, result: Result) -> None:
        """Hand on the ticket, ask for a refusal, or say why there is neither."""
        if not isinstance(result, Appended):
            self._settle_error(result)
        elif _names(result.entry) == self.admitted.admission.hash:
            self._party.put((self._place,), (spell_ticketed(result.proof),))
        else:
            self.postpone(ConflictError("the commitment has a ticket with another admission"))

    def _settle_error(self, error: BistroError) -> None:
        if self._refusal is None:
            self.postpone(error)
            return
        reason, time = self._refusal
        refusal = FilerRefusal(self._party, self._place, self.admitted.commitment, time, reason)
        try:
            self._party.ledgers.refusals_sequencer.enqueue([refusal])
        except UnavailableError as exc:
            refusal.tell(exc)

    def postpone(self, error: BistroError) -> None:
        """Nothing was written for it."""
        self._party.postpone((self._place,), self.received_at, error)


def _names(entry: bytes) -> bytes | None:
    found = decode_entry(entry)
    return found.admission if isinstance(found, TicketEntry) else None


class FilerRefusal(Refusal):
    """The refusal of a filer's item, for whichever reason.

    Args:
        party: Who asked.
        place: Which item of theirs.
        commitment: What is refused.
        at: The time that its ticket would have got.
        reason: Why, one of the reasons of entries.
    """

    __slots__ = ("_reason",)

    def __init__(
        self, party: Party, place: int, commitment: bytes, at: UnixMillis, reason: str
    ) -> None:
        super().__init__(party, place, commitment, at)
        self._reason = reason

    def build(self, time: UnixMillis) -> bytes:
        """The refusal's entry."""
        return RefusedEntry(
            origin=self._party.ledgers.call.origin.refusals,
            time=time,
            digest=self._commitment,
            reason=self._reason,
        ).encode()
