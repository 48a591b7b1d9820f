"""Puts a hint to sister relays into answers that turn an upload away.

Source: docs/spec/relay-life.md, hints to sister relays.
"""

from __future__ import annotations

import base64
from http import HTTPStatus
from typing import Final

from aiohttp import web

from bistro.api import routes
from bistro.errors import FormatError
from bistro.wire.claim import Claim
from bistro_relay.http.upload_fields import parse_claim
from bistro_relay.services.sisters import Sisters

_TURNED_AWAY: Final = frozenset({HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE})


class Hinting:
    """Adds the field to answers of an app.

    Args:
        sisters: Make hints.
    """

    def __init__(self, sisters: Sisters) -> None:
        self._sisters = sisters

    async def add(self, request: web.Request, response: web.StreamResponse) -> None:
        """What aiohttp calls before an answer leaves."""
        is_creation = (request.method, request.path) == ("POST", routes.UPLOAD_CREATION.template)
        if not is_creation or response.status not in _TURNED_AWAY:
            return
        try:
            claim = Claim.decode(parse_claim(request.headers.get(routes.METADATA)))
        except FormatError:
            # Whoever shows no claim has no use for a hint.
            return
        note = self._sisters.hint(claim.origin)
        if note is not None:
            response.headers[routes.SISTERS] = base64.b64encode(note).decode()
