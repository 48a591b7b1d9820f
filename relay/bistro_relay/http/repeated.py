"""Refuses requests that say one thing twice: whoever stands in between might read the other.

Source: docs/spec/api.md, rules for all routes; RFC 9110, section 5.3.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from bistro.api import routes
from bistro.errors import FormatError

_ONCE: Final = (
    routes.CHECKSUM,
    routes.COMPLETE,
    routes.CONCATENATION,
    routes.CONTENT_DIGEST,
    routes.DEFERRED_LENGTH,
    routes.DRAFT_VERSION,
    routes.LENGTH,
    routes.METADATA,
    routes.METHOD_OVERRIDE,
    routes.OFFSET,
    routes.RATE,
    routes.SIGNATURE,
    routes.SIGNATURE_INPUT,
    routes.TUS_RESUMABLE,
)
"""Fields that mean something here, each of which has one value."""


def require_once(request: web.Request) -> None:
    """Accept a request of whose header fields none that is read here comes twice.

    Raises:
        FormatError: One does, be it with the same value.
    """
    for name in _ONCE:
        count = len(request.headers.getall(name, ()))
        if count > 1:
            raise FormatError(f"header {name}: expected once, found {count} times")
