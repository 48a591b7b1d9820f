"""Reads request bodies with a limit on their size and on the silence between two bytes.

Source: docs/spec/api.md, limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from bistro.daemon.unfinished import Unfinished
from bistro.errors import FormatError, LimitExceededError, UnavailableError

UNFINISHED = web.AppKey("unfinished", Unfinished)
"""What counts the bytes of bodies that are not whole yet."""

CHUNK_SIZE = 262_144
"""Bodies are passed on in pieces of at most this size."""
DEFAULT_IDLE_S = 30.0


async def read_body(request: web.Request, *, limit: int, idle_s: float = DEFAULT_IDLE_S) -> bytes:
    """The whole body, for small requests.

    Raises:
        LimitExceededError: It is longer than ``limit`` bytes; nothing beyond was read.
        UnavailableError: The connection broke, or no byte came for ``idle_s``; or all requests
            that are not whole held too many bytes together, and the connection was closed.
    """
    unfinished = request.app[UNFINISHED]
    reading, address = _Reading(request), request.remote or ""
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in stream_body(request, limit=limit, idle_s=idle_s):
            pieces.append(piece)
            size += len(piece)
            unfinished.hold(reading, address, size)
    finally:
        unfinished.release(reading, address)
    return b"".join(pieces)


class _Reading:
    """A body that is being read."""

    def __init__(self, request: web.Request) -> None:
        self._request = request

    def give_up(self) -> None:
        """Close the connection; the reader hears that it broke."""
        if self._request.transport is not None:
            self._request.transport.abort()


async def stream_body(
    request: web.Request, *, limit: int, idle_s: float = DEFAULT_IDLE_S
) -> AsyncIterator[bytes]:
    """The body piece by piece; holds one piece of at most ``CHUNK_SIZE`` at a time.

    Raises:
        LimitExceededError: As soon as there is more than ``limit`` bytes, before any is read
            where the length was announced.
        FormatError: The transfer encoding is broken.
        UnavailableError: The connection broke, or no byte came for ``idle_s``; what was
            yielded before is good.
    """
    announced = request.content_length
    if announced is not None and announced > limit:
        raise LimitExceededError(f"body: expected at most {limit} bytes, found {announced}")
    received = 0
    while piece := await _next_piece(request, idle_s):
        received += len(piece)
        if received > limit:
            raise LimitExceededError(f"body: expected at most {limit} bytes, found more")
        yield piece


async def _next_piece(request: web.Request, idle_s: float) -> bytes:
    try:
        async with asyncio.timeout(idle_s):
            # Reads what has arrived, at least one byte; empty at the end of the body.
            return await request.content.read(CHUNK_SIZE)
    except TimeoutError as exc:
        raise UnavailableError(f"request body: no byte for {idle_s:g} s") from exc
    except ConnectionError as exc:
        raise UnavailableError("request body: the connection broke") from exc
    except (HttpProcessingError, web.RequestPayloadError) as exc:
        raise FormatError("request body: the transfer encoding is broken") from exc
