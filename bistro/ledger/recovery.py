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

from bistro.crypto.digest import leaf_hash
from bistro.crypto.merkle import BatchTree, Frontier
from bistro.crypto.signing import Note, VerifierKey
from bistro.errors import FormatError, StorageError, UnknownObjectError
from bistro.ledger.checking import require_signed
from bistro.ledger.index import DuplicateIndex
from bistro.ledger.parts import Parts
from bistro.ledger.publishing import PASS_LIMIT, Boundary, KeyOf, Publisher
from bistro.ledger.rebuilding import rebuild_index, rebuild_tiles
from bistro.ledger.record import Record
from bistro.ledger.segments import Place
from bistro.ledger.snapshot import Snapshot
from bistro.ledger.tiles import TILE_LEVEL, TileFiles
from bistro.ledger.view import NewEntries, View, load_edges
from bistro.ledger.wal import WriteAheadFile
from bistro.storage.durable import Disk, make_directories, sync_directory
from bistro.storage.locks import FileLock
from bistro.wire.checkpoint import Checkpoint

LOCK_FILE: Final = "lock"
WAL_FOLDER: Final = "wal"
SNAPSHOT_FILE: Final = "snapshot"
INDEX_FOLDER: Final = "index"


def recover(
    directory: Path,
    *,
    verifier: VerifierKey,
    publish_after: int,
    key_of: KeyOf | None,
    disk: Disk,
    anew: bool = False,
) -> Parts:
    """Open the ledger in ``directory``, or begin one; blocks.

    Args:
        directory: Made if it is missing.
        verifier: The ledger's key, named as its origin.
        publish_after: How many unpublished entries make publishing due.
        key_of: Makes keys anew; see ``Publisher``.
        disk: The system calls to use.
        anew: Make the tiles and the snapshot anew from the entries, whatever is there.

    Raises:
        UnavailableError: Another process writes this ledger.
        StorageError: It is damaged, of another origin, or the disk failed.
    """
    make_directories(directory, disk=disk)
    with ExitStack() as undo:
        lock = FileLock.take(directory / LOCK_FILE, what=f"ledger {verifier.name}")
        undo.callback(lock.release)
        for folder in (directory.parent, directory):
            # Who made what is found there may have died before it was durable.
            sync_directory(folder, disk=disk)
        snapshot = _load_snapshot(directory / SNAPSHOT_FILE, anew=anew, disk=disk)
        wal = _open_wal(
            directory / WAL_FOLDER,
            verifier.name,
            has_history=anew or snapshot is not None,
            disk=disk,
        )
        undo.callback(wal.close)
        index = DuplicateIndex.open(directory / INDEX_FOLDER, disk=disk)
        undo.callback(index.close)
        files = TileFiles(directory, disk=disk)
        start = snapshot
        if start is None or anew:
            # A crash here leaves the snapshot as it was, and tiles that are at least as good.
            start = rebuild_tiles(files, wal.begins_at)
        files.clean(start.published, PASS_LIMIT)
        if start.size < wal.begins_at:
            raise wal.damaged(None, f"it begins behind entry {start.size}, which is needed")
        view = _view_at(start, files, verifier)
        rebuild_index(index, wal, files, published=start.published, key_of=key_of)
        publisher = Publisher(directory / SNAPSHOT_FILE, index, wal, key_of=key_of, disk=disk)
        parts = Parts(lock, wal, index, publisher, view, {}, key_of)
        floor = max(start.durable, index.reach, snapshot.durable if snapshot else 0)
        _replay(parts, start, publish_after, verifier=verifier, floor=floor)
        undo.pop_all()
    return parts


def _load_snapshot(path: Path, *, anew: bool, disk: Disk) -> Snapshot | None:
    try:
        return Snapshot.load(path, disk=disk)
    except StorageError:
        if not anew:
            raise
        return None  # it is replaced when the tiles are there


def _open_wal(directory: Path, origin: str, *, has_history: bool, disk: Disk) -> WriteAheadFile:
    try:
        return WriteAheadFile.open(directory, origin, disk=disk)
    except UnknownObjectError as exc:
        if has_history:
            raise StorageError(
                f"{directory}: no segments, although this ledger has entries",
                hint="restore the folder from a copy",
            ) from exc
        # A crash here leaves a folder with a lock in it: beginning again is harmless.
        return WriteAheadFile.create(directory, origin, disk=disk)


def _view_at(start: Snapshot, files: TileFiles, verifier: VerifierKey) -> View:
    """The view at a snapshot, its root taken from the tiles and checked by the signature."""
    view = View(files, Frontier.empty(), start.published, load_edges(files, start.published))
    if start.size == 0:
        return view
    frontier = Frontier.of(start.size, view.node)
    if start.note:
        require_signed(start.note, frontier, verifier, what="snapshot")
    # Without a note it was made anew from bundles: the next record's root covers them.
    return View(
        files,
        frontier,
        start.published,
        view.edges,
        note=start.note,
        last_time=start.last_time,
    )


def _replay(
    parts: Parts, start: Snapshot, publish_after: int, *, verifier: VerifierKey, floor: int
) -> None:
    """Read the records behind the snapshot; then make the last one durable."""
    last: Place | None = None
    parts.publisher.note_boundary(Boundary(start.size, start.last_time, start.note))
    for place, record in parts.wal.records(max(start.size - 1, 0)):
        last = place
        if record.end <= start.size:
            continue
        if parts.view.size - parts.view.published >= publish_after:
            # All but the last record are durable: each was synced before the next was written.
            parts.trim()
        parts.view = _extend(parts.view, record, parts.wal, place)
        parts.publisher.note_boundary(Boundary(record.end, record.last_time, record.note))
        parts.keys.update(_new_keys(parts, record))
    view = parts.view
    if view.size < floor:
        reason = f"it ends at entry {view.size}, although {floor} were durable"
        raise parts.wal.damaged(last, reason)
    if view.note is not None:
        # The frontier that grew record by record, and the one that the tiles say.
        require_signed(view.note, view.frontier, verifier, what="last record")
        require_signed(view.note, Frontier.of(view.size, view.node), verifier, what="tiles")
    parts.wal.settle(last)


def _new_keys(parts: Parts, record: Record) -> Iterator[tuple[bytes, int]]:
    for index, key in enumerate(record.keys, record.start):
        if key and index >= parts.view.published:
            yield key, index


def _extend(view: View, record: Record, wal: WriteAheadFile, place: Place) -> View:
    leaves = list(map(leaf_hash, record.entries))
    tree = BatchTree(view.frontier, leaves)
    try:
        checkpoint = Checkpoint.parse(Note.parse(record.note).text)
    except FormatError as exc:
        raise wal.damaged(place, exc.message) from exc
    if (record.start, checkpoint.size, checkpoint.root) != (view.size, tree.size, tree.root):
        raise wal.damaged(
            place, f"entries from {record.start} do not lead to the checkpoint beside them"
        )
    batch = NewEntries(record.entries, record.keys, leaves, tree.completed_at(TILE_LEVEL))
    return view.extended(
        batch=batch, frontier=tree.frontier, note=record.note, last_time=record.last_time
    )
