"""Promises to hold fragments: given, prolonged, ended by release or by time.

Each step is an entry of the call's custody ledger first and a row after it, and bytes are
deleted last:

| what a crash leaves | what the next start does |
|---|---|
| row complete, no receipt | gives the receipt |
| receipt in the ledger, row complete | asks for the same entry again and records it |
| ``released`` entry, row held | a repeated release, or the end of the hold, finds the entry |
| row ended, file there | deletes the file |

Source: docs/spec/staging.md, custody; docs/spec/collection.md, releases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from bistro.clock import Clock
from bistro.daemon import logs
from bistro.errors import UnknownObjectError
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.ledger.sequencer import Draft
from bistro.protocol.transfer import TransferState
from bistro.wire.entry import HeldEntry, ReceiptEntry, ReleasedEntry, decode_entry
from bistro.wire.terms import Terms
from bistro_relay.metrics import RelayMetrics
from bistro_relay.services.arrivals import Arrivals
from bistro_relay.services.ledgers import (
    CustodyLedgers,
    held_key,
    receipt_key,
    released_key,
)
from bistro_relay.services.room import Room, full_answered
from bistro_relay.services.terms_book import TermsBook
from bistro_relay.store.segments import SegmentFiles
from bistro_relay.store.shelf import Shelf
from bistro_relay.store.uploads import Upload, UploadStore

HOLD_MS: Final = 604_800_000
"""How long beyond ``repair_by`` every fragment is held: 7 days."""

_log = logs.get_logger("custody")


def hold_until(terms: Terms) -> UnixMillis:
    """Until when a receipt given under these terms promises to hold."""
    return UnixMillis(terms.repair_by + HOLD_MS)


class Custody:
    """Keeps fragments as promised.

    Args:
        ledgers: Where promises are written.
        uploads: Rows.
        files: Segments of single fragments.
        shelf: Small fragments.
        book: Terms, which say how long to hold.
        room: Told what is given back.
        arrivals: Told what can be seen at ``/staged``.
    """

    def __init__(  # noqa: PLR0913 - it stands between all of these
        self,
        *,
        ledgers: CustodyLedgers,
        uploads: UploadStore,
        files: SegmentFiles,
        shelf: Shelf,
        book: TermsBook,
        room: Room,
        arrivals: Arrivals,
        clock: Clock,
        metrics: RelayMetrics,
    ) -> None:
        self._ledgers = ledgers
        self._uploads = uploads
        self._files = files
        self._shelf = shelf
        self._book = book
        self._room = room
        self._arrivals = arrivals
        self._clock = clock
        self._metrics = metrics
        self._ending = asyncio.Lock()

    async def hold(self, upload: Upload) -> Upload:
        """Give the receipt of a complete upload, durably, and show it to the destination.

        Repeating it is harmless: the entry is unique, and the row says the same.

        Raises:
            UnavailableError: The clock's error is unknown; nothing was promised.
            StorageError: Whether the receipt lasts is found out at the next start.
        """
        ledger = await self._ledgers.of(upload.origin)
        transfer = upload.transfer

        def build(time: UnixMillis) -> bytes:
            return ReceiptEntry(
                origin=ledger.origin,
                time=time,
                digest=upload.commitment,
                index=upload.index,
                size=transfer.size,
                fragment_hash=transfer.fragment_hash,
                hold_until=hold_until(self._book.find_terms(upload.origin)),
            ).encode()

        key = receipt_key(upload.commitment, upload.index)
        (appended,) = await ledger.append(Draft(key, self._clock.now(), build))
        entry = decode_entry(appended.entry)
        until = entry.hold_until if isinstance(entry, ReceiptEntry) else self._clock.now()
        held = upload.with_transfer(transfer.hold(until))
        # A crash here leaves a receipt that nobody has seen: its row is complete still.
        with full_answered():
            await self._uploads.update(held, now=self._clock.now())
        if transfer.state is TransferState.COMPLETE:
            self._metrics.uploads.labels(TransferState.HELD.value).inc()
            _log.info(
                "receipt_signed",
                upload=upload.id,
                origin=str(upload.origin),
                commitment=upload.commitment.hex(),
                fragment_index=upload.index,
                size=transfer.size,
                hold_until=until,
            )
        self._arrivals.announce(upload.origin)
        return held

    async def find_receipt(self, upload: Upload) -> bytes:
        """The receipt of an upload, a tlog-proof text.

        Raises:
            UnknownObjectError: There is none.
        """
        if upload.transfer.state not in {TransferState.HELD, TransferState.RELEASED}:
            raise UnknownObjectError(f"upload {upload.id}: there is no receipt yet")
        ledger = await self._ledgers.of(upload.origin)
        found = await ledger.find_receipt(upload.commitment, upload.index)
        if found is None:
            raise UnknownObjectError(f"upload {upload.id}: its receipt is not in the ledger")
        return found.proof

    async def hold_complete(self) -> None:
        """Give receipts to complete uploads that lack them: after a crash, or a bad clock."""
        for upload in await self._uploads.list_complete():
            await self.hold(upload)

    async def prolong(self, origin: Origin) -> None:
        """Write ``held`` entries for fragments whose hold ends too early by the latest terms.

        A crash in between leaves some prolonged; the next pass finds the others.
        """
        until = hold_until(self._book.find_terms(origin))
        while await self._prolong_some(origin, until):
            pass

    async def _prolong_some(self, origin: Origin, until: UnixMillis) -> bool:
        """Prolong a page of holds; whether there were any."""
        # Alone, so that no ``released`` entry comes between looking for one and writing.
        async with self._ending:
            uploads = await self._uploads.list_held_shorter(origin, until)
            if not uploads:
                return False
            ledger = await self._ledgers.of(origin)
            ended = await ledger.find_released([_fragment(one) for one in uploads])
            # A crash left the entries of these, and their rows held.
            await self._end_found([one for one in uploads if _fragment(one) in ended], ended)
            held = [one for one in uploads if _fragment(one) not in ended]
            if held:
                await ledger.append(*(self._held_draft(ledger.origin, one, until) for one in held))
                rows = [one.with_transfer(one.transfer.extend(until)) for one in held]
                await self._uploads.update(*rows, now=self._clock.now())
                _log.info("holds_prolonged", origin=str(origin), count=len(held), hold_until=until)
        return True

    async def _end_found(
        self, uploads: Sequence[Upload], ended: Mapping[tuple[bytes, int], ReleasedEntry]
    ) -> None:
        """Let rows say what the ledger said of them before a crash."""
        for one in uploads:
            transfer, entry = one.transfer, ended[_fragment(one)]
            if entry.request is None and entry.takedown is None:
                # It was over then, and stays over, whatever the clock says now.
                over = max(entry.time, 1 + (transfer.hold_until or 0))
                transfer = transfer.expire(UnixMillis(over))
            else:
                transfer = transfer.release(transfer.fragment_hash)
            await self._end_held([one.with_transfer(transfer)], None, None)

    def _held_draft(self, ledger: str, upload: Upload, until: UnixMillis) -> Draft:
        def build(time: UnixMillis) -> bytes:
            return HeldEntry(
                origin=ledger,
                time=time,
                digest=upload.commitment,
                index=upload.index,
                hold_until=until,
            ).encode()

        key = held_key(upload.commitment, upload.index, until)
        return Draft(key, self._clock.now(), build)

    async def release(
        self,
        uploads: Sequence[Upload],
        *,
        request: bytes | None = None,
        takedown: bytes | None = None,
    ) -> None:
        """End the holds of fragments of one call, because somebody said so.

        Args:
            uploads: Released by ``Transfer.release``.
            request: SHA-256 of the destination's signed request, which is kept already.
            takedown: Or that of the operator's signed takedown.
        """
        await self._end(uploads, request, takedown)

    async def expire(self, upload: Upload) -> None:
        """End a hold whose time is over.

        Raises:
            ConflictError: It is too early.
        """
        ended = upload.with_transfer(upload.transfer.expire(self._clock.now()))
        await self._end([ended], None, None)

    async def _end(
        self, uploads: Sequence[Upload], request: bytes | None, takedown: bytes | None
    ) -> None:
        async with self._ending:
            found = await self._uploads.find_all([one.id for one in uploads])
            held = {one.id for one in found if one.transfer.state is TransferState.HELD}
            uploads = [one for one in uploads if one.id in held]
            if uploads:
                with full_answered():
                    await self._end_held(uploads, request, takedown)

    async def _end_held(
        self, uploads: Sequence[Upload], request: bytes | None, takedown: bytes | None
    ) -> None:
        ledger = await self._ledgers.of(uploads[0].origin)
        await ledger.append(
            *(self._ended_draft(ledger.origin, one, request, takedown) for one in uploads)
        )
        # A crash here: the entry is there, the row still held. Asking again finds the entry.
        await self._uploads.update(*uploads, now=self._clock.now())
        state = uploads[0].transfer.state.value
        for upload in uploads:
            self._room.give_back(upload.origin.server, size=upload.transfer.size)
        self._metrics.uploads.labels(state).inc(len(uploads))
        await self._forget(uploads)
        _log.info(
            "holds_ended",
            origin=str(uploads[0].origin),
            count=len(uploads),
            state=state,
        )

    async def _forget(self, uploads: Sequence[Upload]) -> None:
        """Give up the bytes of rows that have ended, wherever they were moved meanwhile."""
        for upload in await self._uploads.find_all([one.id for one in uploads]):
            if upload.record is not None:
                self._shelf.give_up(upload.record)
            else:
                # A crash here leaves a file whose row has ended: swept at the next start.
                await asyncio.to_thread(self._files.delete, upload.id)

    def _ended_draft(
        self, ledger: str, upload: Upload, request: bytes | None, takedown: bytes | None
    ) -> Draft:
        def build(time: UnixMillis) -> bytes:
            return ReleasedEntry(
                origin=ledger,
                time=time,
                digest=upload.commitment,
                index=upload.index,
                request=request,
                takedown=takedown,
            ).encode()

        key = released_key(upload.commitment, upload.index)
        return Draft(key, self._clock.now(), build)


def _fragment(upload: Upload) -> tuple[bytes, int]:
    return upload.commitment, upload.index
