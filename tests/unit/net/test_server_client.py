"""The client of a server, over loopback: every route is asked as written and read strictly."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from bistro.api import media, routes
from bistro.api.routes import Route
from bistro.daemon.bodies import read_body
from bistro.daemon.web import Endpoint
from bistro.errors import FormatError, UnknownObjectError
from bistro.instant import UnixMillis
from bistro.net.server_client import ServerClient
from bistro.net.session import Session
from bistro.wire.consistency import format_consistency
from bistro.wire.discovery import ServerDiscovery
from bistro.wire.entry import ClosedEntry, OpeningEntry, TermsEntry
from bistro.wire.proof import Proof
from bistro.wire.served_terms import ServedTerms
from bistro.wire.staging import (
    Failure,
    PresentedReceipt,
    ReceiptAccepted,
    Repair,
    decode_presented,
    encode_receipt_answers,
    encode_repairs,
)
from bistro.wire.terms import build
from bistro.wire.ticket import TermsInForce
from bistro.wire.ticketing import (
    Postponed,
    TicketAnswer,
    TicketAnswers,
    Ticketed,
    TicketRequest,
    TicketRequests,
)
from tests.support.evidence import ORIGIN, first_terms
from tests.support.promises import MemoryLedger
from tests.support.serving import serving
from tests.support.strategies import note_key

COMMITMENT = bytes(range(32))


TERMS = build(first_terms(), note_key(ORIGIN.server))


@contextlib.asynccontextmanager
async def client_of(*endpoints: Endpoint) -> AsyncIterator[ServerClient]:
    """A client of a server that answers ``endpoints``."""
    async with serving(*endpoints) as base, Session() as session:
        yield ServerClient(session, base)


def answering(route: Route, body: bytes, asked: list[str] | None = None) -> Endpoint:
    """Answers ``route`` with ``body`` and notes the paths it was asked for."""

    async def handler(request: web.Request) -> web.Response:
        if asked is not None:
            asked.append(request.raw_path)
        return web.Response(body=body)

    return Endpoint(route, handler)


def log_with_terms() -> tuple[MemoryLedger, ServedTerms]:
    log = MemoryLedger(note_key(str(ORIGIN)))
    entry = TermsEntry(origin=str(ORIGIN), time=UnixMillis(1), digest=TERMS.hash)
    return log, ServedTerms(TERMS, TermsInForce.parse(log.promise(entry)))


async def test_discovery_is_fetched() -> None:
    """From its well-known place."""
    discovery = ServerDiscovery(
        name=ORIGIN.server,
        terms_key=note_key(ORIGIN.server).verifier,
        base_url="https://permits.example",
        calls=(),
    )
    async with client_of(answering(routes.DISCOVERY, discovery.encode())) as client:
        assert await client.fetch_discovery() == discovery


async def test_terms_come_with_their_proof() -> None:
    """The latest, and any version by its hash; another one under that hash is malformed."""
    _, served = log_with_terms()
    async with client_of(
        answering(routes.TERMS, served.encode()),
        answering(routes.TERMS_VERSION, served.encode()),
    ) as client:
        assert await client.fetch_terms("spring") == served
        assert await client.fetch_terms_version("spring", TERMS.hash) == served
        with pytest.raises(FormatError, match="terms version"):
            await client.fetch_terms_version("spring", bytes(32))


async def test_tickets_are_asked_for_one_by_one_and_in_bulk() -> None:
    """The shape of the answer is that of the question, its order too."""
    given: list[TicketAnswer] = [Ticketed("ticket"), Postponed("overloaded", 500)]

    async def handler(request: web.Request) -> web.Response:
        media.require_media_type(request.content_type, media.MSGPACK)
        asked = TicketRequests.decode(await read_body(request, limit=1_000))
        answers = tuple(given[: len(asked.items)])
        return web.Response(body=TicketAnswers(answers, asked.is_bulk).encode())

    request = TicketRequest(COMMITMENT, TERMS.hash)
    async with client_of(Endpoint(routes.TICKETS, handler)) as client:
        assert await client.request_ticket("spring", request) == given[0]
        assert await client.request_tickets("spring", [request, request]) == tuple(given)
        with pytest.raises(FormatError, match="expected 3, found 2"):
            await client.request_tickets("spring", [request] * 3)


async def test_an_answer_of_another_shape_is_malformed() -> None:
    """One ticket for a list of requests would be taken for the first one's."""
    single = TicketAnswers((Ticketed("ticket"),)).encode()
    async with client_of(answering(routes.TICKETS, single)) as client:
        with pytest.raises(FormatError, match="shape"):
            await client.request_tickets("spring", [TicketRequest(COMMITMENT, TERMS.hash)])


async def test_receipts_are_presented_and_answered_one_by_one() -> None:
    """A bad receipt does not spoil the others."""
    presented = [PresentedReceipt(b"claim", "receipt"), PresentedReceipt(b"other", "receipt")]
    answers = (ReceiptAccepted(1, is_staged=False), Failure("not-verified", "expected another"))

    async def handler(request: web.Request) -> web.Response:
        assert decode_presented(await read_body(request, limit=1_000)) == tuple(presented)
        return web.Response(body=encode_receipt_answers(answers))

    async with client_of(Endpoint(routes.RECEIPTS, handler)) as client:
        assert await client.present_receipts("spring", presented) == answers


async def test_repairs_are_asked_for_from_a_cursor() -> None:
    """What was seen is not sent again."""
    asked: list[str] = []
    repairs = (Repair(8, COMMITMENT, (0, 2), UnixMillis(9)),)
    async with client_of(answering(routes.REPAIRS, encode_repairs(repairs), asked)) as client:
        assert await client.fetch_repairs("spring", after=7, limit=10) == repairs
    assert asked == ["/calls/spring/repairs?after=7&limit=10"]


async def test_notes_are_fetched_and_parsed() -> None:
    """Status, outcome, checkpoint and minutes, each from its address."""
    log, _ = log_with_terms()
    note = log.checkpoint_note()
    asked: list[str] = []
    found = [
        answering(route, note, asked)
        for route in (routes.STATUS, routes.OUTCOME, routes.LOG_CHECKPOINT, routes.MINUTES)
    ]
    async with client_of(*found) as client:
        notes = [
            await client.fetch_status("spring", COMMITMENT),
            await client.fetch_outcome("spring", COMMITMENT, bytes(32)),
            await client.fetch_checkpoint("spring"),
            await client.fetch_minutes("spring"),
        ]
    assert {one.encode() for one in notes} == {note}
    assert asked == [
        f"/calls/spring/status/{COMMITMENT.hex()}",
        f"/calls/spring/status/{COMMITMENT.hex()}/{'00' * 32}",
        "/calls/spring/log/checkpoint",
        "/calls/spring/minutes",
    ]


async def test_proofs_and_tiles_of_the_log_are_fetched() -> None:
    """Closed and opening are entries of their kinds; before that they are unknown."""
    log, served = log_with_terms()
    closed = log.promise(ClosedEntry(origin=str(ORIGIN), time=UnixMillis(2), digest=TERMS.hash))
    opening = log.promise(OpeningEntry(origin=str(ORIGIN), time=UnixMillis(3), digest=TERMS.hash))
    asked: list[str] = []
    async with client_of(
        answering(routes.LOG_CLOSED, closed.encode()),
        answering(routes.LOG_OPENING, opening.encode()),
        answering(routes.LOG_PROOF, served.entry.text().encode(), asked),
        answering(routes.LOG_TILE, b"hashes", asked),
        answering(routes.LOG_CONSISTENCY, format_consistency([bytes(32)]), asked),
    ) as client:
        assert (await client.fetch_closed("spring")).text() == closed
        assert (await client.fetch_opening("spring")).text() == opening
        assert await client.fetch_log_proof("spring", 0) == Proof.parse(served.entry.text())
        assert await client.fetch_tile("spring", "entries/x001/067.p/12") == b"hashes"
        assert await client.fetch_consistency("spring", 3, 7) == (bytes(32),)
    assert asked == [
        "/calls/spring/log/proof/0",
        "/calls/spring/log/tile/entries/x001/067.p/12",
        "/calls/spring/log/consistency/3/7",
    ]
    async with client_of() as client:
        with pytest.raises(UnknownObjectError):
            await client.fetch_opening("spring")


async def test_nonsense_is_malformed() -> None:
    """A server that answers something else gives one clear error."""
    async with client_of(
        answering(routes.TERMS, b"<html>"), answering(routes.STATUS, b"<html>")
    ) as client:
        with pytest.raises(FormatError):
            await client.fetch_terms("spring")
        with pytest.raises(FormatError):
            await client.fetch_status("spring", COMMITMENT)
