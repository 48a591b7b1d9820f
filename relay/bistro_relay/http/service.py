"""What a relay tells of its service and of what it was promised: notes and proofs.

Source: docs/spec/relay-life.md; docs/spec/api.md, relay.
"""

from __future__ import annotations

from aiohttp import web

from bistro.api import media, routes
from bistro.crypto.digest import HASH_SIZE
from bistro.daemon.caching import NEVER, cacheable_response
from bistro.daemon.web import Endpoint
from bistro.wire.lines import parse_hex
from bistro.wire.relay_notes import WHOLE_TIME
from bistro_relay.services.records import Records
from bistro_relay.services.statement import Statements
from bistro_relay.services.takedowns import Takedowns


class ServiceApi:
    """The routes of notes and records.

    Args:
        statements: Of service.
        takedowns: What was deleted before its time.
        records: What the ledgers say.
    """

    def __init__(self, statements: Statements, takedowns: Takedowns, records: Records) -> None:
        self._statements = statements
        self._takedowns = takedowns
        self._records = records

    def endpoints(self) -> list[Endpoint]:
        """What this answers."""
        return [
            Endpoint(routes.SERVICE, self._service),
            Endpoint(routes.SERVICE_MONTH, self._service),
            Endpoint(routes.TAKEDOWN, self._takedown),
            Endpoint(routes.UPLOAD_CUSTODY, self._custody),
        ]

    async def _service(self, request: web.Request) -> web.Response:
        note = self._statements.note(request.match_info.get("month", WHOLE_TIME))
        return cacheable_response(request, note, content_type=media.TEXT)

    async def _takedown(self, request: web.Request) -> web.Response:
        name = parse_hex("takedown", request.match_info["takedown"], size=HASH_SIZE)
        return cacheable_response(request, self._takedowns.note(name), content_type=media.TEXT)

    async def _custody(self, request: web.Request) -> web.Response:
        record = await self._records.find(request.match_info["upload"])
        return web.Response(
            body=record.encode(), headers={"Content-Type": media.JSON, "Cache-Control": NEVER}
        )
