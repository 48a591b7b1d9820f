"""Drops what has ended long ago: ledgers, with the rows and the orders that they name.

Source: docs/spec/relay-life.md, the end of a ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from bistro.clock import Clock
from bistro.daemon import logs
from bistro.errors import UnknownObjectError
from bistro.ids import Origin
from bistro.storage.blobs import BlobStore
from bistro.wire.entry import ReleasedEntry, decode_entry
from bistro_relay.services.custody import HOLD_MS
from bistro_relay.services.ledgers import CustodyLedgers
from bistro_relay.services.terms_book import TermsBook
from bistro_relay.store.takedowns import TakedownFiles
from bistro_relay.store.uploads import UploadStore

KEPT_MS: Final = 7_776_000_000
"""How long a ledger is kept after its last hold: 90 days."""
LOOK_MS: Final = 86_400_000
"""How often ledgers are looked at."""

_AT_ONCE: Final = 500

_log = logs.get_logger("ending")


class Ending:
    """Drops ledgers.

    Args:
        ledgers: All of the relay.
        uploads: Rows.
        book: Terms, which tell what cannot have ended yet.
        requests: Signed releases.
        takedowns: Signed takedowns.
        clock: Tells whether it is time.
    """

    def __init__(
        self,
        *,
        ledgers: CustodyLedgers,
        uploads: UploadStore,
        book: TermsBook,
        requests: BlobStore,
        takedowns: TakedownFiles,
        clock: Clock,
    ) -> None:
        self._ledgers = ledgers
        self._uploads = uploads
        self._book = book
        self._requests = requests
        self._takedowns = takedowns
        self._clock = clock
        self._looked_ms: int | None = None

    async def finish(self) -> None:
        """Finish what a crash left begun: before anything asks for those ledgers.

        Raises:
            StorageError: Disk or database failed.
        """
        for origin in await asyncio.to_thread(self._ledgers.origins):
            if self._ledgers.is_dropped(origin) and not self._ledgers.is_cleared(origin):
                await self._clear(origin)

    async def tick(self) -> None:
        """Drop, once a day, what has ended.

        Raises:
            StorageError: Disk, database or a ledger failed.
        """
        now_ms = self._clock.monotonic_ms()
        if self._looked_ms is not None and now_ms - self._looked_ms < LOOK_MS:
            return
        for origin in await asyncio.to_thread(self._ledgers.origins):
            if not self._ledgers.is_dropped(origin) and await self._has_ended(origin):
                await self._drop(origin)
        self._looked_ms = now_ms

    async def _has_ended(self, origin: Origin) -> bool:
        latest = self._clock.now() - KEPT_MS
        try:
            # Cheap, and true of most: rows are looked at only of calls that are long over.
            if self._book.find_terms(origin).repair_by + HOLD_MS >= latest:
                return False
        except UnknownObjectError:
            return False
        until = await self._uploads.last_hold_of_ended(origin)
        return until is not None and until < latest

    async def _drop(self, origin: Origin) -> None:
        ledger = (await self._ledgers.of(origin)).ledger
        requests, takedowns = await asyncio.to_thread(self._named, ledger.entries())
        for request in requests:
            await self._requests.delete(request.hex())
        for takedown in takedowns:
            await asyncio.to_thread(self._takedowns.delete, takedown)
        # A crash here: the ledger is whole still, and what it names is deleted again.
        await self._ledgers.drop(origin)
        await self._clear(origin)

    def _named(self, entries: Iterator[bytes]) -> tuple[set[bytes], set[bytes]]:
        """Requests and takedowns that a ledger names; few, each is for many fragments."""
        requests: set[bytes] = set()
        takedowns: set[bytes] = set()
        for data in entries:
            entry = decode_entry(data)
            if isinstance(entry, ReleasedEntry):
                requests |= set() if entry.request is None else {entry.request}
                takedowns |= set() if entry.takedown is None else {entry.takedown}
        return requests, takedowns

    async def _clear(self, origin: Origin) -> None:
        # A crash from here on: ``finish`` goes on.
        count = 0
        while deleted := await self._uploads.forget_call(origin, limit=_AT_ONCE):
            count += deleted
        await asyncio.to_thread(self._ledgers.clear, origin)
        _log.info("ledger_dropped", origin=str(origin), count=count)
