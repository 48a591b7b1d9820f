"""The stream that answers a batch request: frames in the order of the request.

Small fragments are read from shared segments by the stretch and leave by the megabyte; large
ones leave block by block. One window of rows and one piece are in memory, whatever is asked.

Source: docs/spec/collection.md, batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
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
from bistro.wire.batches import BatchItem, FrameHead, around_commitment
from bistro_relay.services.pacing import Pacing
from bistro_relay.store.placing import PlacedUploads
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
        keys = [(one.commitment, one.index) for one in items]
        records = await self._placed.find_records(origin, keys)
        absent = [key for key, record in zip(keys, records, strict=True) if record is None]
        others = await self._placed.find_custodies(origin, absent) if absent else {}
        begin, size = 0, 0
        for at, record in enumerate(records):
            if record is not None:
                size += record.size
            elif (upload := others.get(keys[at])) is not None and upload.place is None:
                if begin < at:
                    yield await self._pack(origin, items[begin:at], records[begin:at])
                begin, size = at + 1, 0
                async for piece in self._frame(upload, items[at]):
                    yield piece
            if size >= piece_size:
                yield await self._pack(origin, items[begin : at + 1], records[begin : at + 1])
                begin, size = at + 1, 0
        if begin < len(items):
            yield await self._pack(origin, items[begin:], records[begin:])

    async def _pack(
        self, origin: Origin, items: Sequence[BatchItem], records: Sequence[Wanted | None]
    ) -> bytes:
        """The frames of small fragments, and of those that are not held."""
        found = await asyncio.to_thread(self._read, records)
        failed = [at for at, data in enumerate(found) if isinstance(data, StorageError)]
        if failed:
            # Released or moved since the rows were read: their rows say so now.
            keys = [(items[at].commitment, items[at].index) for at in failed]
            records = await self._placed.find_records(origin, keys)
            again = await asyncio.to_thread(self._read, records)
            for at, data in zip(failed, again, strict=True):
                found[at] = data
        pieces: list[bytes | memoryview] = []
        size = 0
        for item, data in zip(items, found, strict=True):
            offset = item.offset
            if isinstance(data, memoryview) and offset <= len(data):
                rest = data[offset:]
                before, after = around_commitment(item.index, offset, len(rest))
                pieces += before, item.commitment, after, rest
                size += len(rest)
            else:
                pieces.append(self._failed(item, _reason(item, data)).encode())
        self._pacing.count(origin.server, size)
        return b"".join(pieces)

    def _read(self, records: Sequence[Wanted | None]) -> list[memoryview | StorageError | None]:
        """The data of records; read in the order in which they stand on the disk."""
        found: list[memoryview | StorageError | None] = [None] * len(records)
        ordered = sorted((one, at) for at, one in enumerate(records) if one is not None)
        read = self._shelf.read([one for one, _ in ordered])
        for (_, at), data in zip(ordered, read, strict=True):
            found[at] = data
        return found

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


def _reason(
    item: BatchItem, data: memoryview | StorageError | None
) -> StorageError | UnknownObjectError | FormatError:
    """Why a small fragment does not follow."""
    if isinstance(data, StorageError):
        return data
    if data is None:
        return _unknown()
    return _beyond(item, len(data))


def _require_held(upload: Upload, item: BatchItem) -> None:
    if upload.transfer.state is not TransferState.HELD:
        raise _unknown()
    if item.offset > upload.transfer.size:
        raise _beyond(item, upload.transfer.size)


def _unknown() -> UnknownObjectError:
    return UnknownObjectError("no such fragment is held for this call")


def _beyond(item: BatchItem, size: int) -> FormatError:
    return FormatError(f"offset: expected at most {size}, found {item.offset}")


async def _read(file: ReadFile, at: int, end: int) -> bytes:
    size = min(CHUNK_SIZE, end - at)
    return await asyncio.to_thread(file.read, offset=at, size=size) if size else b""
