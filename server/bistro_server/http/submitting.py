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
from bistro_server.http.desks import DESKS, Desks, call_of, private_response


async def request_tickets(request: web.Request) -> web.StreamResponse:
    """``POST /calls/{call}/tickets``."""
    media.require_media_type(request.headers.get("Content-Type"), media.MSGPACK)
    desk, ledgers = request.app[DESKS].tickets, call_of(request)
    body = await read_body(request, limit=MAX_REQUESTS_SIZE)
    received_at = desk.received()  # the last byte has been read: this is the time that counts
    answer = await desk.answer(ledgers, body, received_at=received_at, address=request.remote or "")
    return private_response(answer)


def quick_tickets(desks: Desks) -> QuickEndpoint:
    """As ``request_tickets``, for the quick way."""

    def begin(call: str, body: bytes, exchange: Exchange) -> Pending:
        ledgers = desks.calls.get(call)
        return desks.tickets.ask(ledgers, body, exchange, received_at=exchange.received_at)

    def begin_all(call: str, burst: Burst) -> None:
        desks.tickets.ask_all(desks.calls.get(call), burst)

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


TICKET_ENDPOINTS = (Endpoint(routes.TICKETS, request_tickets),)
ENDPOINTS = (
    *TICKET_ENDPOINTS,
    Endpoint(routes.RECEIPTS, present_receipts),
    Endpoint(routes.REPAIRS, list_repairs),
)
