"""Hands staged fragments to their destination, and takes releases.

Source: docs/spec/collection.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from bistro.errors import BistroError, NotRegisteredError, UnknownObjectError
from bistro.storage.blobs import BlobStore
from bistro.wire.batches import BatchItem, Release, ReleaseAnswer, Released
from bistro.wire.staging import Failure, StagedRow
from bistro_relay.services.arrivals import Arrivals
from bistro_relay.services.collectors import Collector
from bistro_relay.services.custody import Custody
from bistro_relay.services.frames import Frames
from bistro_relay.services.room import full_answered
from bistro_relay.store.placing import PlacedUploads
from bistro_relay.store.uploads import Upload, UploadStore

_AT_ONCE: Final = 500


class Handing:
    """What a destination asks of a relay, once it is known who it is."""

    def __init__(
        self,
        *,
        uploads: UploadStore,
        placed: PlacedUploads,
        frames: Frames,
        custody: Custody,
        arrivals: Arrivals,
        requests: BlobStore,
    ) -> None:
        self._uploads = uploads
        self._placed = placed
        self._frames = frames
        self._custody = custody
        self._arrivals = arrivals
        self._requests = requests

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

    def require_handing(self, collector: Collector) -> None:
        """Say before a stream begins why there would be none.

        Raises:
            UnavailableError: Handing over rests, or the month's traffic is used up; until when.
        """
        self._frames.require_handing(collector.origin)

    async def frames(
        self, collector: Collector, items: Sequence[BatchItem], *, bytes_per_s: int | None
    ) -> AsyncGenerator[bytes, None]:
        """The stream that answers a batch request: one block in memory at a time.

        Raises:
            UnavailableError: A fragment became unreadable within its frame, or handing over
                rests now; the stream is cut and the rest can be asked for again.
        """
        async for piece in self._frames.stream(collector.origin, items, bytes_per_s=bytes_per_s):
            yield piece

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
        keys = [(one.commitment, one.index) for one in releases]
        held = await self._placed.find_custodies(collector.origin, keys)
        answers: list[ReleaseAnswer] = []
        ready: dict[str, Upload] = {}
        for release in releases:
            upload = held.get((release.commitment, release.index))
            try:
                upload = _require_known(collector, release, upload)
                done = upload.transfer.release(release.fragment_hash)
            except BistroError as exc:
                answers.append(Failure.of(exc))
                continue
            if done is not upload.transfer:
                ready[upload.id] = upload.with_transfer(done)
            answers.append(Released())
        await self._custody.release(list(ready.values()), request=digest)
        return answers


def _require_known(collector: Collector, release: Release, upload: Upload | None) -> Upload:
    if release.origin != collector.origin:
        raise NotRegisteredError(f"the key does not speak for {release.origin}")
    if upload is None:
        raise UnknownObjectError("no such fragment was held here")
    return upload
