"""What destinations ask for, with signed requests: staged rows, batches, releases.

Source: docs/spec/collection.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import Final

from aiohttp import web

from bistro.api import media, routes
from bistro.daemon.bodies import read_body
from bistro.daemon.caching import NEVER
from bistro.daemon.web import Endpoint
from bistro.errors import UnavailableError
from bistro.wire.batches import (
    MAX_BATCH_REQUEST_SIZE,
    MAX_RELEASES_SIZE,
    decode_batch_request,
    decode_releases,
    encode_release_answers,
)
from bistro.wire.codec import MAX_UINT
from bistro.wire.staging import MAX_STAGED_ROWS, encode_staged
from bistro_relay.http.repeated import require_once
from bistro_relay.services.collectors import Collector, CollectorDesk
from bistro_relay.services.handing import Handing
from bistro_relay.services.room import Gate

MAX_WAIT_S: Final = 30
_WRITE_SIZE: Final = 262_144


class CollectingApi:
    """The routes of collectors.

    Args:
        desk: Tells who asks.
        handing: Answers.
        gate: Bounds open requests.
        idle_s: Seconds after which a reader is cut off who takes nothing.
    """

    def __init__(self, desk: CollectorDesk, handing: Handing, gate: Gate, *, idle_s: float) -> None:
        self._idle_s = idle_s
        self._desk = desk
        self._handing = handing
        self._gate = gate

    def endpoints(self) -> list[Endpoint]:
        """What this answers."""
        return [
            Endpoint(routes.STAGED, self._staged, is_stream=True),
            Endpoint(routes.BATCHES, self._batches, is_stream=True),
            Endpoint(routes.RELEASES, self._releases, is_stream=True),
        ]

    async def _staged(self, request: web.Request) -> web.Response:
        with self._gate.entered(request.remote):
            collector, _ = await self._identify(request, limit=0)
            query = request.query
            limit = routes.parse_number(
                query, "limit", default=MAX_STAGED_ROWS, maximum=MAX_STAGED_ROWS
            )
            rows = await self._handing.staged(
                collector,
                after=routes.parse_number(query, "after", default=0, maximum=MAX_UINT),
                limit=max(1, limit),
                wait_s=routes.parse_number(query, "wait_s", default=0, maximum=MAX_WAIT_S),
            )
            return _msgpack(encode_staged(rows))

    async def _batches(self, request: web.Request) -> web.StreamResponse:
        with self._gate.entered(request.remote):
            media.require_media_type(request.headers.get("Content-Type"), media.MSGPACK)
            collector, body = await self._identify(request, limit=MAX_BATCH_REQUEST_SIZE)
            items = decode_batch_request(body)
            rate = _rate_of(request)
            self._handing.require_handing(collector)
            response = web.StreamResponse(
                status=HTTPStatus.OK,
                headers={"Content-Type": media.BATCH, "Cache-Control": NEVER},
            )
            await response.prepare(request)
            frames = self._handing.frames(collector, items, bytes_per_s=rate)
            async with contextlib.aclosing(frames):
                async for piece in frames:
                    await self._send(response, piece)
            await response.write_eof()
            return response

    async def _send(self, response: web.StreamResponse, piece: bytes) -> None:
        """Write in parts, each of which a reader must take within the idle time."""
        view = memoryview(piece)
        for at in range(0, len(view), _WRITE_SIZE):
            try:
                async with asyncio.timeout(self._idle_s):
                    await response.write(view[at : at + _WRITE_SIZE])
            except TimeoutError as exc:
                raise UnavailableError(f"batch: nothing was read for {self._idle_s:g} s") from exc

    async def _releases(self, request: web.Request) -> web.Response:
        with self._gate.entered(request.remote):
            media.require_media_type(request.headers.get("Content-Type"), media.MSGPACK)
            collector, body = await self._identify(request, limit=MAX_RELEASES_SIZE)
            answers = await self._handing.release(collector, decode_releases(body))
            return _msgpack(encode_release_answers(answers))

    async def _identify(self, request: web.Request, *, limit: int) -> tuple[Collector, bytes]:
        self._desk.require_signed(request.headers)
        require_once(request)
        body = await read_body(request, limit=limit)
        collector = await self._desk.identify(
            request.method, request.raw_path, request.headers, body
        )
        return collector, body


def _rate_of(request: web.Request) -> int | None:
    if routes.RATE not in request.headers:
        return None
    return routes.parse_offset(request.headers, routes.RATE) or None


def _msgpack(body: bytes) -> web.Response:
    return web.Response(body=body, headers={"Content-Type": media.MSGPACK, "Cache-Control": NEVER})
