"""Signed statuses and outcomes, as they lie on disk.

Source: docs/spec/opening.md, status.
"""

from __future__ import annotations

from aiohttp import web

from bistro.api import media, routes
from bistro.daemon.caching import cacheable_response
from bistro.daemon.web import Endpoint
from bistro_server.http.desks import DESKS, call_of, hash_of, private_response


async def show_status(request: web.Request) -> web.StreamResponse:
    """``GET /calls/{call}/status/{commitment}``."""
    call = call_of(request).call.id
    note = await request.app[DESKS].statuses.status(call, hash_of(request, "commitment"))
    return cacheable_response(request, note, content_type=media.TEXT)


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
