"""What a start finds in shared segments, and puts right.

| in a segment that is not settled | in the database | in the ledger | what happens |
|---|---|---|---|
| whole record | a live row at its place | | it lives |
| whole record | no custody of the fragment | receipt, no release | its row is made again |
| whole record | anything else | | dead |
| torn record, or none | | | the end: nothing behind it was promised |

A row whose segment or record is not there is a lost fragment: said loudly, answered `storage`.

Source: docs/spec/segments.md, recovery.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bistro.clock import Clock
from bistro.daemon import logs
from bistro.errors import ConflictError, FormatError
from bistro.ids import Origin
from bistro.ledger.ledger import Ledger
from bistro.protocol.transfer import Transfer, TransferState
from bistro.storage.segments import Found
from bistro.wire.claim import Claim
from bistro.wire.entry import ReceiptEntry, decode_entry
from bistro_relay.services.ledgers import CustodyLedgers, receipt_key, released_key
from bistro_relay.store.placing import PlacedUploads
from bistro_relay.store.shared import Place, SharedFiles
from bistro_relay.store.shelf import Shelf
from bistro_relay.store.uploads import Upload

_AT_ONCE: Final = 2_048
_ID_SIZE: Final = 16
_NEAR: Final = 8
"""Up to so many times as many entries are read as are wanted, where they stand together."""

_log = logs.get_logger("recovery")


@dataclass(frozen=True, slots=True)
class _Orphan:
    """A whole record that no live row points to."""

    claim: Claim
    encoded: bytes
    place: Place


class ShelfRecovery:
    """Makes the books of the shelf, and rows that a crash kept from being written.

    Args:
        shelf: The small fragments.
        files: Their segments.
        placed: Their rows.
        ledgers: What was promised.
        clock: Dates rows.
    """

    def __init__(
        self,
        *,
        shelf: Shelf,
        files: SharedFiles,
        placed: PlacedUploads,
        ledgers: CustodyLedgers,
        clock: Clock,
    ) -> None:
        self._shelf = shelf
        self._files = files
        self._placed = placed
        self._ledgers = ledgers
        self._clock = clock

    async def run(self) -> tuple[int, int]:
        """Put right what a crash left; how many rows were made, how many fragments are lost.

        Raises:
            StorageError: The disk, the database or a ledger failed.
        """
        numbers = await asyncio.to_thread(self._shelf.begin)
        settled = await self._placed.settled()
        restored = missing = 0
        for number in numbers:
            if number not in settled:
                made, lost = await self._scan(number)
                restored, missing = restored + made, missing + lost
        for load in await self._placed.loads():
            if load.segment in numbers:
                self._shelf.note(load.segment, count=load.count, size=load.size)
            else:
                missing += load.count
                _log.error("records_lost", count=load.count, size=load.size)
        self._shelf.settled(settled)
        return restored, missing

    async def _scan(self, number: int) -> tuple[int, int]:
        live = await self._placed.live_places(number)
        found = await asyncio.to_thread(_whole_records, self._files, number, live)
        seen = {place for place, _ in found}
        lost = [place for place in live if place not in seen]
        if lost:
            _log.error("records_lost", count=len(lost))
        orphans = [orphan for _, orphan in found if orphan is not None]
        restored = 0
        for at in range(0, len(orphans), _AT_ONCE):
            restored += await self._judge(orphans[at : at + _AT_ONCE])
        return restored, len(lost)

    async def _judge(self, orphans: Sequence[_Orphan]) -> int:
        by_origin: defaultdict[Origin, list[_Orphan]] = defaultdict(list)
        for one in orphans:
            by_origin[one.claim.origin].append(one)
        restored = 0
        for origin, some in by_origin.items():
            if self._ledgers.exists(origin):
                uploads = await self._unrowed(origin, some)
                restored += await self._restore(uploads)
        return restored

    async def _unrowed(self, origin: Origin, orphans: Sequence[_Orphan]) -> list[Upload]:
        """What rows are missing: of records with a receipt, without a release, without a row."""
        ledger = (await self._ledgers.of(origin)).ledger
        keys = [(one.claim.commitment, one.claim.descriptor.index) for one in orphans]
        known = await ledger.lookup(
            [make(*key) for key in keys for make in (receipt_key, released_key)]
        )
        rows = await self._placed.find_custodies(origin, keys)
        found = [
            (known[receipt_key(*key)], one)
            for one, key in zip(orphans, keys, strict=True)
            if receipt_key(*key) in known and released_key(*key) not in known and key not in rows
        ]
        if not found:
            return []
        entries = await asyncio.to_thread(_entries_at, ledger, [index for index, _ in found])
        uploads: dict[int, Upload] = {}
        for index, one in found:
            upload = self._upload_of(one, entries[index])
            if upload is not None:
                # Another record of the same fragment, as moving leaves one, is dead.
                uploads.setdefault(index, upload)
        return list(uploads.values())

    def _upload_of(self, orphan: _Orphan, receipt: bytes) -> Upload | None:
        """The upload of a record, held as its receipt says, if that is for these bytes."""
        claim = orphan.claim
        descriptor = claim.descriptor
        entry = decode_entry(receipt)
        if not isinstance(entry, ReceiptEntry):
            return None
        if (entry.size, entry.fragment_hash) != (descriptor.size, descriptor.fragment_hash):
            return None
        transfer = Transfer(
            size=descriptor.size,
            fragment_hash=descriptor.fragment_hash,
            expires_at=self._clock.now(),
            offset=descriptor.size,
            state=TransferState.HELD,
            hold_until=entry.hold_until,
        )
        return Upload(
            secrets.token_hex(_ID_SIZE),
            claim.origin,
            claim.commitment,
            descriptor.index,
            orphan.encoded,
            transfer,
            orphan.place,
        )

    async def _restore(self, uploads: Sequence[Upload]) -> int:
        """Make rows, all at once where that may be: a lost index has very many."""
        if not uploads:
            return 0
        try:
            await self._placed.insert_held(uploads, now=self._clock.now())
        except ConflictError:
            if len(uploads) == 1:
                return 0  # another record of the same fragment came first
            return sum([await self._restore([one]) for one in uploads])
        for one in uploads:
            _log.warning("fragment_restored", upload=one.id, origin=str(one.origin))
        return len(uploads)


def _entries_at(ledger: Ledger, indexes: Sequence[int]) -> dict[int, bytes]:
    """Entries of a ledger; those that stand near each other are read at once."""
    low, high = min(indexes), max(indexes) + 1
    if high - low <= _NEAR * len(indexes):
        stretch = list(ledger.entries(low, high))
        return {index: stretch[index - low] for index in indexes}
    return {index: next(ledger.entries(index, index + 1)) for index in indexes}


def _whole_records(
    files: SharedFiles, number: int, live: frozenset[int]
) -> list[tuple[int, _Orphan | None]]:
    """Offsets of whole records, with what is needed of those that no row points to."""
    found: list[tuple[int, _Orphan | None]] = []
    for one in files.scan(number):
        if one.state == "complete":
            offset = one.record.offset
            found.append((offset, None if offset in live else _orphan_of(one, number)))
    return found


def _orphan_of(found: Found, number: int) -> _Orphan | None:
    encoded = found.record.claim
    try:
        return _Orphan(Claim.decode(encoded), encoded, Place(number, found.record.offset))
    except FormatError:
        return None
