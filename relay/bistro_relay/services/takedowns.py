"""Deletes what an operator must delete, in the open: note, ledger entry, and then the bytes.

| step | a crash after it |
|---|---|
| the command keeps the signed note | the next look, or the next start, goes on here |
| its name is synced again: the command may not have come to it | again |
| ``released`` entries that name the note | the entries are found again, the rows recorded |
| rows, then the bytes | as after a release |

Source: docs/spec/relay-life.md, takedown.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Final, NoReturn

from bistro.clock import Clock
from bistro.crypto.signing import SigningKey, VerifierKey
from bistro.daemon import logs
from bistro.errors import (
    FormatError,
    RefusedError,
    StorageError,
    UnavailableError,
    UnknownObjectError,
    VerificationError,
)
from bistro.ids import Origin
from bistro.protocol.transfer import TransferState
from bistro.wire.entry import MAX_FRAGMENT_INDEX
from bistro.wire.relay_notes import Takedown
from bistro_relay.services.custody import Custody
from bistro_relay.services.room import full_answered
from bistro_relay.store.placing import PlacedUploads
from bistro_relay.store.takedowns import TakedownFiles

LOOK_S: Final = 0.5
"""How often the folder is looked at."""

AGAIN_MS: Final = 60_000
"""How often all are done again: for uploads that had begun before and ended since."""

_log = logs.get_logger("takedowns")


class Takedowns:
    """All takedowns of a relay.

    Args:
        files: Where commands leave them.
        key: The relay's, which signed them.
        placed: Rows, found by fragment.
        custody: Ends holds.
        clock: Spaces repetitions.
    """

    def __init__(
        self,
        files: TakedownFiles,
        key: VerifierKey,
        placed: PlacedUploads,
        custody: Custody,
        clock: Clock,
    ) -> None:
        self._files = files
        self._key = key
        self._placed = placed
        self._custody = custody
        self._clock = clock
        self._known: dict[bytes, Takedown] = {}
        self._by_commitment: dict[tuple[Origin, bytes], list[bytes]] = {}
        self._done_ms: int | None = None
        self.look()

    def look(self) -> set[bytes]:
        """Take notice of notes that came or went; the names of new ones.

        Raises:
            StorageError: One of them is no takedown of this relay.
        """
        names = self._files.names()
        if names == self._known.keys():
            return set()
        new = names - self._known.keys()
        if new:
            # Before anything is done that it is to explain.
            self._files.settle()
        known = {name: found for name, found in self._known.items() if name in names}
        known |= {name: self._read(name) for name in new}
        by_commitment: defaultdict[tuple[Origin, bytes], list[bytes]] = defaultdict(list)
        for name, found in known.items():
            by_commitment[found.origin, found.commitment].append(name)
        self._known, self._by_commitment = known, dict(by_commitment)
        return new

    def _read(self, name: bytes) -> Takedown:
        try:
            return Takedown.verify(self._files.load(name) or b"", self._key)
        except (FormatError, VerificationError) as exc:
            raise StorageError(
                f"takedown {name.hex()}: {exc.message}", hint="remove that file from takedowns/"
            ) from exc

    def require_allowed(self, origin: Origin, commitment: bytes, index: int) -> None:
        """Accept a fragment that was not taken down.

        Raises:
            RefusedError: It was.
        """
        for name in self._by_commitment.get((origin, commitment), ()):
            if self._known[name].covers(index):
                raise RefusedError(
                    f"this fragment was taken down here: /takedowns/{name.hex()}",
                    hint="use another relay",
                )

    def note(self, name: bytes) -> bytes:
        """The signed note of that name.

        Raises:
            UnknownObjectError: There is none.
        """
        found = self._files.load(name) if name in self._known else None
        if found is None:
            raise UnknownObjectError("there is no such takedown")
        return found

    async def run(self) -> NoReturn:
        """Do what is ordered until cancelled.

        Raises:
            StorageError: Disk, database or a ledger failed, or a note is none.
        """
        while True:
            try:
                with full_answered():
                    await self.tick()
            except UnavailableError as exc:
                # The clock's error, or a full disk: the same again, a little later.
                _log.warning("keeping_postponed", error_code=exc.code, message=exc.message)
            await asyncio.sleep(LOOK_S)

    async def tick(self) -> None:
        """Take down what is new, and from time to time everything again.

        Raises:
            UnavailableError: Nothing can be written to a ledger now; it is tried again.
        """
        new, now_ms = self.look(), self._clock.monotonic_ms()
        if new or self._done_ms is None or now_ms - self._done_ms >= AGAIN_MS:
            self._done_ms = None
            for name, takedown in self._known.items():
                await self._take_down(name, takedown)
            self._done_ms = now_ms

    async def _take_down(self, name: bytes, takedown: Takedown) -> None:
        indexes = takedown.fragments or range(MAX_FRAGMENT_INDEX + 1)
        keys = [(takedown.commitment, index) for index in indexes]
        found = await self._placed.find_custodies(takedown.origin, keys)
        ended = [
            one.with_transfer(one.transfer.release(one.transfer.fragment_hash))
            for one in found.values()
            if one.transfer.state is TransferState.HELD
        ]
        if ended:
            await self._custody.release(ended, takedown=name)
            _log.warning(
                "takedown_enforced",
                origin=str(takedown.origin),
                commitment=takedown.commitment.hex(),
                count=len(ended),
            )


def order_takedown(directory: Path, key: SigningKey, takedown: Takedown) -> bytes:
    """Keep an operator's order, durably; a relay that serves carries it out.

    Returns:
        Its name.
    """
    return TakedownFiles(directory).save(takedown.sign(key))
