"""Discovery, terms and minutes.

Source: docs/spec/api.md, destination, caching.
"""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from bistro.api import media, routes
from bistro.daemon.caching import BRIEFLY, FOR_EVER, MINUTE, cacheable_response, is_known
from bistro.daemon.quick import Exchange, Page, QuickEndpoint
from bistro.daemon.web import Endpoint
from bistro_server.http.desks import DESKS, Desks, call_of, hash_of


async def show_discovery(request: web.Request) -> web.StreamResponse:
    """``GET /.well-known/bistro.json``."""
    document = request.app[DESKS].notices.discovery()
    return cacheable_response(request, document, content_type=media.JSON)


def quick_discovery(desks: Desks) -> QuickEndpoint:
    """As ``show_discovery``, for the quick way: every look at a status begins with it.

    A connection whose first request is not quick never is.
    """

    def begin(_: str, __: bytes, exchange: Exchange) -> None:
        exchange.tell(Page.of(desks.notices.discovery(), exchange.known_tags))

    return QuickEndpoint(routes.DISCOVERY, "", 0, begin, answer_type=media.JSON)


async def show_terms(request: web.Request) -> web.StreamResponse:
    """``GET /calls/{call}/terms``: the latest version."""
    return await _terms(request, call_of(request).terms.hash, cache_control=BRIEFLY)


async def show_terms_version(request: web.Request) -> web.StreamResponse:
    """``GET /calls/{call}/terms/{terms_hash}``: one version, which never changes."""
    return await _terms(request, hash_of(request, "terms_hash"), cache_control=FOR_EVER)


async def _terms(
    request: web.Request, terms_hash: bytes, *, cache_control: str
) -> web.StreamResponse:
    body = await request.app[DESKS].notices.terms(call_of(request), terms_hash)
    tag = f'"{terms_hash.hex()}"'
    headers = {"ETag": tag, "Cache-Control": cache_control}
    if is_known(tag, request.headers.get("If-None-Match", "")):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return web.Response(body=body, headers={"Content-Type": media.JSON, **headers})


async def show_minutes(request: web.Request) -> web.StreamResponse:
    """``GET /calls/{call}/minutes``."""
    note = await request.app[DESKS].notices.minutes(call_of(request).call)
    return cacheable_response(request, note, content_type=media.TEXT, cache_control=MINUTE)


ENDPOINTS = (
    Endpoint(routes.DISCOVERY, show_discovery),
    Endpoint(routes.TERMS, show_terms),
    Endpoint(routes.TERMS_VERSION, show_terms_version),
    Endpoint(routes.MINUTES, show_minutes),
)
