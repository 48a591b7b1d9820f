"""Fetches fragments from one relay in one batch, each checked while it streams to its file.

What is known of a fragment afterwards:

| what came | fate |
|---|---|
| bytes with the promised hash | verified |
| other bytes, all of them from this one answer | wrong: kept as proof, fetched elsewhere |
| other bytes, begun from a file of earlier | none: dropped, fetched again from the first byte |
| not held here, or another length than promised | lost |
| nothing, or a part | none: the part is continued next time |

Bytes of an earlier process prove nothing: a power cut may have changed them.

Source: docs/spec/collection.md, batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from bistro.daemon import logs
from bistro.errors import UnavailableError
from bistro.net.collector_client import Frame
from bistro.protocol.collection import Source
from bistro.storage.finishing import finish
from bistro.wire.batches import BatchItem, FrameHead
from bistro.wire.fragment import Descriptor
from bistro_server.services.collecting_files import FragmentFile, FragmentFiles, check_whole
from bistro_server.services.collecting_relays import RelayDesk
from bistro_server.store.collection import Fate

_log = logs.get_logger("collecting")

_GONE: Final = "unknown-object"
_BEYOND: Final = "malformed"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A fragment to fetch from one relay.

    Attributes:
        submission: Its row.
        commitment: The submission.
        relay: The relay's name.
        descriptor: What the commitment says the fragment is.
    """

    submission: int
    commitment: bytes
    relay: str
    descriptor: Descriptor

    @property
    def source(self) -> Source:
        """The fragment at this relay."""
        return Source(self.descriptor.index, self.relay)


@dataclass(slots=True)
class Fetched:
    """What a batch brought.

    Attributes:
        fates: What became of fragments that were decided.
        received_size: Bytes that arrived.
        is_cut: Whether its time was over before its end.
        restarted_count: Fragments to fetch once more from the first byte.
        failure: Why the batch ended early; ``None`` if it did not.
    """

    fates: list[tuple[Wanted, Fate]] = field(default_factory=list)
    received_size: int = 0
    is_cut: bool = False
    restarted_count: int = 0
    failure: UnavailableError | None = None


_Current = tuple[Wanted, FragmentFile]


class Fetcher:
    """Fetches for one call.

    Args:
        files: Where fragments go.
    """

    def __init__(self, files: FragmentFiles) -> None:
        self._files = files
        self._restarted: set[tuple[bytes, Source]] = set()

    async def fetch(self, desk: RelayDesk, wanted: Sequence[Wanted]) -> Fetched:
        """Fetch what can be had of ``wanted``, all from the relay of ``desk``; never raises for it.

        Raises:
            StorageError: Our own disk failed.
        """
        found = Fetched()
        ordered, items = await self._items(wanted, found)
        if not items:
            return found
        try:
            async with desk.batch(items) as frames:
                found.is_cut = not await self._take(frames, ordered, items, found)
        except UnavailableError as exc:
            found.failure = exc
        if found.is_cut and found.received_size < desk.least_size:
            found.failure = UnavailableError(
                f"relay {desk.name}: it is too slow: {found.received_size} bytes in one batch"
            )
        await asyncio.to_thread(self._files.sync_names)
        return found

    async def _items(
        self, wanted: Sequence[Wanted], found: Fetched
    ) -> tuple[list[Wanted], list[BatchItem]]:
        """What to ask for; fragments that are whole already are decided here."""
        ordered: list[Wanted] = []
        items: list[BatchItem] = []
        for one in wanted:
            index, size = one.descriptor.index, one.descriptor.size
            key = (one.commitment, index, one.relay)
            offset = await asyncio.to_thread(self._files.size, *key)
            if offset == size:
                digest = await asyncio.to_thread(check_whole, self._files, *key)
                if digest == one.descriptor.fragment_hash:
                    found.fates.append((one, "verified"))
                    continue
            if offset >= size:
                # A crash may leave what nobody sent: begin again.
                await asyncio.to_thread(self._files.delete, *key)
                offset = 0
            ordered.append(one)
            items.append(BatchItem(one.commitment, index, offset))
        return ordered, items

    async def _take(
        self,
        frames: AsyncIterator[Frame],
        ordered: Sequence[Wanted],
        items: Sequence[BatchItem],
        found: Fetched,
    ) -> bool:
        """Sort the pieces of an answer into files, one open at a time; whether all came."""
        asked = iter(zip(ordered, items, strict=True))
        current: _Current | None = None
        try:
            async for frame in frames:
                if isinstance(frame, FrameHead):
                    # The client has checked that this is the next one.
                    current = await self._begin(frame, *next(asked), found)
                elif current is not None:
                    await _add(current[1], frame)
                    found.received_size += len(frame)
                if current is not None and current[1].offset == current[0].descriptor.size:
                    whole, current = current, None
                    await self._end(*whole, found)
            return current is None and next(asked, None) is None
        finally:
            if current is not None:
                # What came before a break is continued from next time.
                await finish(asyncio.to_thread(_leave, current[1]))

    async def _begin(
        self, head: FrameHead, one: Wanted, item: BatchItem, found: Fetched
    ) -> _Current | None:
        if head.code is not None:
            await self._refused(head.code, one, item, found)
            return None
        expected = one.descriptor.size - item.offset
        if head.length != expected:
            found.fates.append((one, "lost"))
            raise UnavailableError(
                f"relay {one.relay}: expected {expected} bytes of a fragment, found {head.length}"
            )
        file = self._files.begin(one.commitment, item.index, one.relay, offset=item.offset)
        return one, file

    async def _refused(self, code: str, one: Wanted, item: BatchItem, found: Fetched) -> None:
        if code == _BEYOND and item.offset:
            await asyncio.to_thread(self._files.delete, one.commitment, item.index, one.relay)
        elif code in {_GONE, _BEYOND}:
            found.fates.append((one, "lost"))
            _log.warning(
                "fragment_lost",
                relay=one.relay,
                commitment=one.commitment.hex(),
                fragment_index=item.index,
                error_code=code,
            )
        # Any other code is trouble of the relay's own: the next round asks again.

    async def _end(self, one: Wanted, file: FragmentFile, found: Fetched) -> None:
        try:
            digest = await asyncio.to_thread(file.finish)
        finally:
            file.close()
        key = (one.commitment, one.source)
        if digest == one.descriptor.fragment_hash:
            found.fates.append((one, "verified"))
        elif file.is_resumed and key not in self._restarted:
            # Not the relay's fault for certain: once more from the first byte. Only once: a
            # relay must not keep us busy by always breaking off before it sends wrong bytes.
            self._restarted.add(key)
            found.restarted_count += 1
            await asyncio.to_thread(
                self._files.delete, one.commitment, one.descriptor.index, one.relay
            )
        else:
            found.fates.append((one, "wrong"))
            _log.warning(
                "wrong_bytes_received",
                relay=one.relay,
                commitment=one.commitment.hex(),
                fragment_index=one.descriptor.index,
            )


async def _add(file: FragmentFile, piece: bytes) -> None:
    if file.add(piece):
        await asyncio.to_thread(file.flush)


def _leave(file: FragmentFile) -> None:
    try:
        file.flush()
    finally:
        file.close()
