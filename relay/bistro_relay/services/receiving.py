"""Takes the bytes of one request, from the connection to the recorded offset or the whole fragment.

What a crash leaves behind at each step:

| step | left behind | what happens then |
|---|---|---|
| a new file, torn or without bytes | nothing that counts | begun anew with the next bytes |
| bytes written, not synced | bytes behind the offset | cut when the upload goes on |
| bytes synced, offset not recorded | the same | the same |
| offset recorded | what was acknowledged | goes on there |
| end synced, row not complete | bytes behind the offset | the last request comes again |
| row complete | a complete fragment | gets its receipt at the start |

Source: docs/spec/staging.md, continuing and the last byte.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace

from bistro.clock import Clock
from bistro.errors import ChecksumMismatchError, ConflictError, StorageError
from bistro.instant import UnixMillis
from bistro.protocol.transfer import INCOMPLETE_MS, TransferState, require_intact_chunk
from bistro.storage.finishing import finish
from bistro_relay.metrics import RelayMetrics
from bistro_relay.services.quotas import Quotas
from bistro_relay.services.room import Room, full_answered
from bistro_relay.services.writing import Blocks, Digests, Writing
from bistro_relay.store.segments import Segment, SegmentFiles
from bistro_relay.store.uploads import Upload, UploadStore


@dataclass(frozen=True, slots=True)
class Checksum:
    """What one request's bytes must hash to."""

    algorithm: str
    value: bytes


class Receiver:
    """Writes bodies into segments and rows.

    Args:
        uploads: Rows.
        files: Segments.
        room: Told what has come, and what is given back.
        quotas: Told what has ended.
        clock: Dates progress.
        metrics: Counts bytes and ends.
    """

    def __init__(
        self,
        *,
        uploads: UploadStore,
        files: SegmentFiles,
        room: Room,
        quotas: Quotas,
        clock: Clock,
        metrics: RelayMetrics,
    ) -> None:
        self._uploads = uploads
        self._files = files
        self._room = room
        self._quotas = quotas
        self._clock = clock
        self._metrics = metrics
        self._digests = Digests()
        self._blocks = Blocks()

    async def receive(
        self, upload: Upload, chunks: AsyncIterator[bytes], checksum: Checksum | None
    ) -> Upload:
        """Take one request's bytes; what is returned is durable and recorded.

        If the connection breaks, what had come until then is recorded, unless a checksum that
        covers all of it was announced.

        Args:
            upload: Receiving; nobody else works on it.
            chunks: The request's body.
            checksum: What it must hash to.

        Returns:
            The upload, complete if those were the last bytes; or the one that brought the same
            fragment first.

        Raises:
            ChecksumMismatchError: The body was dropped; or the fragment is not the
                descriptor's, and the upload has ended.
            StorageError: The disk is full or failed; the offset stays.
        """
        offset = upload.transfer.offset
        segment = await finish(asyncio.to_thread(self._open, upload))
        writing: Writing | None = None
        try:
            digest = await self._digests.take(upload.id, segment, size=offset)
            self._digests.keep(upload.id, digest)
            check = None if checksum is None else hashlib.new(checksum.algorithm)
            writing = Writing(segment, digest.copy(), self._blocks, check=check)
            upload = await self._write(upload, writing, chunks, checksum)
            if writing.digest.size < upload.transfer.size:
                return upload
            return await self._complete(upload, writing)
        finally:
            if writing is not None:
                writing.give_up()
                offset = max(offset, writing.recorded)
            await finish(asyncio.to_thread(self._close, segment, upload.id, offset))

    def _open(self, upload: Upload) -> Segment:
        """The upload's segment, which is made for its first bytes and not before."""
        offset = upload.transfer.offset
        if not offset:
            # What a crash or a failure left of an earlier beginning may be torn.
            self._files.delete(upload.id)
            try:
                self._files.create(upload.id, upload.claim, upload.transfer.size)
            except StorageError:
                # On a full disk the little that was written goes at once.
                with suppress(StorageError):
                    self._files.delete(upload.id)
                raise
        return self._files.open(upload.id, durable_size=offset)

    def _close(self, segment: Segment, upload_id: str, offset: int) -> None:
        is_broken = segment.is_broken
        segment.close()
        if is_broken:
            # After a failed write: what was not acknowledged takes no more room on a full disk.
            with suppress(StorageError):
                self._files.open(upload_id, durable_size=offset).close()

    async def _write(
        self,
        upload: Upload,
        writing: Writing,
        chunks: AsyncIterator[bytes],
        checksum: Checksum | None,
    ) -> Upload:
        try:
            async for chunk in chunks:
                await writing.add(chunk)
                if writing.is_checkpoint_due:
                    upload = await self._record(upload, writing)
        except StorageError:
            raise
        except BaseException:
            # The connection broke, or we are stopped: what has come is worth keeping.
            if checksum is None:
                await finish(self._keep(upload, writing))
            raise
        await writing.flush()
        if checksum is not None:
            # Nothing of these bytes was recorded, so refusing them is all it takes to drop them.
            require_intact_chunk(expected=checksum.value, found=writing.checksum() or b"")
        return await self._record(upload, writing)

    async def _keep(self, upload: Upload, writing: Writing) -> None:
        upload = await self._record(upload, writing)
        if writing.digest.size == upload.transfer.size:
            with suppress(ChecksumMismatchError):
                await self._complete(upload, writing)

    async def _record(self, upload: Upload, writing: Writing) -> Upload:
        """Make bytes durable, then the offset: only then may it be told.

        The last bytes are left to ``_complete``: a row is full only if its fragment is whole.
        """
        await writing.flush()
        transfer = upload.transfer
        size = writing.digest.size - transfer.offset
        if not size or size == transfer.missing_size:
            return upload
        await writing.sync()
        now = self._clock.now()
        accepted = transfer.accept(at=transfer.offset, length=size)
        upload = upload.with_transfer(replace(accepted, expires_at=UnixMillis(now + INCOMPLETE_MS)))
        # A crash here leaves bytes behind the offset, which are cut: nobody was told of them.
        await self._uploads.update(upload, now=now)
        writing.recorded = upload.transfer.offset
        self._digests.keep(upload.id, writing.digest.copy())
        self._room.fill(upload.origin.server, size)
        return upload

    async def _complete(self, upload: Upload, writing: Writing) -> Upload:
        self._digests.forget(upload.id)
        transfer = upload.transfer
        whole = transfer.accept(at=transfer.offset, length=transfer.missing_size)
        try:
            whole = whole.complete(found_hash=writing.digest.tree.digest())
        except ChecksumMismatchError:
            await self.drop(upload)
            raise
        await writing.finish()
        complete = upload.with_transfer(whole)
        try:
            # A crash here leaves a whole fragment whose last bytes count as not arrived.
            await self._uploads.update(complete, now=self._clock.now())
        except ConflictError:
            # Another upload brought the same fragment first: its custody is ours.
            await self.drop(upload)
            twin = await self._uploads.find_custody(upload.origin, upload.commitment, upload.index)
            if twin is None:
                raise
            return twin
        self._room.fill(upload.origin.server, transfer.missing_size)
        self._quotas.end(upload)
        return complete

    async def drop(self, upload: Upload) -> None:
        """End an upload and forget its bytes."""
        ended = upload.with_transfer(
            replace(upload.transfer, state=TransferState.TERMINATED, hold_until=None)
        )
        with full_answered():
            await self._uploads.update(ended, now=self._clock.now())
        await self.discard(upload)

    async def discard(self, upload: Upload) -> None:
        """Forget the bytes of an upload whose row has ended."""
        transfer = upload.transfer
        self._room.give_back(
            upload.origin.server, size=transfer.size, missing_size=transfer.missing_size
        )
        self._metrics.uploads.labels(TransferState.TERMINATED.value).inc()
        await self.forget(upload)

    async def forget(self, upload: Upload) -> None:
        """Delete the file of an upload that was receiving, and needs none any more."""
        self._quotas.end(upload)
        self._digests.forget(upload.id)
        # A crash here leaves a file that no row names: swept at the next start.
        await asyncio.to_thread(self._files.delete, upload.id)
