"""What a start finds and puts right, with the code of normal operation.

| on disk | in the database | what happens |
|---|---|---|
| file | no row, no receipt | deleted: its creation was never answered |
| whole file | no row, but a receipt in the ledger | the row is made again |
| file | row ended | deleted |
| no file | row receiving, nothing had come | goes on |
| no file | row receiving, bytes had come | the upload ends |
| no file, damaged | row complete or held | said loudly; the promise cannot be kept |
| whole file | row receiving, but a receipt in the ledger | complete again, then held |
| anything | row held or ended, and no such entry in the ledger | the relay does not start |

Fragments in shared segments are ``ShelfRecovery``'s. Complete rows get their receipts by
``Custody.hold_complete``.

Source: docs/spec/staging.md; docs/spec/segments.md, recovery.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from bistro.clock import Clock
from bistro.daemon import logs
from bistro.errors import FormatError, StorageError, UnknownObjectError
from bistro.instant import UnixMillis
from bistro.protocol.transfer import INCOMPLETE_MS, Transfer, TransferState
from bistro.wire.claim import Claim
from bistro_relay.services.ledgers import CustodyLedgers
from bistro_relay.services.quotas import Quotas
from bistro_relay.services.room import Room
from bistro_relay.services.shelf_recovery import ShelfRecovery
from bistro_relay.store.segments import PREFIXES, SegmentFiles
from bistro_relay.store.uploads import Upload, UploadStore

_log = logs.get_logger("recovery")


@dataclass
class _Tally:
    swept: int = 0
    restored: int = 0
    missing: int = 0


class Recovery:
    """Compares files, rows and ledgers; one of 256 folders is in memory at a time."""

    def __init__(  # noqa: PLR0913 - it stands between all of these
        self,
        *,
        uploads: UploadStore,
        files: SegmentFiles,
        shelf: ShelfRecovery,
        ledgers: CustodyLedgers,
        room: Room,
        quotas: Quotas,
        clock: Clock,
    ) -> None:
        self._uploads = uploads
        self._files = files
        self._shelf = shelf
        self._ledgers = ledgers
        self._room = room
        self._quotas = quotas
        self._clock = clock

    async def run(self) -> None:
        """Put right what a crash left; repeating it changes nothing.

        Raises:
            StorageError: The disk, the database or a ledger failed, or a ledger is older than
                what is known of it.
        """
        await self._require_newest_ledgers()
        tally = _Tally()
        tally.restored, tally.missing = await self._shelf.run()
        for prefix in PREFIXES:
            rows = {upload.id: upload for upload in await self._uploads.list_named(prefix)}
            found = await asyncio.to_thread(self._files.names, prefix)
            for name in found - rows.keys():
                await self._judge_orphan(name, tally)
            for upload in rows.values():
                await self._judge(upload, has_file=upload.id in found, tally=tally)
        await self._room.load(self._uploads)
        await self._quotas.load(self._uploads)
        _log.info(
            "recovery_finished",
            count=tally.restored,
            released_count=tally.swept,
            missing_count=tally.missing,
        )

    async def _require_newest_ledgers(self) -> None:
        """What was promised last must stand in its ledger: else its end is gone."""
        for upload in await self._uploads.list_newest_promised():
            ledger = await self._ledgers.of(upload.origin)
            key = upload.commitment, upload.index
            is_known = await ledger.find_receipt(*key) is not None
            if upload.transfer.state.is_final:
                is_known = is_known and await ledger.is_released(*key)
            if not is_known:
                raise StorageError(
                    f"ledger {ledger.origin} has {ledger.ledger.size} entries, and not the last "
                    "one that was written: it is an old copy, or its disk lost some",
                    hint="do not continue this ledger, it would sign a second history: restore "
                    "the newest copy; if there is none, begin a new relay with a new name",
                )

    async def _judge(self, upload: Upload, *, has_file: bool, tally: _Tally) -> None:
        state = upload.transfer.state
        if state.is_final:
            if has_file:
                await self._sweep(upload.id, tally)
        elif state is TransferState.RECEIVING:
            if not has_file and upload.transfer.offset:
                ended = replace(upload.transfer, state=TransferState.TERMINATED)
                await self._uploads.update(upload.with_transfer(ended), now=self._clock.now())
            elif has_file and await self._is_promised(upload):
                await self._restore(upload, tally, is_new=False)
        elif not has_file:
            tally.missing += 1
            _log.error(
                "fragment_lost",
                upload=upload.id,
                origin=str(upload.origin),
                commitment=upload.commitment.hex(),
                fragment_index=upload.index,
            )

    async def _judge_orphan(self, name: str, tally: _Tally) -> None:
        upload = await asyncio.to_thread(self._upload_of, name)
        if upload is not None and await self._is_promised(upload):
            await self._restore(upload, tally, is_new=True)
        else:
            await self._sweep(name, tally)

    def _upload_of(self, name: str) -> Upload | None:
        """The upload that a whole segment without a row describes."""
        try:
            file, record = self._files.read(name)
        except (FormatError, UnknownObjectError):
            return None
        with file:
            if not self._files.is_complete(file, record):
                return None
        try:
            claim = Claim.decode(record.claim)
        except FormatError:
            return None
        descriptor = claim.descriptor
        ends = UnixMillis(self._clock.now() + INCOMPLETE_MS)
        transfer = Transfer(
            size=descriptor.size, fragment_hash=descriptor.fragment_hash, expires_at=ends
        )
        return Upload.of(name, claim, record.claim, transfer)

    async def _is_promised(self, upload: Upload) -> bool:
        """Whether the ledger holds a receipt for the fragment, and its hold has not ended."""
        if not self._ledgers.exists(upload.origin):
            return False
        ledger = await self._ledgers.of(upload.origin)
        if await ledger.find_receipt(upload.commitment, upload.index) is None:
            return False
        if await ledger.is_released(upload.commitment, upload.index):
            return False
        twin = await self._uploads.find_custody(upload.origin, upload.commitment, upload.index)
        return twin is None and await asyncio.to_thread(self._upload_of, upload.id) is not None

    async def _restore(self, upload: Upload, tally: _Tally, *, is_new: bool) -> None:
        """Make the row say ``complete``; its receipt is found, not given anew."""
        whole = replace(upload.transfer, offset=upload.transfer.size, state=TransferState.COMPLETE)
        complete = upload.with_transfer(whole)
        if is_new:
            await self._uploads.insert(complete, now=self._clock.now())
        else:
            await self._uploads.update(complete, now=self._clock.now())
        tally.restored += 1
        _log.warning("fragment_restored", upload=upload.id, origin=str(upload.origin))

    async def _sweep(self, name: str, tally: _Tally) -> None:
        await asyncio.to_thread(self._files.delete, name)
        tally.swept += 1
