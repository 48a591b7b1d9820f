"""Asks a destination's ``bistro-server``: one typed method for each of its routes.

Answers are decoded strictly and otherwise not believed: whoever asked verifies promises and
notes against the keys it pinned. All requests may be repeated without harm.

Source: docs/spec/api.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from bistro.api import media, routes
from bistro.crypto.signing import Note
from bistro.errors import FormatError
from bistro.ids import format_commitment
from bistro.net.memory import Memory
from bistro.net.session import Answer, Session
from bistro.wire.anchor import MAX_STAMPED_SIZE, StampedEntry
from bistro.wire.consistency import MAX_CONSISTENCY_SIZE, parse_consistency
from bistro.wire.discovery import MAX_DISCOVERY_SIZE, ServerDiscovery
from bistro.wire.proof import MAX_PROOF_SIZE, Proof
from bistro.wire.served_terms import MAX_SERVED_TERMS_SIZE, ServedTerms
from bistro.wire.staging import (
    MAX_RECEIPT_ANSWERS_SIZE,
    MAX_REPAIRS,
    MAX_REPAIRS_SIZE,
    PresentedReceipt,
    ReceiptAnswer,
    Repair,
    decode_receipt_answers,
    decode_repairs,
    encode_presented,
)
from bistro.wire.ticket import Closed, Opening
from bistro.wire.ticketing import (
    MAX_ANSWERS_SIZE,
    TicketAnswer,
    TicketAnswers,
    TicketRequest,
    TicketRequests,
)

MAX_NOTE_SIZE = 65_536
"""Status, outcomes, minutes and checkpoints are far smaller."""
MAX_TILE_SIZE = 256 * (2 + 65_535)

T = TypeVar("T")


class ServerClient:
    """A destination, as its clients, relays and tools see it.

    Args:
        session: An open session.
        base_url: Where the API begins: what the user typed, then ``base_url`` of discovery.
        allow_http: Send over plain HTTP to any host: for ``tickets_url`` of discovery.
        memory: What was answered before: statuses are asked for by their tag, and what a call
            has published for everybody only when it is not fresh any more.
    """

    def __init__(
        self,
        session: Session,
        base_url: str,
        *,
        allow_http: bool = False,
        memory: Memory | None = None,
    ) -> None:
        self._base = base_url
        self._session = session
        self._allow_http = allow_http
        self._memory = memory

    async def fetch_discovery(self) -> ServerDiscovery:
        """What the server says about itself; unsigned."""
        url = routes.DISCOVERY.url(self._base)
        return ServerDiscovery.decode((await self._get(url, MAX_DISCOVERY_SIZE)).body)

    async def fetch_terms(self, call: str) -> ServedTerms:
        """The latest terms of a call with the proof of their entry, neither verified."""
        url = routes.TERMS.url(self._base, call=call)
        return ServedTerms.decode((await self._get(url, MAX_SERVED_TERMS_SIZE)).body)

    async def fetch_terms_version(self, call: str, terms_hash: bytes) -> ServedTerms:
        """One version of the terms, by its hash; as ``fetch_terms`` otherwise."""
        url = routes.TERMS_VERSION.url(self._base, call=call, terms_hash=terms_hash.hex())
        served = ServedTerms.decode((await self._get(url, MAX_SERVED_TERMS_SIZE)).body)
        if served.signed.hash != terms_hash:
            raise FormatError(
                f"terms version: expected {terms_hash.hex()}, found {served.signed.hash.hex()}"
            )
        return served

    async def request_ticket(self, call: str, request: TicketRequest) -> TicketAnswer:
        """Ask for one ticket; the same request gets the same ticket for ever."""
        return (await self._post_tickets(call, TicketRequests((request,))))[0]

    async def request_tickets(
        self, call: str, requests: Sequence[TicketRequest]
    ) -> tuple[TicketAnswer, ...]:
        """Ask for 1 to 1,000 tickets at once; one answer for each, in order."""
        return await self._post_tickets(call, TicketRequests(tuple(requests), is_bulk=True))

    async def present_receipts(
        self, call: str, items: Sequence[PresentedReceipt]
    ) -> tuple[ReceiptAnswer, ...]:
        """Show 1 to 255 receipts of relays; one answer for each, in order."""
        url = routes.RECEIPTS.url(self._base, call=call)
        answer = await self._post(url, encode_presented(tuple(items)), MAX_RECEIPT_ANSWERS_SIZE)
        return require_as_many("receipt", items, decode_receipt_answers(answer.body))

    async def fetch_repairs(
        self, call: str, *, after: int = 0, limit: int = MAX_REPAIRS
    ) -> tuple[Repair, ...]:
        """What is to be staged again, from the first cursor above ``after``."""
        query = {"after": after, "limit": limit}
        url = routes.REPAIRS.url(self._base, query=query, call=call)
        return decode_repairs((await self._get(url, MAX_REPAIRS_SIZE)).body)

    async def fetch_status(self, call: str, commitment: bytes) -> Note:
        """The signed public status; verify it with ``bistro.wire.status.verify_status``."""
        url = routes.STATUS.url(self._base, call=call, commitment=format_commitment(commitment))
        return Note.parse((await self._ask_anew(url, MAX_NOTE_SIZE)).body)

    async def fetch_outcome(self, call: str, commitment: bytes, token: bytes) -> Note:
        """The signed outcome, which only who knows the token may read."""
        shown = format_commitment(commitment)
        return await self._get_note(
            routes.OUTCOME.url(self._base, call=call, commitment=shown, token=token.hex())
        )

    async def fetch_checkpoint(self, call: str) -> Note:
        """The signed checkpoint of the call's log."""
        return await self._get_note(routes.LOG_CHECKPOINT.url(self._base, call=call))

    async def fetch_tile(self, call: str, tile: str) -> bytes:
        """A tile of the call's log, such as ``0/x001/067.p/12`` or ``entries/000``."""
        url = routes.LOG_TILE.url(self._base, call=call, tile=tile)
        return (await self._get(url, MAX_TILE_SIZE)).body

    async def fetch_log_proof(self, call: str, index: int) -> Proof:
        """The entry at ``index`` of the call's log, with a proof to its latest checkpoint."""
        url = routes.LOG_PROOF.url(self._base, call=call, index=str(index))
        return Proof.parse((await self._get(url, MAX_PROOF_SIZE)).body)

    async def fetch_consistency(self, call: str, old: int, size: int) -> tuple[bytes, ...]:
        """The path from ``old`` entries of the call's log to ``size``; nothing is verified."""
        url = routes.LOG_CONSISTENCY.url(self._base, call=call, old=str(old), size=str(size))
        return parse_consistency((await self._get(url, MAX_CONSISTENCY_SIZE)).body)

    async def fetch_closed(self, call: str) -> Closed:
        """The last ``closed`` entry with its proof; ``UnknownObjectError`` while there is none."""
        url = routes.LOG_CLOSED.url(self._base, call=call)
        return Closed.parse((await self._recall(url, MAX_PROOF_SIZE)).body)

    async def fetch_opening(self, call: str) -> Opening:
        """The ``opening`` entry with its proof; ``UnknownObjectError`` while there is none."""
        url = routes.LOG_OPENING.url(self._base, call=call)
        return Opening.parse((await self._recall(url, MAX_PROOF_SIZE)).body)

    async def fetch_stamped(self, call: str, index: int) -> StampedEntry:
        """An entry under a checkpoint that another authority stamped; nothing is verified.

        ``UnknownObjectError`` while no such checkpoint covers it.
        """
        url = routes.LOG_STAMPED.url(self._base, call=call, index=str(index))
        return StampedEntry.decode((await self._get(url, MAX_STAMPED_SIZE)).body)

    async def fetch_minutes(self, call: str) -> Note:
        """The signed minutes; ``UnknownObjectError`` before the call was opened."""
        url = routes.MINUTES.url(self._base, call=call)
        return Note.parse((await self._recall(url, MAX_NOTE_SIZE)).body)

    async def _post_tickets(self, call: str, requests: TicketRequests) -> tuple[TicketAnswer, ...]:
        url = routes.TICKETS.url(self._base, call=call)
        answers = TicketAnswers.decode(
            (await self._post(url, requests.encode(), MAX_ANSWERS_SIZE)).body
        )
        if answers.is_bulk != requests.is_bulk:
            raise FormatError("ticket answers: expected the shape of the request, found another")
        return require_as_many("ticket", requests.items, answers.items)

    async def _get_note(self, url: str) -> Note:
        return Note.parse((await self._get(url, MAX_NOTE_SIZE)).body)

    async def _recall(self, url: str, limit: int) -> Answer:
        """A GET of what is the same for everybody: not sent while its answer is fresh."""
        known = None if self._memory is None else self._memory.fresh(url)
        return known or await self._ask_anew(url, limit)

    async def _ask_anew(self, url: str, limit: int) -> Answer:
        """A GET that is always sent, with the tag of what is known."""
        if self._memory is None:
            return await self._get(url, limit)
        return await self._memory.ask(self._session, url, limit=limit)

    async def _get(self, url: str, limit: int) -> Answer:
        return await self._session.ask("GET", url, limit=limit)

    async def _post(self, url: str, body: bytes, limit: int) -> Answer:
        return await self._session.ask(
            "POST",
            url,
            headers={"Content-Type": media.MSGPACK},
            body=body,
            limit=limit,
            allow_http=self._allow_http,
        )


def require_as_many(what: str, asked: Sequence[object], answers: tuple[T, ...]) -> tuple[T, ...]:
    """The answers, if there is one for each item that was asked.

    Raises:
        FormatError: There are more or fewer.
    """
    if len(answers) != len(asked):
        raise FormatError(f"{what} answers: expected {len(asked)}, found {len(answers)}")
    return answers
