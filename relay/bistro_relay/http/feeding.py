"""From a request's body to the upload it belongs to, in whichever protocol it was asked.

Source: docs/spec/staging.md, creation and continuing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from bistro.api import routes
from bistro.daemon.bodies import read_body, stream_body
from bistro.errors import FormatError, LimitExceededError
from bistro.protocol.transfer import require_intact_chunk
from bistro_relay.http.upload_fields import has_body
from bistro_relay.services.intake import Intake, Progress
from bistro_relay.services.receiving import Checksum

Announce = Callable[[Progress], Awaitable[None]]
"""Told of an upload that exists now, before its bytes are read."""


@dataclass(frozen=True, slots=True)
class Feeder:
    """Brings bodies to uploads.

    Attributes:
        intake: Takes uploads.
        idle_s: Seconds without a byte after which a request is cut off.
    """

    intake: Intake
    idle_s: float

    async def create(
        self,
        request: web.Request,
        claim: bytes,
        *,
        length: int,
        checksum: Checksum | None = None,
        announce: Announce | None = None,
    ) -> Progress:
        """Begin an upload, and take what the request brings of it.

        Raises:
            LimitExceededError: The length is above the largest that is taken.
            BistroError: As ``Intake.create``, ``keep`` and ``append``.
        """
        if length > self.intake.largest:
            raise LimitExceededError(
                f"upload length: expected at most {self.intake.largest}, found {length}"
            )
        if not has_body(request):
            return await self.intake.create(claim, length=length)
        if self.intake.admit(length=length, size=request.content_length):
            try:
                progress = await self._keep(request, claim, length, checksum)
            finally:
                self.intake.dismiss(length)
        else:
            progress = await self.intake.create(claim, length=length)
        if progress.receipt is not None:
            return progress
        if announce is not None:
            await announce(progress)
        return await self.feed(request, progress.id, at=0, checksum=checksum)

    async def require_size(self, request: web.Request, upload: str) -> None:
        """Check that an ``Upload-Length`` that comes with an append is what the claim said.

        Raises:
            FormatError: It is another; once set, a length never changes.
            UploadBusyError, UploadEndedError, UnknownObjectError: As ``Intake.look``.
        """
        if routes.LENGTH not in request.headers:
            return
        found = routes.parse_offset(request.headers, routes.LENGTH)
        size = (await self.intake.look(upload)).size
        if found != size:
            raise FormatError(f"header {routes.LENGTH}: expected {size}, found {found}")

    async def feed(
        self, request: web.Request, upload: str, *, at: int, checksum: Checksum | None = None
    ) -> Progress:
        """Append the body; see ``Intake.append``."""
        chunks = stream_body(request, limit=self.intake.largest, idle_s=self.idle_s)
        length = request.content_length
        return await self.intake.append(upload, chunks, at=at, length=length, checksum=checksum)

    async def _keep(
        self, request: web.Request, claim: bytes, length: int, checksum: Checksum | None
    ) -> Progress:
        examined = await self.intake.examine(claim, length=length)
        if not self.intake.is_open(examined):
            # Said before a byte is read: why not, or that the fragment is held already.
            return await self.intake.create(claim, length=length)
        body = await read_body(request, limit=length, idle_s=self.idle_s)
        if checksum is not None:
            require_intact_chunk(
                expected=checksum.value, found=hashlib.new(checksum.algorithm, body).digest()
            )
        return await self.intake.keep(examined, body)
