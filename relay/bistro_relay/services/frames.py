"""The stream that answers a batch request: frames in the order of the request.

Small fragments are read from shared segments by the stretch and leave by the megabyte; large
ones leave block by block. One window of rows and one piece are in memory, whatever is asked.

Source: docs/spec/collection.md, batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Final

from bistro.daemon import logs
from bistro.errors import (
    BistroError,
    FormatError,
    StorageError,
    UnavailableError,
    UnknownObjectError,
)
from bistro.ids import Origin
from bistro.protocol.transfer import TransferState
from bistro.storage.durable import ReadFile
from bistro.storage.segments import SegmentRecord
from bistro.wire.batches import BatchItem, FrameHead
from bistro_relay.services.pacing import Pacing
from bistro_relay.store.placing import FragmentKey, PlacedUploads
from bistro_relay.store.segments import CHUNK_SIZE, SegmentFiles
from bistro_relay.store.shared import Wanted
from bistro_relay.store.shelf import Shelf
from bistro_relay.store.uploads import Upload

_WINDOW: Final = 400
_PIECE: Final = 1_048_576

_log = logs.get_logger("handing")


class Frames:
    """Makes streams of frames.

    Args:
        placed: Rows, found by fragment.
        files: Segments of single fragments.
        shelf: Small fragments.
        pacing: Says when bytes may leave, and counts them.
    """

    def __init__(
        self,
        *,
        placed: PlacedUploads,
        files: SegmentFiles,
        shelf: Shelf,
        pacing: Pacing,
    ) -> None:
        self._placed = placed
        self._files = files
        self._shelf = shelf
        self._pacing = pacing

    def require_handing(self, origin: Origin) -> None:
        """Accept a state in which a stream would begin.

        Raises:
            UnavailableError: Handing over rests, or the month's traffic is used up; until when.
        """
        self._pacing.require(origin.server, 1)

    async def stream(
        self, origin: Origin, items: Sequence[BatchItem], *, bytes_per_s: int | None
    ) -> AsyncGenerator[bytes, None]:
        """Frames of a call's fragments.

        Raises:
            UnavailableError: A fragment became unreadable within its frame, or handing over
                rests now; the stream is cut and the rest can be asked for again.
        """
        pacer = self._pacing.pacer(origin.server, bytes_per_s)
        pack_size = 2 * _PIECE if pacer.piece_size is None else pacer.piece_size
        for at in range(0, len(items), _WINDOW):
            async for piece in self._window(origin, items[at : at + _WINDOW], pack_size):
                size = pacer.piece_size or len(piece)
                for begin in range(0, len(piece), size):
                    part = piece[begin : begin + size]
                    pacer.require()
                    yield part
                    await pacer.after(len(part))

    async def _window(
        self, origin: Origin, items: Sequence[BatchItem], piece_size: int
    ) -> AsyncIterator[bytes]:
        held = await self._placed.find_custodies(origin, [(x.commitment, x.index) for x in items])
        small: list[BatchItem] = []
        size = 0
        for item in items:
            upload = held.get((item.commitment, item.index))
            if upload is None or upload.place is not None:
                small.append(item)
                size += 0 if upload is None else upload.transfer.size
                if size < piece_size:
                    continue
            if small:
                yield await self._pack(origin, small, held)
                small, size = [], 0
            if upload is not None and upload.place is None:
                async for piece in self._frame(upload, item):
                    yield piece
        if small:
            yield await self._pack(origin, small, held)

    async def _pack(
        self, origin: Origin, items: Sequence[BatchItem], held: Mapping[FragmentKey, Upload]
    ) -> bytes:
        """The frames of small fragments, and of those that are not held."""
        wanted = _wanted(items, held)
        found = await asyncio.to_thread(self._read, wanted)
        failed = [key for key, data in found.items() if isinstance(data, StorageError)]
        if failed:
            # Released or moved since the rows were read: their rows say so now.
            held = {**held, **await self._placed.find_custodies(origin, failed)}
            again = _wanted([x for x in items if (x.commitment, x.index) in failed], held)
            found |= await asyncio.to_thread(self._read, again)
        pieces: list[bytes] = []
        size = 0
        for item in items:
            key = item.commitment, item.index
            head, rest = self._packed(item, held.get(key), found.get(key))
            pieces += head, rest
            size += len(rest)
        self._pacing.count(origin.server, size)
        return b"".join(pieces)

    def _read(
        self, wanted: Mapping[FragmentKey, Wanted]
    ) -> dict[FragmentKey, bytes | StorageError]:
        return dict(zip(wanted, self._shelf.read(list(wanted.values())), strict=True))

    def _packed(
        self, item: BatchItem, upload: Upload | None, data: bytes | StorageError | None
    ) -> tuple[bytes, bytes]:
        try:
            _require_held(upload, item)
            if isinstance(data, StorageError):
                raise data
        except (StorageError, UnknownObjectError, FormatError) as exc:
            return self._failed(item, exc).encode(), b""
        rest = (data or b"")[item.offset :]
        head = FrameHead(item.commitment, item.index, item.offset, length=len(rest))
        return head.encode(), rest

    async def _frame(self, upload: Upload, item: BatchItem) -> AsyncIterator[bytes]:
        try:
            _require_held(upload, item)
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
                self._pacing.count(upload.origin.server, len(block))
                yield block
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

    def _failed(self, item: BatchItem, error: BistroError) -> FrameHead:
        if isinstance(error, StorageError):
            _log.error(
                "fragment_read_failed",
                commitment=item.commitment.hex(),
                fragment_index=item.index,
                message=error.message,
            )
        return FrameHead(item.commitment, item.index, item.offset, code=error.code)


def _wanted(
    items: Sequence[BatchItem], held: Mapping[FragmentKey, Upload]
) -> dict[FragmentKey, Wanted]:
    """The records of those items that are held in shared segments."""
    found: dict[FragmentKey, Wanted] = {}
    for item in items:
        upload = held.get((item.commitment, item.index))
        record = None if upload is None else upload.record
        if record is not None and upload is not None and _is_held(upload):
            found[item.commitment, item.index] = record
    return found


def _is_held(upload: Upload) -> bool:
    return upload.transfer.state is TransferState.HELD


def _require_held(upload: Upload | None, item: BatchItem) -> None:
    if upload is None or not _is_held(upload):
        raise UnknownObjectError("no such fragment is held for this call")
    if item.offset > upload.transfer.size:
        raise FormatError(f"offset: expected at most {upload.transfer.size}, found {item.offset}")


async def _read(file: ReadFile, at: int, end: int) -> bytes:
    size = min(CHUNK_SIZE, end - at)
    return await asyncio.to_thread(file.read, offset=at, size=size) if size else b""
