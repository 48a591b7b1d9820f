"""Checking a ledger from end to end: every hash, signature, time, key, tile and bundle.

Opening a ledger trusts its snapshot; this trusts nothing but the key. It reads everything once,
in constant memory.

Source: docs/spec/storage.md, recovery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bistro.crypto.digest import leaf_hash
from bistro.crypto.merkle import Frontier
from bistro.crypto.signing import VerifierKey
from bistro.errors import FormatError, StorageError, VerificationError
from bistro.instant import UnixMillis
from bistro.ledger.index_check import IndexCheck
from bistro.ledger.parts import Parts
from bistro.ledger.rebuilding import read_verified_bundle
from bistro.ledger.record import time_of
from bistro.ledger.tiles import WIDTH, TilePath, encode_bundle
from bistro.ledger.view import NO_TIME, View, tile_root
from bistro.wire.checkpoint import verify_checkpoint

Progress = Callable[[int], None]
"""Told how many entries were checked."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was checked, all of it found right.

    Attributes:
        size: Entries.
        batch_count: Records that are still there, each with its signed checkpoint.
        tile_count: Full tiles and bundles.
        root: Root hash of all entries.
    """

    size: int
    batch_count: int
    tile_count: int
    root: bytes


def require_signed(note: bytes, frontier: Frontier, verifier: VerifierKey, *, what: str) -> None:
    """Check that ``note`` is the ledger's signed checkpoint of exactly this tree.

    Raises:
        StorageError: It is not, so that what is on disk cannot be trusted.
    """
    try:
        checkpoint = verify_checkpoint(note, verifier)
    except (FormatError, VerificationError) as exc:
        raise StorageError(f"ledger {verifier.name}, {what}: {exc.message}") from exc
    if (checkpoint.size, checkpoint.root) != (frontier.size, frontier.root()):
        raise StorageError(
            f"ledger {verifier.name}, {what}: signed are {checkpoint.size} entries with root "
            f"{checkpoint.root.hex()}, found are {frontier.size} with {frontier.root().hex()}",
            hint="without the snapshot file all is read anew from the write-ahead file",
        )


def check_ledger(
    parts: Parts, verifier: VerifierKey, progress: Progress | None = None
) -> CheckReport:
    """Check everything that is there now; the ledger may outgrow it meanwhile; blocks.

    Args:
        parts: The ledger.
        verifier: Its key.
        progress: Told how many entries were checked, now and then.

    Raises:
        StorageError: What is wrong first.
    """
    frontier, last_time, batch_count = Frontier.empty(), NO_TIME, 0
    with parts.wal.kept(), parts.index.held() as runs:
        # In this order: the index covers nothing that the view has not.
        view = parts.view
        tiles, index = _TileCheck(view), IndexCheck(parts, runs)
        for batch in _batches(parts, view):
            start = frontier.size
            frontier = frontier.extend(list(map(leaf_hash, batch.entries)))
            if batch.note is not None:
                require_signed(batch.note, frontier, verifier, what=f"record at entry {start}")
                batch_count += 1
            for entry in batch.entries:
                tiles.add(entry)
            times = [last_time, *_times(batch, start, verifier.name)]
            if times != sorted(times) or batch.last_time not in {None, times[-1]}:
                raise StorageError(f"ledger {verifier.name}: time goes back after entry {start}")
            last_time = times[-1]
            index.add(start, batch.keys)
            if progress is not None:
                progress(frontier.size)
        if frontier.size != view.size:
            raise parts.wal.damaged(None, f"the ledger ends at entry {frontier.size}")
        index.finish()
    if view.note is not None:
        require_signed(view.note, frontier, verifier, what="newest checkpoint")
    return CheckReport(frontier.size, batch_count, tiles.count, frontier.root())


class _Batch(NamedTuple):
    """Neighbouring entries; from a bundle there is no note and no last time."""

    entries: Sequence[bytes]
    keys: Sequence[bytes]
    note: bytes | None = None
    last_time: UnixMillis | None = None


def _times(batch: _Batch, start: int, name: str) -> list[UnixMillis]:
    try:
        return list(map(time_of, batch.entries))
    except FormatError as exc:
        raise StorageError(f"ledger {name}, after entry {start}: {exc.message}") from exc


def _batches(parts: Parts, view: View) -> Iterator[_Batch]:
    """All entries: those that the write-ahead file has no more from bundles, then its records."""
    begins_at = parts.wal.begins_at
    if begins_at and parts.key_of is None:
        raise parts.wal.damaged(None, f"entries 0 to {begins_at} are missing")
    for number in range(-(-begins_at // WIDTH)):
        bundle = read_verified_bundle(view.files, number)[: begins_at - number * WIDTH]
        yield _Batch(bundle, [parts.key_of(entry) or b"" for entry in bundle])  # type: ignore[misc]
    if view.size > begins_at:
        expected = begins_at
        for place, record in parts.wal.records(begins_at):
            if record.start != expected:
                reason = f"expected entry {expected}, found {record.start}"
                raise parts.wal.damaged(place, reason)
            expected = record.end
            yield _Batch(record.entries, record.keys, record.note, record.last_time)
            if record.end >= view.size:
                return


class _TileCheck:
    """Compares published tiles and bundles with what the entries say.

    Attributes:
        count: Files compared so far.
    """

    def __init__(self, view: View) -> None:
        self.count = 0
        self._files = view.files
        self._published = view.published
        self._size = 0
        self._entries: list[bytes] = []
        self._levels: list[list[bytes]] = []

    def add(self, entry: bytes) -> None:
        """Take the next entry."""
        self._size += 1
        self._entries.append(entry)
        if len(self._entries) == WIDTH:
            if self._size <= self._published:
                number = self._size // WIDTH - 1
                self._require(
                    TilePath("entries", number),
                    self._files.bundle(number),
                    encode_bundle(self._entries),
                )
                self._require_tile(0, number, list(map(leaf_hash, self._entries)))
            self._entries.clear()

    def _require_tile(self, level: int, number: int, hashes: list[bytes]) -> None:
        tile = b"".join(hashes)
        self._require(TilePath(level, number), self._files.tile(level, number), tile)
        if len(self._levels) == level:
            self._levels.append([])
        above = self._levels[level]
        above.append(tile_root(tile))
        if len(above) == WIDTH:
            self._require_tile(level + 1, number // WIDTH, above)
            above.clear()

    def _require(self, path: TilePath, found: bytes, expected: bytes) -> None:
        if found != expected:
            raise self._files.damaged(path, "it does not match the write-ahead file")
        self.count += 1
