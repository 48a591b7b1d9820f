"""Takes the last bytes of small uploads, so that a small fragment never keeps a file of its own.

However it came, by creation and ``PATCH`` or in pieces, the request that brings the last bytes
is gathered in memory with those that were there, and kept in a shared segment like one that came
whole. What came before lies in a segment of its own until then:

| what a crash leaves | what happens then |
|---|---|
| a record without a receipt | dead; the last request comes again |
| a record with a receipt, the row still receiving | its row is made; the other upload expires |
| the row placed, the own file still there | swept at the next start |

Source: docs/spec/staging.md, continuing and the last byte; docs/spec/segments.md, own segments.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

from bistro.errors import ChecksumMismatchError, RefusedError, UnavailableError
from bistro.protocol.transfer import require_intact_chunk
from bistro.storage.finishing import finish
from bistro_relay.services.claims import ClaimDesk, Examined
from bistro_relay.services.receiving import Checksum, Receiver
from bistro_relay.services.whole import WholeIntake
from bistro_relay.services.whole_fragment import Kept
from bistro_relay.store.segments import SegmentFiles
from bistro_relay.store.shared import SMALL_SIZE
from bistro_relay.store.uploads import Upload


class SmallEnds:
    """Ends small uploads.

    Args:
        desk: Knows the terms of their calls.
        whole: Keeps them.
        receiver: Takes what is not the end, or finds no memory.
        files: Has what came before.
    """

    def __init__(
        self, desk: ClaimDesk, whole: WholeIntake, receiver: Receiver, files: SegmentFiles
    ) -> None:
        self._desk = desk
        self._whole = whole
        self._receiver = receiver
        self._files = files

    async def receive(
        self,
        upload: Upload,
        chunks: AsyncIterator[bytes],
        *,
        length: int | None,
        checksum: Checksum | None,
    ) -> Kept | Upload:
        """Take one request's bytes; what is returned is durable, and ``Kept`` is promised too.

        Args:
            upload: Receiving; nobody else works on it.
            chunks: The request's body.
            length: Bytes that the body announces, if it does.
            checksum: What it must hash to.

        Raises:
            BistroError: As ``Receiver.receive`` and ``WholeIntake.begin``.
        """
        size = upload.transfer.size
        examined = None
        if length == upload.transfer.missing_size and size <= SMALL_SIZE:
            examined = self._desk.recall(upload.claim)
        if examined is None or not self._whole.admit(size):
            return await self._receiver.receive(upload, chunks, checksum)
        try:
            return await self._end(upload, examined, chunks, checksum)
        finally:
            self._whole.give_back(size)

    async def _end(
        self,
        upload: Upload,
        examined: Examined,
        chunks: AsyncIterator[bytes],
        checksum: Checksum | None,
    ) -> Kept | Upload:
        body, offset = await self._gather(upload, chunks, keep=checksum is None)
        if checksum is not None:
            found = hashlib.new(checksum.algorithm, memoryview(body)[offset:]).digest()
            require_intact_chunk(expected=checksum.value, found=found)
        if len(body) != upload.transfer.size:
            # Fewer than announced; the rest may come with the next request.
            return await self._receiver.receive(upload, _replay(body[offset:]), None)
        try:
            self._desk.require_allowed(upload.origin, upload.commitment, upload.index)
            # To its end: until it is known, nobody else may work on this upload.
            kept = await finish(self._whole.take(examined, memoryview(body), begun=upload))
        except UnavailableError:
            # There may be room for one fragment where there is none for a whole segment, and where
            # nothing can be promised now, because of the clock, the bytes are worth keeping.
            return await self._receiver.receive(upload, _replay(body[offset:]), None)
        except (ChecksumMismatchError, RefusedError):
            await self._receiver.drop(upload)
            raise
        if kept.id == upload.id:
            await self._receiver.forget(upload)
        else:
            # Another upload brought the same fragment first: its custody is ours.
            await self._receiver.drop(upload)
        return kept

    async def _gather(
        self, upload: Upload, chunks: AsyncIterator[bytes], *, keep: bool
    ) -> tuple[bytearray, int]:
        """All bytes of an upload, and how many of them had been there."""
        body = bytearray(await self._before(upload))
        offset = len(body)
        try:
            async for chunk in chunks:
                body += chunk
        except BaseException:
            # The connection broke, or we are stopped: what has come is worth keeping.
            if keep and len(body) > offset:
                await finish(self._receiver.receive(upload, _replay(body[offset:]), None))
            raise
        return body, offset

    async def _before(self, upload: Upload) -> bytes:
        """What had come, durably."""
        size = upload.transfer.offset
        return await finish(asyncio.to_thread(self._read, upload.id, size)) if size else b""

    def _read(self, upload_id: str, size: int) -> bytes:
        segment = self._files.open(upload_id, durable_size=size)
        try:
            return segment.read(offset=0, size=size)
        finally:
            segment.close()


async def _replay(data: bytearray) -> AsyncIterator[bytes]:
    yield bytes(data)
