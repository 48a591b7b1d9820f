"""Looking at a ledger's folder without changing anything, also while a process writes there.

| who has the lock | what is looked at |
|---|---|
| nobody, so it is taken meanwhile | everything: bundles, write-ahead file, tiles, index, snapshot |
| another process | what it has published: checkpoint, bundles, tiles, and the index for these |

What another process publishes is there as a whole before its checkpoint is, and stays; only
runs of the index are merged meanwhile. Its write-ahead file changes at any moment, so what stands
there behind the published checkpoint cannot be judged from outside.

Source: docs/spec/storage.md, recovery; docs/spec/commands.md, ``log check``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from bistro.crypto.merkle import Frontier
from bistro.crypto.signing import VerifierKey
from bistro.errors import (
    FormatError,
    StorageError,
    UnavailableError,
    UnknownObjectError,
    VerificationError,
)
from bistro.ledger.checking import (
    Batch,
    CheckReport,
    LastNote,
    Progress,
    bundled_batches,
    check_batches,
    kept_batches,
)
from bistro.ledger.index import DuplicateIndex
from bistro.ledger.index_check import IndexCheck
from bistro.ledger.publishing import KeyOf
from bistro.ledger.rebuilding import lost_entries
from bistro.ledger.record import MAX_NOTE_SIZE
from bistro.ledger.recovery import INDEX_FOLDER, LOCK_FILE, SNAPSHOT_FILE, WAL_FOLDER
from bistro.ledger.snapshot import Snapshot
from bistro.ledger.static import CHECKPOINT_FILE
from bistro.ledger.tile_check import MEND, EntriesHoldError, TileCheck
from bistro.ledger.tiles import WIDTH, TileFiles, TilePath, decode_bundle
from bistro.ledger.wal import WriteAheadFile, segment_starts
from bistro.storage.durable import read_file
from bistro.storage.locks import FileLock
from bistro.wire.checkpoint import Checkpoint, verify_checkpoint

Show = Callable[[int, int], None]

_TRIES: Final = 10
_EMPTY: Final = CheckReport(0, 0, 0, Frontier.empty().root())


@dataclass(frozen=True, slots=True)
class Inspection:
    """A ledger in which everything is right that was looked at.

    Attributes:
        report: What was checked.
        is_whole: Whether that is all; otherwise another process writes the ledger, and what it
            has published was checked.
    """

    report: CheckReport
    is_whole: bool


@dataclass(frozen=True, slots=True)
class _Folder:
    directory: Path
    verifier: VerifierKey
    key_of: KeyOf
    show: Show | None

    def telling(self, expected: int) -> Progress | None:
        """Tells how far it is, where about so many entries are expected."""
        if (show := self.show) is None:
            return None
        return lambda done: show(done, max(done, expected))

    @property
    def files(self) -> TileFiles:
        return TileFiles(self.directory)


def inspect_ledger(
    directory: Path, *, verifier: VerifierKey, key_of: KeyOf, show: Show | None = None
) -> Inspection:
    """Check the ledger in ``directory`` as it lies there; blocks.

    Args:
        directory: The ledger's folder.
        verifier: Its key, all that is trusted.
        key_of: Makes an entry's key.
        show: Told now and then how many entries were checked, and of how many.

    Raises:
        StorageError: What is wrong first, with file and place; or the disk failed.
    """
    folder = _Folder(directory, verifier, key_of, show)
    try:
        lock = FileLock.take(directory / LOCK_FILE, what=f"ledger {verifier.name}")
    except UnavailableError:
        return Inspection(_inspect_published(folder), is_whole=False)
    try:
        return Inspection(_inspect_whole(folder), is_whole=True)
    finally:
        lock.release()


def _inspect_whole(folder: _Folder) -> CheckReport:
    directory, origin = folder.directory, folder.verifier.name
    snapshot, fault = _snapshot(directory / SNAPSHOT_FILE)
    announced = _announced(folder)
    starts = segment_starts(directory / WAL_FOLDER)
    if not starts and snapshot is None and fault is None and announced is None:
        return _EMPTY
    wal = WriteAheadFile(directory / WAL_FOLDER, origin, starts or [0])
    if not starts:
        raise wal.damaged(None, "there are no segments, although this ledger has entries")
    published, durable = (snapshot.published, snapshot.durable) if snapshot else (0, 0)
    shown = announced[1].size if announced else 0
    published = max(published, shown - shown % WIDTH)
    with closing(_index(folder)) as index, index.held() as runs:
        durable = max(durable, shown, index.reach)

        def require_end(size: int) -> None:
            if size < durable:
                raise wal.damaged(None, f"it ends at entry {size}, although {durable} were durable")
            _require_reach(folder, index.reach, published)

        report = check_batches(
            kept_batches(wal, folder.files, folder.key_of),
            folder.verifier,
            tiles=TileCheck(folder.files, published, shown),
            index=IndexCheck(index, runs, size=None),
            last=None,
            require_end=require_end,
            progress=folder.telling(durable),
        )
    if fault is not None:
        raise StorageError(fault.message, hint=MEND) from EntriesHoldError()
    return report


def _snapshot(path: Path) -> tuple[Snapshot | None, StorageError | None]:
    """The snapshot, or what is wrong with it: the entries are looked at all the same."""
    try:
        return Snapshot.load(path), None
    except StorageError as exc:
        return None, exc


def _require_reach(folder: _Folder, reach: int, published: int) -> None:
    if reach < published:
        raise StorageError(
            f"{folder.directory / INDEX_FOLDER}: it ends at entry {reach}, "
            f"{published} are published",
            hint="the rest is made anew from the entries when the ledger is opened",
        )


def _inspect_published(folder: _Folder) -> CheckReport:
    announced = _announced(folder)
    if announced is None:
        return _EMPTY
    note, checkpoint = announced
    size = checkpoint.size
    # Before the index: it never covers less than a snapshot that is there already.
    snapshot = Snapshot.load(folder.directory / SNAPSHOT_FILE)
    with closing(_index(folder)) as index, index.held() as runs:
        _require_reach(folder, index.reach, snapshot.published if snapshot else 0)
        return check_batches(
            _published_batches(folder, size),
            folder.verifier,
            tiles=TileCheck(folder.files, size - size % WIDTH, size),
            index=IndexCheck(index, runs, size=size),
            last=LastNote("published checkpoint", note),
            require_end=lambda _: None,
            progress=folder.telling(size),
        )


def _announced(folder: _Folder) -> tuple[bytes, Checkpoint] | None:
    """The published checkpoint, if there is one."""
    path = folder.directory / CHECKPOINT_FILE
    note = read_file(path, max_size=MAX_NOTE_SIZE)
    if note is None:
        return None
    try:
        return note, verify_checkpoint(note, folder.verifier)
    except (FormatError, VerificationError) as exc:
        raise StorageError(
            f"{path}: {exc.message}",
            hint="compare it with what mirrors have; without this file the newest checkpoint is "
            "published again when serve starts",
        ) from exc


def _published_batches(folder: _Folder, size: int) -> Iterator[Batch]:
    full = size - size % WIDTH
    return chain(
        bundled_batches(folder.files, folder.key_of, size=full),
        _rest(folder, TilePath("entries", full // WIDTH, size - full)) if size > full else (),
    )


def _rest(folder: _Folder, path: TilePath) -> Iterator[Batch]:
    """The entries behind the last full bundle."""
    data = folder.files.read(path)
    if data is None:
        # It goes once the bundle has become full, which may be now.
        data = folder.files.read(TilePath(path.level, path.number))
    if data is None:
        raise lost_entries(folder.files, path, "missing")
    try:
        entries = list(decode_bundle(data))[: path.width]
    except StorageError as exc:
        raise lost_entries(folder.files, path, exc.message) from exc
    if len(entries) != path.width:
        reason = f"expected {path.width} entries, found {len(entries)}"
        raise lost_entries(folder.files, path, reason)
    yield Batch(entries, [folder.key_of(entry) or b"" for entry in entries])


def _index(folder: _Folder) -> DuplicateIndex:
    for _ in range(_TRIES):
        try:
            return DuplicateIndex.look(folder.directory / INDEX_FOLDER)
        except UnknownObjectError:
            # A run was merged between seeing its name and opening it.
            continue
    raise UnavailableError(
        f"ledger {folder.verifier.name}: its index changes faster than it can be read",
        hint="run the same command again, later",
    )
