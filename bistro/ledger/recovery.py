"""Opening a ledger: lock it, check it, replay what is newer than the last snapshot.

Replaying runs the code of normal operation: the view grows record by record and is published
when due, so memory stays small even where everything must be read anew. Nothing is served
before the root was checked against the log key's signatures and the tail is durable.

Source: docs/spec/storage.md, recovery.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bistro.crypto.digest import EMPTY_ROOT, leaf_hash
from bistro.crypto.merkle import Frontier
from bistro.crypto.signing import Note, VerifierKey
from bistro.errors import FormatError, StorageError, UnknownObjectError
from bistro.ledger.checking import require_signed
from bistro.ledger.index import DuplicateIndex, Reach
from bistro.ledger.parts import Parts
from bistro.ledger.publishing import Boundary, Publisher
from bistro.ledger.record import FileHead, Record
from bistro.ledger.snapshot import Snapshot
from bistro.ledger.tiles import TileFiles
from bistro.ledger.view import NO_TIME, View, load_edges
from bistro.ledger.wal import WriteAheadFile
from bistro.storage.durable import Disk, make_directories
from bistro.storage.locks import FileLock
from bistro.wire.checkpoint import Checkpoint

LOCK_FILE: Final = "lock"
WAL_FILE: Final = "log.wal"
SNAPSHOT_FILE: Final = "snapshot"
INDEX_FILE: Final = "index.sqlite3"

_ROWS_AT_ONCE = 10_000


def recover(directory: Path, *, verifier: VerifierKey, publish_after: int, disk: Disk) -> Parts:
    """Open the ledger in ``directory``, or begin one; blocks.

    Args:
        directory: Made if it is missing.
        verifier: The ledger's key, named as its origin.
        publish_after: How many unpublished entries make publishing due.
        disk: The system calls to use.

    Raises:
        UnavailableError: Another process writes this ledger.
        StorageError: It is damaged, of another origin, or the disk failed.
    """
    make_directories(directory, disk=disk)
    with ExitStack() as undo:
        lock = FileLock.take(directory / LOCK_FILE, what=f"ledger {verifier.name}")
        undo.callback(lock.release)
        snapshot = Snapshot.load(directory / SNAPSHOT_FILE, disk=disk)
        wal = _open_wal(
            directory / WAL_FILE, verifier.name, has_history=snapshot is not None, disk=disk
        )
        undo.callback(wal.close)
        index = DuplicateIndex.open(directory / INDEX_FILE)
        undo.callback(index.close)
        publisher = Publisher(directory / SNAPSHOT_FILE, index, disk=disk)
        start = snapshot or Snapshot(0, 0, 0, wal.first, NO_TIME, b"")
        if start.offset > wal.end:
            raise wal.damaged(wal.end, f"expected at least {start.offset} bytes")
        view = _view_at(start, TileFiles(directory, disk=disk), verifier)
        parts = Parts(lock, wal, index, publisher, view, {})
        _refill(index, wal, start)
        floor = max(start.durable, index.reach.size)
        _replay(parts, start, publish_after, verifier=verifier, floor=floor)
        undo.pop_all()
    return parts


def _open_wal(path: Path, origin: str, *, has_history: bool, disk: Disk) -> WriteAheadFile:
    try:
        wal = WriteAheadFile.open(path, disk=disk)
    except UnknownObjectError as exc:
        if has_history:
            raise StorageError(
                f"{path}: missing, although this ledger has entries",
                hint="restore the file from a copy",
            ) from exc
        # A crash here leaves a folder with a lock in it: beginning again is harmless.
        return WriteAheadFile.create(path, FileHead(origin, 0, EMPTY_ROOT), disk=disk)
    if wal.head != FileHead(origin, 0, EMPTY_ROOT):
        wal.close()
        raise StorageError(f"{path}: expected ledger {origin}, found {wal.head.origin}")
    return wal


def _view_at(start: Snapshot, files: TileFiles, verifier: VerifierKey) -> View:
    """The view at a snapshot, its root taken from the tiles and checked by the signature."""
    edges = load_edges(files, start.published)
    view = View(files, Frontier.empty(), start.published, edges, [], [])
    if start.size == 0:
        return view
    frontier = Frontier.of(start.size, view.node)
    require_signed(start.note, frontier, verifier, what="snapshot")
    return View(
        files, frontier, start.published, edges, [], [], note=start.note, last_time=start.last_time
    )


def _refill(index: DuplicateIndex, wal: WriteAheadFile, start: Snapshot) -> None:
    """Give the index the keys of published entries that it lacks."""
    if index.reach.size >= start.published:
        return
    rows: list[tuple[bytes, int]] = []
    size, offset = index.reach.record_size, index.reach.record_offset or wal.first
    for end, record in wal.records(offset):
        rows += ((item.key, at) for at, item in enumerate(record.items, record.start) if item.key)
        size, offset = record.end, end
        if len(rows) >= _ROWS_AT_ONCE or size >= start.published:
            index.add(rows, Reach(size, size, offset))
            rows.clear()
        if size >= start.published:
            return
    raise wal.damaged(offset, f"it ends at entry {size}, although {start.published} are published")


def _replay(
    parts: Parts, start: Snapshot, publish_after: int, *, verifier: VerifierKey, floor: int
) -> None:
    """Read the records behind the snapshot; then make the last one durable."""
    last = end = start.offset
    parts.publisher.note_boundary(Boundary(start.size, end, start.last_time, start.note))
    for record_end, record in parts.wal.records(start.offset):
        if parts.view.size - parts.view.published >= publish_after:
            # All but the last record are durable: each was synced before the next was written.
            parts.trim()
        parts.view = _extend(parts.view, record, parts.wal, end)
        last, end = end, record_end
        parts.publisher.note_boundary(Boundary(record.end, end, record.last_time, record.note))
        parts.keys.update(_new_keys(parts, record))
    view = parts.view
    if view.size < floor:
        raise parts.wal.damaged(end, f"it ends at entry {view.size}, although {floor} were durable")
    if view.note is not None:
        # The frontier that grew record by record, and the one that the tiles say.
        require_signed(view.note, view.frontier, verifier, what="last record")
        require_signed(view.note, Frontier.of(view.size, view.node), verifier, what="tiles")
    parts.wal.settle(last, end)


def _new_keys(parts: Parts, record: Record) -> Iterator[tuple[bytes, int]]:
    for index, item in enumerate(record.items, record.start):
        if item.key is not None and index >= parts.view.published:
            yield item.key, index


def _extend(view: View, record: Record, wal: WriteAheadFile, offset: int) -> View:
    leaves = [leaf_hash(item.entry) for item in record.items]
    frontier = view.frontier.extend(leaves)
    try:
        checkpoint = Checkpoint.parse(Note.parse(record.note).text)
    except FormatError as exc:
        raise wal.damaged(offset, exc.message) from exc
    if (record.start, checkpoint.size, checkpoint.root) != (
        view.size,
        frontier.size,
        frontier.root(),
    ):
        raise wal.damaged(
            offset, f"entries from {record.start} do not lead to the checkpoint beside them"
        )
    return view.extended(
        frontier=frontier,
        items=record.items,
        leaves=leaves,
        note=record.note,
        last_time=record.last_time,
    )
