"""Checking a ledger from end to end: every hash, signature, time, key, tile and bundle.

Opening a ledger trusts its snapshot; this trusts nothing but the key. It reads the whole
write-ahead file in constant memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bistro.crypto.digest import leaf_hash
from bistro.crypto.merkle import Frontier
from bistro.crypto.signing import VerifierKey
from bistro.errors import FormatError, StorageError, VerificationError
from bistro.ledger.parts import Parts
from bistro.ledger.record import Record, time_of
from bistro.ledger.tiles import WIDTH, TilePath, encode_bundle
from bistro.ledger.view import NO_TIME, View, tile_root
from bistro.wire.checkpoint import verify_checkpoint


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was checked, all of it found right.

    Attributes:
        size: Entries.
        batch_count: Records, each with its signed checkpoint.
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


def check_ledger(parts: Parts, view: View, verifier: VerifierKey) -> CheckReport:
    """Check everything up to ``view``, which the ledger may outgrow meanwhile; blocks.

    Raises:
        StorageError: What is wrong first.
    """
    frontier, last_time, batch_count = Frontier.empty(), NO_TIME, 0
    tiles = _TileCheck(view)
    for record in _records(parts, view.size):
        frontier = frontier.extend([leaf_hash(item.entry) for item in record.items])
        require_signed(record.note, frontier, verifier, what=f"record at entry {record.start}")
        times = [last_time, *(time_of(item.entry) for item in record.items)]
        if times != sorted(times) or times[-1] != record.last_time:
            raise StorageError(f"ledger {verifier.name}: time goes back after {record.start}")
        last_time = times[-1]
        _require_indexed(parts, record)
        for item in record.items:
            tiles.add(item.entry)
        batch_count += 1
    if frontier.size != view.size:
        raise parts.wal.damaged(parts.wal.end, f"it ends at entry {frontier.size}")
    return CheckReport(frontier.size, batch_count, tiles.count, frontier.root())


def _records(parts: Parts, size: int) -> Iterator[Record]:
    if size:
        for _, record in parts.wal.records(parts.wal.first):
            yield record
            if record.end >= size:
                return


def _require_indexed(parts: Parts, record: Record) -> None:
    rows = {item.key: at for at, item in enumerate(record.items, record.start) if item.key}
    recent = {key: at for key in rows if (at := parts.keys.get(key)) is not None}
    known = parts.index.find([key for key in rows if key not in recent]) | recent
    if known != rows or len(rows) != sum(item.key is not None for item in record.items):
        raise StorageError(
            f"the duplicate index does not match the record at entry {record.start}",
            hint="delete the index: it is made anew from the write-ahead file",
        )


class _TileCheck:
    """Compares published tiles and bundles with what the entries say.

    Attributes:
        count: Files compared so far.
    """

    def __init__(self, view: View) -> None:
        self.count = 0
        self._files = view.files.uncached()
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
                self._require_tile(0, number, [leaf_hash(entry) for entry in self._entries])
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
