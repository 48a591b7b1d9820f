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
from bistro.instant import UnixMillis
from bistro.protocol.transfer import Transfer, TransferState
from bistro.storage.segments import Found
from bistro.wire.claim import Claim
from bistro.wire.entry import ReceiptEntry, decode_entry
from bistro_relay.services.ledgers import CustodyLedgers, receipt_key, released_key
from bistro_relay.store.placing import PlacedUploads
from bistro_relay.store.shared import Place, SharedFiles
from bistro_relay.store.shelf import Shelf
from bistro_relay.store.uploads import Upload

_AT_ONCE: Final = 256
_ID_SIZE: Final = 16

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
                for one in await self._unrowed(origin, some):
                    restored += await self._restore(one)
        return restored

    async def _unrowed(self, origin: Origin, orphans: Sequence[_Orphan]) -> list[_Orphan]:
        """Those with a receipt, without a release, and without a row."""
        ledger = (await self._ledgers.of(origin)).ledger
        keys = [(one.claim.commitment, one.claim.descriptor.index) for one in orphans]
        known = await ledger.lookup(
            [make(*key) for key in keys for make in (receipt_key, released_key)]
        )
        rows = await self._placed.find_custodies(origin, keys)
        return [
            one
            for one, key in zip(orphans, keys, strict=True)
            if receipt_key(*key) in known and released_key(*key) not in known and key not in rows
        ]

    async def _restore(self, orphan: _Orphan) -> bool:
        """Make the row of a record whose receipt the ledger has; it shows it again."""
        claim = orphan.claim
        descriptor = claim.descriptor
        ledger = await self._ledgers.of(claim.origin)
        receipt = await ledger.find_receipt(claim.commitment, descriptor.index)
        entry = None if receipt is None else decode_entry(receipt.entry)
        if not isinstance(entry, ReceiptEntry):
            return False
        if (entry.size, entry.sha256) != (descriptor.size, descriptor.sha256):
            return False
        now = self._clock.now()
        transfer = Transfer(
            size=descriptor.size,
            sha256=descriptor.sha256,
            expires_at=UnixMillis(now),
            offset=descriptor.size,
            state=TransferState.HELD,
            hold_until=entry.hold_until,
        )
        upload = Upload(
            secrets.token_hex(_ID_SIZE),
            claim.origin,
            claim.commitment,
            descriptor.index,
            orphan.encoded,
            transfer,
            orphan.place,
        )
        try:
            await self._placed.insert_held([upload], now=now)
        except ConflictError:
            return False  # another record of the same fragment came first
        _log.warning("fragment_restored", upload=upload.id, origin=str(upload.origin))
        return True


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
