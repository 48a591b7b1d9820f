"""Hands staged fragments to their destination, and takes releases.

Source: docs/spec/collection.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Final

from bistro.clock import Clock
from bistro.daemon import logs
from bistro.errors import (
    BistroError,
    FormatError,
    NotRegisteredError,
    StorageError,
    UnavailableError,
    UnknownObjectError,
)
from bistro.protocol.transfer import TransferState
from bistro.storage.blobs import BlobStore
from bistro.storage.durable import ReadFile
from bistro.storage.segments import SegmentRecord
from bistro.wire.batches import BatchItem, FrameHead, Release, ReleaseAnswer, Released
from bistro.wire.staging import Failure, StagedRow
from bistro_relay.metrics import RelayMetrics
from bistro_relay.services.arrivals import Arrivals
from bistro_relay.services.collectors import Collector
from bistro_relay.services.custody import Custody
from bistro_relay.services.room import full_answered
from bistro_relay.store.segments import CHUNK_SIZE, SegmentFiles
from bistro_relay.store.uploads import Upload, UploadStore

_AT_ONCE: Final = 500
_MS_PER_S: Final = 1_000

_log = logs.get_logger("handing")


class Pacer:
    """Keeps a stream below a rate.

    Args:
        clock: Measures.
        bytes_per_s: The rate, or None for none.
    """

    def __init__(self, clock: Clock, bytes_per_s: int | None) -> None:
        self._clock = clock
        self._rate = bytes_per_s
        self._began_ms = clock.monotonic_ms()
        self._sent = 0

    async def after(self, size: int) -> None:
        """Wait until so many more bytes are due."""
        if self._rate is None:
            return
        self._sent += size
        due_ms = self._began_ms + self._sent * _MS_PER_S // self._rate
        pause_ms = due_ms - self._clock.monotonic_ms()
        if pause_ms > 0:
            await asyncio.sleep(pause_ms / _MS_PER_S)


class Handing:
    """What a destination asks of a relay, once it is known who it is."""

    def __init__(  # noqa: PLR0913 - it stands between all of these
        self,
        *,
        uploads: UploadStore,
        files: SegmentFiles,
        custody: Custody,
        arrivals: Arrivals,
        requests: BlobStore,
        clock: Clock,
        metrics: RelayMetrics,
    ) -> None:
        self._uploads = uploads
        self._files = files
        self._custody = custody
        self._arrivals = arrivals
        self._requests = requests
        self._clock = clock
        self._metrics = metrics

    async def staged(
        self, collector: Collector, *, after: int, limit: int, wait_s: int
    ) -> tuple[StagedRow, ...]:
        """Rows above a cursor; waits for a first one if there is none."""
        arrival = self._arrivals.next(collector.origin)
        rows = await self._uploads.staged(collector.origin, after=after, limit=limit)
        if rows or not wait_s:
            return rows
        try:
            async with asyncio.timeout(wait_s):
                await arrival.wait()
        except TimeoutError:
            return ()
        return await self._uploads.staged(collector.origin, after=after, limit=limit)

    async def frames(
        self, collector: Collector, items: Sequence[BatchItem], *, bytes_per_s: int | None
    ) -> AsyncGenerator[bytes, None]:
        """The stream that answers a batch request: one block in memory at a time.

        Raises:
            UnavailableError: A fragment became unreadable within its frame; the stream is cut
                and the rest can be asked for again.
        """
        pacer = Pacer(self._clock, bytes_per_s)
        for item in items:
            async for piece in self._frame(collector, item):
                yield piece
                await pacer.after(len(piece))

    async def _frame(self, collector: Collector, item: BatchItem) -> AsyncIterator[bytes]:
        try:
            upload = await self._require_held(collector, item)
            file, record = await asyncio.to_thread(self._open, upload)
        except (StorageError, UnknownObjectError, FormatError) as exc:
            yield self._failed(item, exc).encode()
            return
        at, end = record.data_offset + item.offset, record.data_offset + record.data_size
        try:
            # The first block before the head: a fragment that cannot be read at all says so.
            block = await _read(file, at, end)
        except StorageError as exc:
            await asyncio.to_thread(file.close)
            yield self._failed(item, exc).encode()
            return
        try:
            yield FrameHead(item.commitment, item.index, item.offset, length=end - at).encode()
            while block:
                yield block
                self._metrics.sent.inc(len(block))
                at += len(block)
                block = await _read(file, at, end)
        except StorageError as exc:
            self._failed(item, exc)
            raise UnavailableError("a fragment became unreadable within its frame") from exc
        finally:
            await asyncio.to_thread(file.close)
        if at < end:
            raise UnavailableError("a fragment is shorter than it was")

    def _open(self, upload: Upload) -> tuple[ReadFile, SegmentRecord]:
        try:
            return self._files.read(upload.id)
        except (UnknownObjectError, FormatError) as exc:
            # What is held must be there: to the destination this is a lost fragment.
            raise StorageError(f"segment {upload.id}: {exc.message}") from exc

    async def _require_held(self, collector: Collector, item: BatchItem) -> Upload:
        upload = await self._uploads.find_custody(collector.origin, item.commitment, item.index)
        if upload is None or upload.transfer.state is not TransferState.HELD:
            raise UnknownObjectError("no such fragment is held for this call")
        if item.offset > upload.transfer.size:
            raise FormatError(
                f"offset: expected at most {upload.transfer.size}, found {item.offset}"
            )
        return upload

    def _failed(self, item: BatchItem, error: BistroError) -> FrameHead:
        code = error.code
        if isinstance(error, StorageError):
            _log.error(
                "fragment_read_failed",
                commitment=item.commitment.hex(),
                fragment_index=item.index,
                message=error.message,
            )
        return FrameHead(item.commitment, item.index, item.offset, code=code)

    async def release(
        self, collector: Collector, releases: Sequence[Release]
    ) -> tuple[ReleaseAnswer, ...]:
        """End holds of fragments that the destination has; one answer for each.

        The signed request is durable first, then the ``released`` entries, then the rows; bytes
        go last. A crash in between is finished when the destination asks again.

        Raises:
            StorageError: The disk failed; asking again is harmless.
        """
        data = collector.request.encode()
        digest = collector.request.digest
        name = digest.hex()
        if await self._requests.size(name) is None:
            with full_answered():
                async with self._requests.writing(name) as blob:
                    await blob.write(data)
        answers: list[ReleaseAnswer] = []
        for at in range(0, len(releases), _AT_ONCE):
            answers += await self._release(collector, releases[at : at + _AT_ONCE], digest)
        return tuple(answers)

    async def _release(
        self, collector: Collector, releases: Sequence[Release], digest: bytes
    ) -> list[ReleaseAnswer]:
        answers: list[ReleaseAnswer] = []
        ready: dict[str, Upload] = {}
        for release in releases:
            try:
                upload = await self._require_releasable(collector, release)
            except BistroError as exc:
                if isinstance(exc, StorageError):
                    raise
                answers.append(Failure.of(exc))
                continue
            if upload.transfer.state is not TransferState.RELEASED:
                done = upload.transfer.release(release.sha256)
                ready[upload.id] = upload.with_transfer(done)
            answers.append(Released())
        await self._custody.release(list(ready.values()), request=digest)
        return answers

    async def _require_releasable(self, collector: Collector, release: Release) -> Upload:
        if release.origin != collector.origin:
            raise NotRegisteredError(f"the key does not speak for {release.origin}")
        upload = await self._uploads.find_custody(release.origin, release.commitment, release.index)
        if upload is None:
            raise UnknownObjectError("no such fragment was held here")
        upload.transfer.release(release.sha256)
        return upload


async def _read(file: ReadFile, at: int, end: int) -> bytes:
    size = min(CHUNK_SIZE, end - at)
    return await asyncio.to_thread(file.read, offset=at, size=size) if size else b""
