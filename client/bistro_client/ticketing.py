"""Asks for the ticket until a signed answer is there, and believes nothing but that.

Source: docs/spec/ticketing.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from bistro.errors import (
    BistroError,
    NotOpenError,
    SettingsError,
    StorageError,
    UnavailableError,
    catalogue,
    error_for_code,
)
from bistro.ids import Origin
from bistro.net.server_client import ServerClient
from bistro.protocol.deadline import latest_on_time
from bistro.protocol.submission import Sealed
from bistro.wire.admission import Admission
from bistro.wire.refusal import Refusal
from bistro.wire.terms import Terms
from bistro.wire.ticket import Ticket
from bistro.wire.ticketing import Postponed, Refused, Ticketed, TicketRequest
from bistro_client import peer_messages
from bistro_client.contact import Destination
from bistro_client.patience import Patience

OPENS_SOON_MS: Final = 10_000
_PLAIN_S: Final = 1.0
"""How long the plain port may take: what a filer loses where it is blocked."""
_MS_PER_S = 1_000
_PEERS_FAULTS = (StorageError, SettingsError)
"""These say that our own disk or options are at fault: of a peer they mean "not now"."""


@dataclass(frozen=True, slots=True)
class TicketWindow:
    """Where a destination's tickets are asked for.

    Attributes:
        destination: Whom to ask.
        origin: The call.
        terms: Its latest terms: the log's key, and when waiting ends.
        patience: How long to go on.
        on_failure: Told of every attempt that gave no ticket and no refusal.
    """

    destination: Destination
    origin: Origin
    terms: Terms
    patience: Patience
    on_failure: Callable[[BistroError], Awaitable[object]]

    async def ask(self, sealed: Sealed, admission: Admission | None) -> Ticket | Refusal:
        """The verified ticket, or the verified refusal; asking again gives the same one.

        Raises:
            DeadlinePassedError: It is so late that not even a refusal is given.
            NotOpenError: The call does not take tickets yet.
            UnavailableError: No signed answer, and no more patience.
            VerificationError: The answer is signed by nobody who may sign it.
        """
        header = sealed.signed.header
        request = TicketRequest(sealed.commitment, header.terms_hash, admission)

        async def attempt() -> Ticket | Refusal:
            try:
                return await self._ask(self.destination.client, request, header.filer_key)
            except BistroError as exc:
                await self.on_failure(exc)
                raise

        if (promise := await self._ask_plainly(request, header.filer_key)) is not None:
            return promise
        # After ``stage_by`` a ticket would lapse at once; until then each one is worth having.
        wait = self.patience.begin(
            until=self.terms.stage_by,
            best_by=latest_on_time(self.terms),
            time=self.destination.time,
        )
        return await wait.ask(attempt)

    async def _ask_plainly(
        self, request: TicketRequest, filer_key: bytes
    ) -> Ticket | Refusal | None:
        """What the plain port promised, if anything; no other word from there counts.

        Anybody on the way may answer there. What they cannot do is sign, and all that they can
        cost is a moment: the same request over HTTPS gets the same ticket. An admission names
        the filer, so it does not go that way.
        """
        if self.destination.plain is None or request.admission is not None:
            return None
        try:
            async with asyncio.timeout(_PLAIN_S):
                return await self._ask(self.destination.plain, request, filer_key)
        except (BistroError, TimeoutError):
            return None

    async def _ask(
        self, client: ServerClient, request: TicketRequest, filer_key: bytes
    ) -> Ticket | Refusal:
        answer = await client.request_ticket(self.origin.call, request)
        match answer:
            case Ticketed():
                return self._verified_ticket(answer.ticket, request.commitment)
            case Refused():
                return self._verified_refusal(answer.refusal, request.commitment)
            case Postponed():
                raise _postponement(answer, filer_key)

    def _verified_ticket(self, text: str, commitment: bytes) -> Ticket:
        ticket = Ticket.parse(text)
        ticket.verify(self.terms.keys.log, self.origin, commitment)
        return ticket

    def _verified_refusal(self, text: str, commitment: bytes) -> Refusal:
        refusal = Refusal.parse(text)
        refusal.verify(self.terms.keys.log, self.origin, commitment)
        return refusal


def _postponement(answer: Postponed, filer_key: bytes) -> BistroError:
    """The error that an answer without a stamp stands for."""
    retry_after_s = answer.retry_ms / _MS_PER_S if answer.retry_ms else None
    kind = catalogue().get(answer.code, UnavailableError)
    # A call that opens in seconds is worth the wait: so early only a clock's error brings us.
    opens_soon = kind is NotOpenError and 0 < answer.retry_ms <= OPENS_SOON_MS
    code = UnavailableError.code if opens_soon or issubclass(kind, _PEERS_FAULTS) else answer.code
    error = error_for_code(
        code, peer_messages.not_stamped(answer.code), retry_after_s=retry_after_s
    )
    error.hint = peer_messages.hint_for_postponed(answer.code, answer.retry_ms, filer_key)
    return error
