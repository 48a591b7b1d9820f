"""What anybody may ask: discovery and known terms; and the operator's status, on a Unix socket.

Source: docs/spec/api.md, relay.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from bistro.api import media, routes
from bistro.api.routes import Route
from bistro.daemon.caching import NEVER, cacheable_response
from bistro.daemon.web import Endpoint
from bistro.errors import UnknownObjectError
from bistro.ids import Origin
from bistro.wire.document import Json, encode_json
from bistro_relay.services.overview import Overview
from bistro_relay.services.terms_book import TermsBook

CONTROL_STATUS: Final = Route("control_status", "GET", "/status")
"""Answered on the control socket only."""


class PublicApi:
    """Routes without signatures.

    Args:
        overview: Describes the relay.
        book: Known terms.
    """

    def __init__(self, overview: Overview, book: TermsBook) -> None:
        self._overview = overview
        self._book = book

    def endpoints(self) -> list[Endpoint]:
        """What this answers."""
        return [
            Endpoint(routes.RELAY_DISCOVERY, self._discovery),
            Endpoint(routes.RELAY_TERMS, self._terms),
        ]

    async def _discovery(self, request: web.Request) -> web.Response:
        body = self._overview.discovery().encode()
        return cacheable_response(request, body, content_type=media.JSON)

    async def _terms(self, request: web.Request) -> web.Response:
        origin = Origin(request.match_info["server"], request.match_info["call"])
        served = self._book.find(origin)
        if served is None:
            raise UnknownObjectError(f"call {origin}: its terms are not known here")
        return cacheable_response(request, served.encode(), content_type=media.JSON)


def control_endpoint(status: Callable[[], Awaitable[dict[str, Json]]]) -> Endpoint:
    """What the operator's command ``status`` asks for."""

    async def answer(_: web.Request) -> web.Response:
        body = encode_json(await status())
        return web.Response(body=body, headers={"Content-Type": media.JSON, "Cache-Control": NEVER})

    return Endpoint(CONTROL_STATUS, answer)
