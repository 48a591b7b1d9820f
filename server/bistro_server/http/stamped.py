"""Entries under checkpoints that another authority stamped.

Source: docs/spec/timestamps.md, anchors; docs/spec/api.md, destination.
"""

from __future__ import annotations

from aiohttp import web

from bistro.api import media, routes
from bistro.daemon.caching import MINUTE, cacheable_response
from bistro.daemon.web import Endpoint
from bistro_server.http.desks import DESKS, call_of, index_of


async def show_stamped(request: web.Request) -> web.StreamResponse:
    """``GET /calls/{call}/log/stamped/{index}``."""
    found = await request.app[DESKS].anchoring.stamped(call_of(request), index_of(request))
    return cacheable_response(
        request, found.encode(), content_type=media.JSON, cache_control=MINUTE
    )


ENDPOINTS = (Endpoint(routes.LOG_STAMPED, show_stamped),)
