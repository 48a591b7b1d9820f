"""The published logs of a call: checkpoints, tiles, proofs.

Source: docs/spec/api.md, destination; docs/spec/promises.md, published logs.
"""

from __future__ import annotations

from aiohttp import web

from bistro.api import media, routes
from bistro.daemon.caching import BRIEFLY, FOR_EVER, MINUTE, cacheable_response
from bistro.daemon.web import Endpoint
from bistro.errors import UnknownObjectError
from bistro.ledger.appended import Appended
from bistro.ledger.ledger import Ledger
from bistro.wire.consistency import format_consistency
from bistro_server.http.desks import call_of, index_of


def _checkpoint(request: web.Request, ledger: Ledger) -> web.Response:
    note = ledger.checkpoint()
    if note is None:
        raise UnknownObjectError(f"{ledger.origin}: it has no entry and so no checkpoint yet")
    return cacheable_response(request, note, content_type=media.TEXT, cache_control=BRIEFLY)


async def _tile(request: web.Request, ledger: Ledger) -> web.Response:
    path = request.match_info["tile"]
    tile = await ledger.tile(f"tile/{path}")
    kept = MINUTE if ".p/" in path else FOR_EVER
    return cacheable_response(request, tile, content_type=media.TILE, cache_control=kept)


def proof_response(request: web.Request, found: Appended | None, *, what: str) -> web.Response:
    """The proof text of an entry that was looked for, or the problem that there is none."""
    if found is None:
        raise UnknownObjectError(f"the log has no {what}")
    return cacheable_response(request, found.proof, content_type=media.TEXT, cache_control=MINUTE)


async def show_log_checkpoint(request: web.Request) -> web.StreamResponse:
    """``GET /calls/{call}/log/checkpoint``."""
    return _checkpoint(request, call_of(request).log)


async def show_refusals_checkpoint(request: web.Request) -> web.StreamResponse:
    """``GET /calls/{call}/refusals/checkpoint``."""
    return _checkpoint(request, call_of(request).refusals)


async def show_log_tile(request: web.Request) -> web.StreamResponse:
    """``GET /calls/{call}/log/tile/{tile}``."""
    return await _tile(request, call_of(request).log)


async def show_refusals_tile(request: web.Request) -> web.StreamResponse:
    """``GET /calls/{call}/refusals/tile/{tile}``."""
    return await _tile(request, call_of(request).refusals)


async def show_proof(request: web.Request) -> web.StreamResponse:
    """``GET /calls/{call}/log/proof/{index}``."""
    found = await call_of(request).log.prove(index_of(request))
    return proof_response(request, found, what="such entry")


async def show_consistency(request: web.Request) -> web.StreamResponse:
    """``GET /calls/{call}/log/consistency/{old}/{size}``."""
    old, size = index_of(request, "old"), index_of(request, "size")
    path = await call_of(request).log.prove_consistency(old, size)
    text = format_consistency(path)
    return cacheable_response(request, text, content_type=media.TEXT, cache_control=FOR_EVER)


async def show_closed(request: web.Request) -> web.StreamResponse:
    """``GET /calls/{call}/log/closed``."""
    found = await call_of(request).find_closed()
    return proof_response(request, found, what="closed entry after its last terms")


async def show_opening(request: web.Request) -> web.StreamResponse:
    """``GET /calls/{call}/log/opening``."""
    found = await call_of(request).find_opening()
    return proof_response(request, found, what="opening entry")


ENDPOINTS = (
    Endpoint(routes.LOG_CHECKPOINT, show_log_checkpoint),
    Endpoint(routes.LOG_TILE, show_log_tile),
    Endpoint(routes.LOG_PROOF, show_proof),
    Endpoint(routes.LOG_CONSISTENCY, show_consistency),
    Endpoint(routes.LOG_CLOSED, show_closed),
    Endpoint(routes.LOG_OPENING, show_opening),
    Endpoint(routes.REFUSALS_CHECKPOINT, show_refusals_checkpoint),
    Endpoint(routes.REFUSALS_TILE, show_refusals_tile),
)
