"""Whether a commitment gets a ticket of a call: the rules of ticketing, as of the latest terms.

Source: docs/spec/ticketing.md, decision.
"""

from __future__ import annotations

from typing import Protocol

from bistro.errors import (
    DeadlinePassedError,
    NotOpenError,
    NotRegisteredError,
    UnknownObjectError,
)
from bistro.instant import UnixMillis, format_rfc3339
from bistro.protocol.deadline import latest_on_time
from bistro.wire.plain_ticket import TicketSpeller
from bistro_server.services.calls import Call


class Asked(Protocol):
    """What is known of one request for a ticket."""

    commitment: bytes
    terms_hash: bytes
    has_admission: bool
    received_at: UnixMillis


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
        self._speller = TicketSpeller(str(call.origin))

    def stamp(self, asked: Asked, time: UnixMillis, *, is_opened: bool) -> bytes | None:
        """The ticket's entry, or ``None`` if ``time`` is too late and a refusal is to be written.

        Args:
            asked: What is asked for.
            time: What the entry would get.
            is_opened: Whether the log has its ``opening`` entry.

        Raises:
            RefusedError: Nothing is to be written.
        """
        if asked.terms_hash not in self._versions:
            raise UnknownObjectError(f"call {self._id}: no such version of the terms")
        if not self._is_for_anyone or asked.has_admission:
            raise NotRegisteredError(f"call {self._id}: expected no admission")
        if asked.received_at < self.opens:
            raise NotOpenError(f"call {self._id}: it opens at {format_rfc3339(self.opens)}")
        if is_opened or asked.received_at > self._repair_by:
            raise DeadlinePassedError(f"call {self._id}: it is over")
        return None if time > self.last else self._speller.spell(time, asked.commitment)
