"""One ledger, open for appending: the only thing in a process that may write to it.

Appending is all or stop: once a write or sync has failed, nobody knows what the medium holds,
so this object never appends again. Reading goes on. Opening the ledger again finds out.

Source: docs/spec/promises.md, rules of a ledger; docs/spec/storage.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, Self, TypeVar

from bistro.crypto.bulk import leaf_hashes
from bistro.crypto.merkle import BatchTree
from bistro.crypto.signing import Signer, VerifierKey
from bistro.errors import UnavailableError
from bistro.instant import UnixMillis
from bistro.ledger.appended import Appended, Stamped
from bistro.ledger.checking import CheckReport, Progress, check_ledger
from bistro.ledger.parts import Parts
from bistro.ledger.proofs import CheckpointSpeller, ProofTexts, prove_entry
from bistro.ledger.publishing import Boundary, KeyOf
from bistro.ledger.record import encode_record
from bistro.ledger.recovery import recover
from bistro.ledger.static import StaticLog
from bistro.ledger.tiles import TILE_LEVEL, WIDTH, TilePath
from bistro.ledger.view import NewEntries, View
from bistro.ledger.writer import WalWriter
from bistro.storage.background import background_thread
from bistro.storage.durable import SYSTEM_DISK, Disk, waiting_for_room
from bistro.storage.finishing import finish

T = TypeVar("T")

PUBLISH_AFTER: Final = 16_384
"""Unpublished entries that make a pass due: 128 files share its syncs."""

_ROOM_PAUSE_S: Final = 0.5
"""How long a pass waits that found the disk full."""

_PUBLISHING_NICENESS: Final = 6
"""A fifth of a core while tickets want it: it must keep up with them at saturation."""

_MAX_BACKLOG: Final = 4
"""How many times ``publish_after`` may be unpublished before appending waits for a pass."""


class Ledger:
    """An append-only log; obtained from ``open``, given back by ``close``.

    Attributes:
        directory: Where it lies; ``tile`` below it may be served as it is.
        verifier: Its key, named as its origin.
    """

    def __init__(
        self, static: StaticLog, parts: Parts, *, signer: Signer, publish_after: int
    ) -> None:
        self.directory = static.directory
        self.verifier: VerifierKey = signer.verifier
        self._parts = parts
        self._signer = signer
        self._speller = CheckpointSpeller(signer.verifier)
        self._publish_after = publish_after
        self._failure: str | None = None
        self._appending = asyncio.Lock()
        self._publishing = asyncio.Lock()
        self._is_due = asyncio.Event()
        self._writer = WalWriter(parts.wal)
        self._background = background_thread("publishing", niceness=_PUBLISHING_NICENESS)
        self._static = static

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        signer: Signer,
        disk: Disk = SYSTEM_DISK,
        publish_after: int = PUBLISH_AFTER,
        key_of: KeyOf | None = None,
        anew: bool = False,
    ) -> Self:
        """Open the ledger in ``directory``, or begin one, after checking what is there.

        Args:
            directory: Made if it is missing.
            signer: Signs checkpoints; the name of its key is the ledger's origin.
            disk: The system calls to use.
            publish_after: Unpublished entries that make publishing due, at least 256.
            key_of: Makes an entry's key anew; without it the write-ahead file is kept for ever.
            anew: Make what is derived from the entries anew; it is complete when published.

        Raises:
            UnavailableError: Another process, or this one, has it open.
            StorageError: It is damaged, has another origin or key, or the disk failed.
        """
        opening = asyncio.to_thread(
            partial(recover, publish_after=publish_after, key_of=key_of, disk=disk, anew=anew),
            directory,
            verifier=signer.verifier,
        )
        static, parts = StaticLog(directory, disk=disk, anew=anew), await opening
        ledger = cls(static, parts, signer=signer, publish_after=publish_after)
        ledger._set_due()
        return ledger

    @property
    def origin(self) -> str:
        """What the ledger is called in checkpoints and entries."""
        return self.verifier.name

    @property
    def size(self) -> int:
        """Number of durable entries."""
        return self._parts.view.size

    @property
    def last_time(self) -> UnixMillis:
        """Time of the last entry, or 0."""
        return self._parts.view.last_time

    @property
    def failure(self) -> str | None:
        """Why nothing more can be appended, or ``None``."""
        return self._failure

    def checkpoint(self) -> bytes | None:
        """The newest signed checkpoint, durable; ``None`` while the ledger is empty."""
        return self._parts.view.note

    async def append(
        self,
        keys: list[bytes],
        entries: list[bytes],
        *,
        last_time: UnixMillis,
        prepare: Callable[[Stamped], None] | None = None,
    ) -> Stamped:
        """Append a batch and return the place of each entry once all are durable.

        Only ``Sequencer`` calls this: it sees to times and uniqueness, and that what has begun
        is not cancelled.

        Args:
            keys: What each entry is unique by; empty where it is not.
            entries: At least one.
            last_time: The time that stands in the last one.
            prepare: Told what will be returned while it becomes durable; must not let any of it
                out, and raise nothing.

        Raises:
            StorageError: The batch may or may not last; the ledger has stopped.
            UnavailableError: It had stopped before, or the signer cannot be used now, or the
                disk is full; nothing was written.
        """
        if self._unpublished_count() >= _MAX_BACKLOG * self._publish_after:
            # Publishing has fallen behind; without this wait memory would grow with the load.
            await self.publish(at_most=self._publish_after)
        async with self._appending:
            return await self._append(keys, entries, last_time, prepare)

    async def _append(
        self,
        keys: list[bytes],
        entries: list[bytes],
        last_time: UnixMillis,
        prepare: Callable[[Stamped], None] | None,
    ) -> Stamped:
        self._require_running()
        view = self._parts.view
        leaves = leaf_hashes(entries)
        tree = BatchTree(view.frontier, leaves)
        text = self._speller.text(tree.size, tree.root)
        # Nothing signed here leaves before the sync below has returned.
        (signature,) = await self._signer.sign([text])
        note = self._speller.signed(text, signature)
        written = self._writer.write(
            encode_record(view.size, last_time, note, keys, entries), view.size
        )
        stamped = Stamped(view.size, entries, ProofTexts(entries, view.size, tree.levels, note))
        try:
            if prepare is not None:
                prepare(stamped)
            await written
        except BaseException as exc:
            is_full = isinstance(exc, UnavailableError)
            # On a full disk nothing was written, and the next batch may find room.
            if not (is_full and written.done() and written.exception() is exc):
                self._failure = str(exc) or type(exc).__name__
            raise
        # A crash from here on loses nothing: a restart finds the record and its entries.
        batch = NewEntries(entries, keys, leaves, tree.completed_at(TILE_LEVEL))
        self._extend(tree, batch, note, last_time)
        return stamped

    def _extend(
        self, tree: BatchTree, batch: NewEntries, note: bytes, last_time: UnixMillis
    ) -> None:
        parts = self._parts
        start = parts.view.size
        parts.view = parts.view.extended(
            batch=batch, frontier=tree.frontier, note=note, last_time=last_time
        )
        parts.keys.update(zip(batch.keys, range(start, tree.size), strict=True))
        parts.keys.pop(b"", None)
        parts.publisher.note_boundary(Boundary(tree.size, last_time, note))
        self._set_due()

    def _require_running(self) -> None:
        if self._failure is not None:
            raise UnavailableError(
                f"ledger {self.origin} has stopped: {self._failure}",
                hint="the operator must start it again; asking again then is harmless",
            )

    async def lookup(self, keys: list[bytes]) -> dict[bytes, int]:
        """The index of the entry of each key that is known.

        Raises:
            StorageError: The disk failed.
        """
        recent, found, older = self._parts.keys, dict[bytes, int](), keys
        if not recent.keys().isdisjoint(keys):
            found = {key: recent[key] for key in keys if key in recent}
            older = [key for key in keys if key not in found]
        suspects = self._parts.index.suspects(older)
        if suspects:
            found |= await asyncio.to_thread(self._parts.index.find, suspects)
        return found

    async def find(self, key: bytes) -> Appended | None:
        """The entry that has ``key``, proven to the newest checkpoint, or ``None``.

        Raises:
            StorageError: A file is missing or damaged, or the disk failed.
        """
        found = await self.lookup([key])
        return await self.prove(found[key]) if key in found else None

    async def prove(self, index: int, *, note: bytes | None = None) -> Appended:
        """The entry ``index``, proven to the newest checkpoint, or to an older one.

        Args:
            index: Of the entry.
            note: A signed checkpoint of this ledger that covers it; the newest if not given.

        Raises:
            UnknownObjectError: There is no such entry, or no such checkpoint.
            StorageError: A file is missing or damaged, or the disk failed.
        """
        entry, proof = await asyncio.to_thread(prove_entry, self._parts.view, index, note)
        return Appended(index, entry, proof, is_duplicate=True)

    async def prove_consistency(self, old_size: int, size: int | None = None) -> tuple[bytes, ...]:
        """The path between two sizes; the newest size where ``size`` is not given.

        Raises:
            UnknownObjectError: The ledger has not had these sizes, in this order.
            StorageError: A file is missing or damaged, or the disk failed.
        """
        view = self._parts.view
        return await asyncio.to_thread(
            view.consistency_path, old_size, view.size if size is None else size
        )

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Entries from ``start`` to the end, or up to ``stop``; constant memory, blocks.

        Raises:
            UnknownObjectError: There are no such entries.
            StorageError: A file is missing or damaged, or the disk failed.
        """
        view = self._parts.view
        return view.entries(start, view.size if stop is None else stop)

    async def tile(self, path: str) -> bytes:
        """What tlog-tiles has at ``path``, such as ``tile/0/000`` or ``tile/entries/x001/234.p/5``.

        Raises:
            UnknownObjectError: No such tile, or the ledger is too small for it.
            StorageError: A file is missing or damaged, or the disk failed.
        """
        return await asyncio.to_thread(self._parts.view.tile, TilePath.parse(path))

    async def check(self, progress: Progress | None = None) -> CheckReport:
        """Hash and compare everything that is on disk; appending may go on meanwhile.

        Args:
            progress: Told in another thread how many entries were checked.

        Raises:
            StorageError: What is wrong first, with file and place.
        """
        return await asyncio.to_thread(check_ledger, self._parts, self.verifier, progress)

    def _unpublished_count(self) -> int:
        return self._parts.view.size - self._parts.view.published

    def _set_due(self) -> None:
        if self._unpublished_count() >= self._publish_after:
            self._is_due.set()

    async def publish(self, *, at_most: int | None = None) -> None:
        """Write complete tiles and bundles, of ``at_most`` entries or all; durable when it returns.

        Raises:
            UnavailableError: The disk is full; nothing is lost.
            StorageError: The disk failed; nothing is lost.
        """
        async with self._publishing:
            await finish(self._publish(at_most))

    async def _publish(self, at_most: int | None = None) -> None:
        parts = self._parts
        complete = parts.view.size - parts.view.size % WIDTH
        target = min(complete, parts.view.published + (at_most or complete))
        while True:
            with waiting_for_room(f"ledger {self.origin}"):
                done = await self._in_background(parts.publisher.publish, parts.view)
            # Back in the loop: the view may have grown meanwhile, and only this loop changes it.
            parts.view = parts.view.trimmed(done.published, done.edges)
            for key in done.keys:
                parts.keys.pop(key, None)
            if done.published >= target:
                return

    async def _in_background(self, work: Callable[[View], T], view: View) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._background, work, view)

    async def publish_checkpoint(self) -> bool:
        """Publish the newest checkpoint with all its tiles as files; whether there was a new one.

        Raises:
            UnavailableError: The disk is full; the old checkpoint or the new one is published.
            StorageError: The disk failed; the old checkpoint or the new one is published.
        """
        async with self._publishing:
            # The view keeps what its partial tiles need, however far the ledger goes meanwhile.
            view = self._parts.view
            if view.published < view.size - view.size % WIDTH:
                await finish(self._publish())
            with waiting_for_room(f"ledger {self.origin}"):
                return await finish(self._in_background(self._static.publish, view))

    async def run_publisher(self) -> None:
        """Publish whenever it is due; never returns.

        Raises:
            StorageError: The disk failed.
        """
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            try:
                await self.publish()
            except UnavailableError:
                # Appending goes on while memory has room, and then waits for this.
                self._is_due.set()
                await asyncio.sleep(_ROOM_PAUSE_S)

    async def close(self) -> None:
        """Give everything back after what is under way; a second call does nothing."""
        async with self._appending, self._publishing:
            self._failure = self._failure or "it was closed"
            await finish(asyncio.to_thread(self._give_back))

    def _give_back(self) -> None:
        self._writer.close()
        self._background.shutdown()
        self._parts.close()
