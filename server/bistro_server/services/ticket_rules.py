"""Whether a commitment gets a ticket of a call: the rules of ticketing, as of the latest terms.

Source: docs/spec/ticketing.md, decision.
"""

from __future__ import annotations

from bistro.errors import (
    DeadlinePassedError,
    NotOpenError,
    NotRegisteredError,
    UnknownObjectError,
)
from bistro.instant import UnixMillis, format_rfc3339
from bistro.protocol.deadline import latest_on_time
from bistro.wire.entry import RefusedEntry, TicketEntry
from bistro.wire.plain_ticket import EntrySpeller
from bistro_server.services.calls import Call


class TicketRules:
    """The rules of one call under its present terms.

    Args:
        call: With all its versions of the terms.

    Attributes:
        opens: Tickets are stamped for who was received from here on.
        last: The last time that a ticket may have.
    """

    def __init__(self, call: Call) -> None:
        terms = call.terms
        self.opens = terms.opens
        self._id = call.id
        self._versions = frozenset(one.hash for one in call.versions)
        self._is_for_anyone = terms.filers == "anyone"
        self.last = latest_on_time(terms)
        self._repair_by = terms.repair_by
        self._speller = EntrySpeller(
            TicketEntry(origin=str(call.origin), time=UnixMillis(0), digest=bytes(32))
        )
        self._refusal_speller = EntrySpeller(
            RefusedEntry(
                origin=call.origin.refusals,
                time=UnixMillis(0),
                digest=bytes(32),
                reason="deadline-passed",
            )
        )

    def require_right(
        self,
        terms_hash: bytes,
        *,
        has_admission: bool,
        received_at: UnixMillis,
        is_opened: bool,
    ) -> None:
        """Accept who may be told a ticket or a refusal.

        Args:
            terms_hash: Of the terms that the request names.
            has_admission: Whether it has an admission.
            received_at: When its last byte had been read.
            is_opened: Whether the log has its ``opening`` entry.

        Raises:
            RefusedError: Nothing is to be written.
        """
        if terms_hash not in self._versions:
            raise UnknownObjectError(f"call {self._id}: no such version of the terms")
        if not self._is_for_anyone or has_admission:
            raise NotRegisteredError(f"call {self._id}: expected no admission")
        if received_at < self.opens:
            raise NotOpenError(f"call {self._id}: it opens at {format_rfc3339(self.opens)}")
        if is_opened or received_at > self._repair_by:
            raise DeadlinePassedError(f"call {self._id}: it is over")

    def is_known(self, terms_hash: bytes) -> bool:
        """Whether these are terms of the call."""
        return terms_hash in self._versions

    def spell_tickets(self, time: UnixMillis, commitments: list[bytes]) -> list[bytes]:
        """The entries of tickets.

        Raises:
            DeadlinePassedError: The time is too late: refusals are to be written.
        """
        if time > self.last:
            last = format_rfc3339(self.last)
            raise DeadlinePassedError(f"call {self._id}: the last moment was {last}")
        return self._speller.spell(time, commitments)

    def spell_refusals(self, time: UnixMillis, commitments: list[bytes]) -> list[bytes]:
        """The entries that refuse who came too late."""
        return self._refusal_speller.spell(time, commitments)
