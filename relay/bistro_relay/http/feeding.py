"""From a request's body to the upload it belongs to, in whichever protocol it was asked.

Source: docs/spec/staging.md, creation and continuing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from bistro.api import routes
from bistro.daemon.bodies import read_body, stream_body
from bistro.errors import BistroError, FormatError, LimitExceededError
from bistro.protocol.transfer import require_intact_chunk
from bistro_relay.http.upload_fields import has_body
from bistro_relay.services.busy import UploadEndedError
from bistro_relay.services.intake import Intake, Progress
from bistro_relay.services.receiving import Checksum

SILENT_S: Final = 3.0
"""Who brings no byte for so long gives way to the next request for the same upload."""

Announce = Callable[[Progress], Awaitable[None]]
"""Told of an upload that exists now, before its bytes are read."""


@dataclass(slots=True)
class _Writer:
    """A request that brings bytes, and when it was last heard."""

    request: web.Request
    heard_s: float


@dataclass(frozen=True, slots=True)
class Feeder:
    """Brings bodies to uploads.

    Attributes:
        intake: Takes uploads.
        idle_s: Seconds without a byte after which a request is cut off.
    """

    intake: Intake
    idle_s: float
    _writers: dict[str, _Writer] = field(default_factory=dict, init=False)

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
        try:
            return await self.feed(request, progress.id, at=0, checksum=checksum)
        except BistroError:
            # Nobody was told of this upload, so nobody would go on with it.
            with contextlib.suppress(BistroError, UploadEndedError):
                await self.intake.terminate(progress.id)
            raise

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
        # Closed here, not whenever it is collected: by then another may bring the same upload.
        async with contextlib.aclosing(self._noted(request, upload, chunks)) as noted:
            return await self.intake.append(upload, noted, at=at, length=length, checksum=checksum)

    async def _noted(
        self, request: web.Request, upload: str, chunks: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """The same, and who brings it is known; begun only by the one who holds the upload."""
        now_s = asyncio.get_running_loop().time
        writer = self._writers[upload] = _Writer(request, now_s())
        try:
            async for chunk in chunks:
                writer.heard_s = now_s()
                yield chunk
                writer.heard_s = now_s()
        finally:
            del self._writers[upload]

    def cut_off_if_silent(self, upload: str) -> None:
        """Break the connection of who holds an upload and brings nothing.

        It has most likely lost its connection and does not know it; what it brought is kept.
        """
        writer = self._writers.get(upload)
        now_s = asyncio.get_running_loop().time()
        if writer is not None and now_s - writer.heard_s >= SILENT_S:
            transport = writer.request.transport
            if transport is not None:
                transport.abort()

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
