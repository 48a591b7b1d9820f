"""Answers that may be cached: an entity tag of the body, and 304 for who has it already.

Source: docs/spec/api.md, caching; RFC 9110, sections 8.8.3 and 13.1.2.
"""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from bistro.crypto.digest import sha256

BRIEFLY = "public, max-age=5"
"""Discovery, latest terms, status, checkpoints."""
MINUTE = "public, max-age=60"
"""Partial tiles, proofs, minutes."""
FOR_EVER = "public, max-age=31536000, immutable"
"""What is named by its hash, and full tiles."""
NEVER = "no-store"
"""What one person gets: tickets, receipts, uploads, outcomes."""

_TAG_SIZE = 16


def cacheable_response(
    request: web.Request, body: bytes, *, content_type: str, cache_control: str = BRIEFLY
) -> web.Response:
    """``body``, or 304 without it where the request shows that it is known."""
    tag = f'"{sha256(body)[:_TAG_SIZE].hex()}"'
    headers = {"ETag": tag, "Cache-Control": cache_control}
    known = {item.strip().removeprefix("W/") for item in _known_tags(request).split(",")}
    if known & {tag, "*"}:
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return web.Response(body=body, headers={"Content-Type": content_type, **headers})


def _known_tags(request: web.Request) -> str:
    return request.headers.get("If-None-Match", "")
