"""What other processes of this server ask through the Unix socket: see ``services.control``.

Source: docs/decisions/0003-own-process-for-collecting-and-opening.md.
"""

from __future__ import annotations

from aiohttp import web

from bistro.daemon.web import Endpoint
from bistro_server.http import logs, stamped
from bistro_server.http.desks import call_of, hash_of
from bistro_server.http.logs import proof_response
from bistro_server.services import control


async def close_call(request: web.Request) -> web.StreamResponse:
    """Append the ``closed`` entry if it is due."""
    return proof_response(request, await call_of(request).append_closed(), what="closed entry")


async def open_call(request: web.Request) -> web.StreamResponse:
    """Append the ``opening`` entry."""
    return proof_response(request, await call_of(request).append_opening(), what="opening entry")


async def show_ticket(request: web.Request) -> web.StreamResponse:
    """The ticket of a commitment."""
    found = await call_of(request).find_ticket(hash_of(request, "commitment"))
    return proof_response(request, found, what="ticket of this commitment")


async def show_terms_entry(request: web.Request) -> web.StreamResponse:
    """The entry of a version of the terms."""
    found = await call_of(request).find_terms(hash_of(request, "terms_hash"))
    return proof_response(request, found, what="such version of the terms")


ENDPOINTS = (
    *logs.ENDPOINTS,
    *stamped.ENDPOINTS,
    Endpoint(control.CLOSE_CALL, close_call),
    Endpoint(control.OPEN_CALL, open_call),
    Endpoint(control.LOG_TICKET, show_ticket),
    Endpoint(control.LOG_TERMS, show_terms_entry),
)
