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
HOUR = "public, max-age=3600"
"""What does not change any more, as far as anybody knows."""
FOR_EVER = "public, max-age=31536000, immutable"
"""What is named by its hash, and full tiles."""
NEVER = "no-store"
"""What one person gets: tickets, receipts, uploads, outcomes."""

_TAG_SIZE = 16


def entity_tag(body: bytes) -> str:
    """The entity tag of a body, in its quotes."""
    return f'"{sha256(body)[:_TAG_SIZE].hex()}"'


def is_known(tag: str, known_tags: str) -> bool:
    """Whether ``If-None-Match`` names the tag; weak and strong tags are the same here."""
    known = {item.strip().removeprefix("W/") for item in known_tags.split(",")}
    return not known.isdisjoint((tag, "*"))


def cacheable_response(
    request: web.Request, body: bytes, *, content_type: str, cache_control: str = BRIEFLY
) -> web.Response:
    """``body``, or 304 without it where the request shows that it is known."""
    tag = entity_tag(body)
    headers = {"ETag": tag, "Cache-Control": cache_control}
    if is_known(tag, request.headers.get("If-None-Match", "")):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return web.Response(body=body, headers={"Content-Type": content_type, **headers})
