"""The part that tends the shelf: settles, empties and prepares shared segments.

Nothing here is on the way of an upload or a release, and a crash at any line loses nothing: a
segment that is not settled is scanned once more, a copy without a row is dead.

Source: docs/spec/segments.md, shared segments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NoReturn

from bistro.clock import Clock
from bistro.daemon import logs
from bistro.errors import StorageError, UnavailableError
from bistro.storage.finishing import finish
from bistro_relay.services.room import full_answered
from bistro_relay.store.placing import Move, PlacedUploads
from bistro_relay.store.shared import Record, Wanted
from bistro_relay.store.shelf import Shelf
from bistro_relay.store.uploads import Upload

TICK_S: Final = 0.25
MOVE_SIZE: Final = 1_048_576
"""Bytes that are moved in a tick at most, but for the last fragment: 4 MiB in a second."""

_AT_ONCE: Final = 64

_log = logs.get_logger("shelf")


class Tending:
    """Tends the shelf.

    Args:
        shelf: The small fragments.
        placed: Their rows.
        clock: Dates moves.
    """

    def __init__(self, shelf: Shelf, placed: PlacedUploads, clock: Clock) -> None:
        self._shelf = shelf
        self._placed = placed
        self._clock = clock
        self._unreadable: set[str] = set()

    async def run(self) -> NoReturn:
        """Tick until cancelled.

        Raises:
            StorageError: Disk or database failed.
        """
        while True:
            try:
                with full_answered():
                    await finish(self.tick())
            except UnavailableError as exc:
                # A full disk: the same again, a tick later.
                _log.warning("keeping_postponed", error_code=exc.code, message=exc.message)
            await asyncio.sleep(TICK_S)

    async def tick(self) -> None:
        """Do all that is due, and move a little.

        Raises:
            StorageError: Disk or database failed.
        """
        await self._recycle()
        settleable = self._shelf.list_settleable()
        if settleable:
            await self._placed.settle(settleable)
            self._shelf.settled(settleable)
        if self._shelf.needs_spare:
            await asyncio.to_thread(self._shelf.add_spare)
        sparse = self._shelf.find_sparse()
        if sparse is not None:
            await self._move(sparse)

    async def _recycle(self) -> None:
        empty = self._shelf.list_empty()
        if empty:
            # First the row: what is written into it from now on must be found by a scan.
            await self._placed.unsettle(empty)
            await asyncio.to_thread(self._shelf.recycle, empty)

    async def _move(self, segment: int) -> None:
        """Move some live records of a segment behind those that arrive."""
        size, uploads = 0, []
        for upload in await self._placed.live_in(segment, limit=_AT_ONCE):
            if upload.id not in self._unreadable:
                uploads.append(upload)
                size += upload.transfer.size
            if size >= MOVE_SIZE:
                break
        records = await asyncio.to_thread(self._copy, uploads)
        if not records:
            return
        places = await asyncio.to_thread(self._shelf.write, [record for _, record in records])
        moves = [Move(upload, place) for (upload, _), place in zip(records, places, strict=True)]
        # A crash here leaves copies without rows: dead.
        moved = await self._placed.move(moves, now=self._clock.now())
        self._settle_moves(moves, moved)
        _log.debug("fragments_moved", count=len(moved), size=size)

    def _copy(self, uploads: Sequence[Upload]) -> list[tuple[Upload, Record]]:
        wanted = [one.record for one in uploads if one.record is not None]
        found: list[tuple[Upload, Record]] = []
        for upload, data in zip(uploads, self._shelf.read(wanted), strict=True):
            if isinstance(data, StorageError):
                # It stays where it is, and its destination is told when it asks.
                self._unreadable.add(upload.id)
                _log.error(
                    "fragment_read_failed",
                    commitment=upload.commitment.hex(),
                    fragment_index=upload.index,
                    message=data.message,
                )
            else:
                found.append((upload, Record.of(upload.claim, data)))
        return found

    def _settle_moves(self, moves: Sequence[Move], moved: Sequence[Upload]) -> None:
        ids = {one.id for one in moved}
        for move in moves:
            upload = move.upload
            if upload.id in ids and upload.record is not None:
                self._shelf.keep(move.place)
                self._shelf.give_up(upload.record)
            else:
                copy = Wanted(move.place, upload.claim, upload.transfer.size)
                self._shelf.give_up(copy, is_waiting=True)

    async def close(self) -> None:
        """Settle what can be settled, so that the next start has nothing to scan."""
        await asyncio.to_thread(self._shelf.close)
        with suppress(StorageError, UnavailableError):
            # Where this fails, the next start scans.
            if settleable := self._shelf.list_settleable():
                await self._placed.settle(settleable)
