"""RFC 3161 over HTTP.

Source: docs/spec/timestamps.md; RFC 3161, section 3.4.
"""

from __future__ import annotations

from aiohttp import web

from bistro.api import media, routes
from bistro.crypto.timestamp.request import MAX_REQUEST_SIZE
from bistro.daemon.bodies import read_body
from bistro.daemon.quick import Exchange, QuickEndpoint
from bistro.daemon.web import Endpoint
from bistro_server.http.desks import DESKS, Desks, asker_of, private_response


async def stamp(request: web.Request) -> web.StreamResponse:
    """``POST /tsa``: a refusal is an answer too, and comes with status 200."""
    media.require_media_type(request.headers.get("Content-Type"), media.TIMESTAMP_QUERY)
    body = await read_body(request, limit=MAX_REQUEST_SIZE)
    desks = request.app[DESKS]
    desks.peers.require_tokens(asker_of(request).bucket, 1)
    answer = desks.timestamps.answer(body)
    return private_response(answer, content_type=media.TIMESTAMP_REPLY)


def quick_stamps(desks: Desks) -> QuickEndpoint:
    """As ``stamp``, for the quick way: signing takes less time than handing it to anybody."""
    answer, require_tokens = desks.timestamps.answer, desks.peers.require_tokens

    def begin(_: str, body: bytes, exchange: Exchange) -> None:
        require_tokens(exchange.bucket, 1)
        exchange.tell(answer(body))

    return QuickEndpoint(
        routes.TIMESTAMPS,
        media.TIMESTAMP_QUERY,
        MAX_REQUEST_SIZE,
        begin,
        answer_type=media.TIMESTAMP_REPLY,
    )


ENDPOINTS = (Endpoint(routes.TIMESTAMPS, stamp),)
