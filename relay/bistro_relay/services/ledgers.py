"""The custody ledgers, one for each call: opened when first needed, all run by one part.

| entry | key |
|---|---|
| receipt | ``r``, commitment, fragment index |
| held | ``h``, commitment, fragment index, hold-until |
| released | ``d``, commitment, fragment index |

Keys make every entry harmless to ask for again, also after a crash.

Source: docs/spec/promises.md; docs/spec/staging.md, custody.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from bistro.clock import Clock
from bistro.crypto.signing import LocalSigner, SigningKey
from bistro.errors import RefusedError, StorageError, UnavailableError
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.ledger.appended import Appended
from bistro.ledger.ledger import Ledger
from bistro.ledger.sequencer import BatchReport, Draft, Sequencer
from bistro.storage.durable import (
    SYSTEM_DISK,
    Disk,
    Folders,
    storage_errors,
    sync_directory,
    write_atomically,
)
from bistro.wire.entry import HeldEntry, ReceiptEntry, ReleasedEntry, decode_entry
from bistro_relay.services.room import full_answered

FOLDER: Final = "custody"
DROPPED: Final = "dropped"
"""What is left of a ledger that was dropped, so that none is begun under its name."""


def receipt_key(commitment: bytes, index: int) -> bytes:
    """What a receipt is unique by."""
    return b"r" + commitment + bytes([index])


def held_key(commitment: bytes, index: int, until: UnixMillis) -> bytes:
    """What an extension of a hold is unique by."""
    return b"h" + commitment + bytes([index]) + until.to_bytes(8, "big")


def released_key(commitment: bytes, index: int) -> bytes:
    """What the end of a hold is unique by."""
    return b"d" + commitment + bytes([index])


def key_of(entry: bytes) -> bytes | None:
    """The key of an entry of ours, made anew from it.

    Raises:
        FormatError: It is no entry.
    """
    match decode_entry(entry):
        case ReceiptEntry() as receipt:
            return receipt_key(receipt.digest, receipt.index)
        case HeldEntry() as held:
            return held_key(held.digest, held.index, held.hold_until)
        case ReleasedEntry() as released:
            return released_key(released.digest, released.index)
        case _:
            return None


@dataclass(frozen=True)
class CustodyLedger:
    """One call's ledger and what orders its entries."""

    ledger: Ledger
    sequencer: Sequencer

    @property
    def origin(self) -> str:
        """``<relay>/custody/<server>/<call>``."""
        return self.ledger.origin

    async def find_receipt(self, commitment: bytes, index: int) -> Appended | None:
        """The receipt of a fragment, proven to the newest checkpoint."""
        return await self.ledger.find(receipt_key(commitment, index))

    async def is_released(self, commitment: bytes, index: int) -> bool:
        """Whether the hold of a fragment has ended."""
        key = released_key(commitment, index)
        return key in await self.ledger.lookup([key])

    async def find_released(
        self, fragments: Sequence[tuple[bytes, int]]
    ) -> dict[tuple[bytes, int], ReleasedEntry]:
        """The ends of holds, of those that have ended, by commitment and index."""
        keys = {released_key(*fragment): fragment for fragment in fragments}
        found: dict[tuple[bytes, int], ReleasedEntry] = {}
        for key in await self.ledger.lookup(list(keys)):
            appended = await self.ledger.find(key)
            entry = None if appended is None else decode_entry(appended.entry)
            if isinstance(entry, ReleasedEntry):
                found[keys[key]] = entry
        return found

    async def append(self, *drafts: Draft) -> list[Appended]:
        """Entries for all drafts, durable when this returns; known ones are found again.

        Raises:
            BistroError: The first that any of them met.
        """
        results = await self.sequencer.submit_all(drafts)
        return [_require_appended(result) for result in results]


def _require_appended(result: Appended | BaseException) -> Appended:
    if isinstance(result, BaseException):
        raise result
    return result


class CustodyLedgers:
    """All custody ledgers of a relay.

    Args:
        directory: The relay's data folder.
        key: The relay's key; it signs each ledger under the ledger's name.
        clock: Stamps.
        error_limit_ms: The largest clock error with which to stamp.
        report: Told about each batch.
        disk: The system calls to use.
    """

    def __init__(
        self,
        directory: Path,
        key: SigningKey,
        clock: Clock,
        *,
        error_limit_ms: int,
        report: Callable[[BatchReport], None] | None = None,
        disk: Disk = SYSTEM_DISK,
    ) -> None:
        self._root = directory / FOLDER
        self._folders = Folders(directory, disk=disk)
        self._key = key
        self._clock = clock
        self._error_limit_ms = error_limit_ms
        self._report = report
        self._disk = disk
        self._open: dict[Origin, CustodyLedger] = {}
        self._locks: defaultdict[Origin, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._new: asyncio.Queue[tuple[Origin, Sequencer]] = asyncio.Queue()
        self._running: dict[Origin, asyncio.Task[None]] = {}

    @property
    def relay(self) -> str:
        """The relay's name."""
        return self._key.verifier.name

    def exists(self, origin: Origin) -> bool:
        """Whether anything was ever promised for a call, and its ledger is kept still."""
        return self._folder(origin).is_dir() and not self.is_dropped(origin)

    def is_dropped(self, origin: Origin) -> bool:
        """Whether the ledger of a call was dropped."""
        return (self._folder(origin) / DROPPED).exists()

    def origins(self) -> list[Origin]:
        """All calls that have a ledger, or had one."""
        found = [path for path in self._root.glob("*/*") if path.is_dir()]
        return sorted(Origin(path.parent.name, path.name) for path in found)

    def _folder(self, origin: Origin) -> Path:
        return self._root / origin.server / origin.call

    async def drop(self, origin: Origin) -> None:
        """Close a ledger for good; ``clear`` deletes its files.

        Raises:
            StorageError: The disk failed; it may or may not be dropped.
        """
        async with self._locks[origin]:
            found = self._open.pop(origin, None)
            task = self._running.pop(origin, None)
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
            if found is not None:
                await found.ledger.close()
            # A crash before this returns: the ledger is whole, or it is dropped.
            write_atomically(self._folder(origin) / DROPPED, b"", disk=self._disk)

    def is_cleared(self, origin: Origin) -> bool:
        """Whether nothing is left of a dropped ledger."""
        return [path.name for path in self._folder(origin).iterdir()] == [DROPPED]

    def clear(self, origin: Origin) -> None:
        """Delete the files of a dropped ledger; again after a crash.

        Raises:
            StorageError: The disk failed.
        """
        folder = self._folder(origin)
        with storage_errors("delete", folder):
            for inner, _, names in os.walk(folder, topdown=False):
                place = Path(inner)
                for path in (place / name for name in names):
                    if path != folder / DROPPED:
                        self._disk.delete(path)
                if place != folder:
                    place.rmdir()
        sync_directory(folder, disk=self._disk)

    async def of(self, origin: Origin) -> CustodyLedger:
        """The ledger of a call, begun if there is none.

        Raises:
            StorageError: It is damaged, or the disk failed.
            RefusedError: It was dropped.
            RelayFullError: It is to be begun, and the disk has no room.
            UnavailableError: Another process has it open.
        """
        async with self._locks[origin]:
            found = self._open.get(origin)
            if found is None:
                if self.is_dropped(origin):
                    raise RefusedError(
                        f"custody of call {origin} has ended here, 90 days after its last hold",
                        hint="use another relay",
                    )
                signer = LocalSigner(self._key.renamed(origin.custody(self.relay)))
                folder = self._root / origin.server / origin.call
                with full_answered():
                    # The ledger sees to its own name, not to those above.
                    await asyncio.to_thread(self._folders.require, folder.parent)
                    # Nothing was promised yet, and the next one tries again.
                    ledger = await Ledger.open(
                        folder, signer=signer, disk=self._disk, key_of=key_of
                    )
                sequencer = Sequencer(
                    ledger, self._clock, error_limit_ms=self._error_limit_ms, report=self._report
                )
                found = self._open[origin] = CustodyLedger(ledger, sequencer)
                self._new.put_nowait((origin, sequencer))
            return found

    def require_running(self) -> None:
        """Accept a state in which promises can be made.

        Raises:
            UnavailableError: The clock's error is unknown or too large, or a ledger has stopped.
        """
        bound = self._clock.error_bound_ms()
        if bound is None or bound > self._error_limit_ms:
            found = "unknown" if bound is None else f"{bound} ms"
            raise UnavailableError(
                f"clock error: expected at most {self._error_limit_ms} ms, found {found}; "
                "no receipt could be given",
                hint="use another relay; operator: run an NTP client, or state "
                "[clock] assumed_error_ms in bistro-relay.toml",
            )
        for one in self._open.values():
            if one.ledger.failure is not None:
                raise UnavailableError(f"ledger {one.origin} has stopped: {one.ledger.failure}")

    async def run(self) -> NoReturn:
        """Order entries of all ledgers, also of those opened later.

        Raises:
            StorageError: A ledger has stopped: its disk failed or the clock was set.
        """
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    origin, sequencer = await self._new.get()
                    opened = self._open.get(origin)
                    if opened is not None and opened.sequencer is sequencer:
                        self._running[origin] = group.create_task(sequencer.run())
        except BaseExceptionGroup as failures:
            raise _first_of(failures.exceptions) from failures

    async def close(self) -> None:
        """Give all ledgers back."""
        for one in self._open.values():
            await one.ledger.close()


def _first_of(failures: Sequence[BaseException]) -> BaseException:
    return next((one for one in failures if isinstance(one, StorageError)), failures[0])
