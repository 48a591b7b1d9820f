"""Tickets, receipts and repairs: what filers' clients ask while they submit.

Source: docs/spec/api.md, destination.
"""

from __future__ import annotations

from aiohttp import web

from bistro.api import media, routes
from bistro.daemon.bodies import read_body
from bistro.daemon.bursts import Burst
from bistro.daemon.quick import Exchange, Gathering, Pending, QuickEndpoint
from bistro.daemon.web import Endpoint
from bistro.wire.document import MAX_INTEGER
from bistro.wire.plain_ticket import REQUEST_SIZE
from bistro.wire.staging import (
    MAX_PRESENTED_SIZE,
    MAX_REPAIRS,
    decode_presented,
    encode_receipt_answers,
    encode_repairs,
)
from bistro.wire.ticketing import MAX_REQUESTS_SIZE
from bistro_server.http.desks import DESKS, Desks, asker_of, call_of, private_response
from bistro_server.services.ledgers import CallLedgers


async def request_tickets(request: web.Request) -> web.StreamResponse:
    """``POST /calls/{call}/tickets``."""
    media.require_media_type(request.headers.get("Content-Type"), media.MSGPACK)
    desk, ledgers = request.app[DESKS].tickets, call_of(request)
    body = await read_body(request, limit=MAX_REQUESTS_SIZE)
    received_at = desk.received()  # the last byte has been read: this is the time that counts
    who = asker_of(request)
    answer = await desk.answer(ledgers, body, received_at=received_at, who=who)
    return private_response(answer)


async def request_tickets_plainly(request: web.Request) -> web.StreamResponse:
    """As ``request_tickets``, on the port without TLS: not where requests name filers."""
    request.app[DESKS].tickets.require_for_anyone(call_of(request))
    return await request_tickets(request)


def quick_tickets(desks: Desks, *, is_plain: bool) -> QuickEndpoint:
    """As ``request_tickets``, or ``request_tickets_plainly``, for the quick way."""

    def ledgers_of(call: str) -> CallLedgers:
        ledgers = desks.calls.get(call)
        if is_plain:
            desks.tickets.require_for_anyone(ledgers)
        return ledgers

    def begin(call: str, body: bytes, exchange: Exchange) -> Pending:
        ledgers = ledgers_of(call)
        return desks.tickets.ask(ledgers, body, exchange, received_at=exchange.received_at)

    def begin_all(call: str, burst: Burst) -> None:
        desks.tickets.ask_all(ledgers_of(call), burst)

    return QuickEndpoint(
        routes.TICKETS,
        media.MSGPACK,
        MAX_REQUESTS_SIZE,
        begin,
        gathering=Gathering(REQUEST_SIZE, begin_all),
    )


async def present_receipts(request: web.Request) -> web.StreamResponse:
    """``POST /calls/{call}/receipts``."""
    media.require_media_type(request.headers.get("Content-Type"), media.MSGPACK)
    call = call_of(request).call
    items = decode_presented(await read_body(request, limit=MAX_PRESENTED_SIZE))
    answers = await request.app[DESKS].receipts.present(call, items)
    return private_response(encode_receipt_answers(answers))


async def list_repairs(request: web.Request) -> web.StreamResponse:
    """``GET /calls/{call}/repairs``."""
    query, call = request.query, call_of(request).call
    after = routes.parse_number(query, "after", default=0, maximum=MAX_INTEGER)
    limit = routes.parse_number(query, "limit", default=MAX_REPAIRS, maximum=MAX_REPAIRS)
    repairs = await request.app[DESKS].receipts.repairs(call, after=after, limit=limit)
    return private_response(encode_repairs(repairs))


PLAIN_ENDPOINTS = (Endpoint(routes.TICKETS, request_tickets_plainly),)
ENDPOINTS = (
    Endpoint(routes.TICKETS, request_tickets),
    Endpoint(routes.RECEIPTS, present_receipts),
    Endpoint(routes.REPAIRS, list_repairs),
)
