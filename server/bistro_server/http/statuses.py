"""Signed statuses and outcomes, as they lie on disk.

Source: docs/spec/opening.md, status.
"""

from __future__ import annotations

from aiohttp import web

from bistro.api import media, routes
from bistro.daemon.caching import BRIEFLY, HOUR, cacheable_response
from bistro.daemon.quick import Exchange, Page, Pending, QuickEndpoint
from bistro.daemon.web import Endpoint
from bistro.errors import BistroError
from bistro_server.http.desks import DESKS, Desks, call_of, hash_of, private_response
from bistro_server.services.statuses import is_last


async def show_status(request: web.Request) -> web.StreamResponse:
    """``GET /calls/{call}/status/{commitment}``."""
    call = call_of(request).call.id
    note = await request.app[DESKS].statuses.status(call, hash_of(request, "commitment"))
    return cacheable_response(request, note, content_type=media.TEXT, cache_control=_kept(note))


def _kept(note: bytes) -> str:
    """For how long anybody may keep a status: its last word for longer."""
    return HOUR if is_last(note) else BRIEFLY


def quick_status(desks: Desks) -> QuickEndpoint:
    """As ``show_status``, for the quick way: ten reads must cost less than a ticket."""

    def begin(field: str, _: bytes, exchange: Exchange) -> Pending | None:
        call, commitment = field.split("/")
        desks.calls.get(call)
        note = desks.statuses.peek(call, commitment)
        if note is not None:
            exchange.tell(Page.of(note, exchange.known_tags, _kept(note)))
            return None

        def tell(found: bytes | BistroError) -> None:
            if isinstance(found, bytes):
                exchange.tell(Page.of(found, exchange.known_tags, _kept(found)))
            else:
                exchange.tell(found)

        return desks.statuses.ask(call, bytes.fromhex(commitment), tell)

    return QuickEndpoint(routes.STATUS, "", 0, begin, answer_type=media.TEXT)


async def show_outcome(request: web.Request) -> web.StreamResponse:
    """``GET /calls/{call}/status/{commitment}/{token}``."""
    call = call_of(request).call.id
    note = await request.app[DESKS].statuses.outcome(
        call, hash_of(request, "commitment"), token=hash_of(request, "token")
    )
    return private_response(note, content_type=media.TEXT)


ENDPOINTS = (
    Endpoint(routes.STATUS, show_status),
    Endpoint(routes.OUTCOME, show_outcome),
)
