"""Checking a ledger from end to end: every hash, signature, time, key, tile and bundle.

Opening a ledger trusts its snapshot; this trusts nothing but the key. It reads everything once,
in constant memory.

Source: docs/spec/storage.md, recovery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from bistro.crypto.digest import leaf_hash
from bistro.crypto.merkle import Frontier
from bistro.crypto.signing import VerifierKey
from bistro.errors import FormatError, StorageError, VerificationError
from bistro.instant import UnixMillis
from bistro.ledger.index_check import IndexCheck
from bistro.ledger.parts import Parts
from bistro.ledger.publishing import KeyOf
from bistro.ledger.rebuilding import read_bundle
from bistro.ledger.record import time_of
from bistro.ledger.tile_check import TileCheck
from bistro.ledger.tiles import WIDTH, TileFiles
from bistro.ledger.view import NO_TIME
from bistro.ledger.wal import WriteAheadFile
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
    with parts.wal.kept(), parts.index.held() as runs:
        # In this order: the index covers nothing that the view has not.
        view = parts.view
        return check_batches(
            kept_batches(parts.wal, view.files, parts.key_of, size=view.size),
            verifier,
            tiles=TileCheck(view.files, view.published),
            index=IndexCheck(parts.index, runs, size=view.size),
            last=LastNote("newest checkpoint", view.note) if view.note else None,
            require_end=partial(_require_end, parts),
            progress=progress,
        )


def _require_end(parts: Parts, size: int) -> None:
    if size != parts.view.size:
        raise parts.wal.damaged(None, f"the ledger ends at entry {size}")


class LastNote(NamedTuple):
    """The signed checkpoint of all entries.

    Attributes:
        what: It is, for people.
        note: Itself.
    """

    what: str
    note: bytes


def check_batches(  # noqa: PLR0913 - each of them is looked at
    batches: Iterable[Batch],
    verifier: VerifierKey,
    *,
    tiles: TileCheck,
    index: IndexCheck,
    last: LastNote | None,
    require_end: Callable[[int], None],
    progress: Progress | None,
) -> CheckReport:
    """Check all entries of a ledger, in order, once; blocks.

    Args:
        batches: The entries.
        verifier: The ledger's key.
        tiles: Compares them with what is published.
        index: Compares their keys.
        last: What must be signed of all of them.
        require_end: Raises where that many entries are not as many as there must be.
        progress: Told how many entries were checked, now and then.

    Raises:
        StorageError: What is wrong first.
    """
    frontier, last_time, batch_count = Frontier.empty(), NO_TIME, 0
    for batch in batches:
        start = frontier.size
        frontier = frontier.extend(list(map(leaf_hash, batch.entries)))
        if batch.note is not None:
            # Of the record before this one the tiles know already.
            with tiles.judging():
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
    # A log that ends too early first: its index then has keys too many, which is no fault.
    require_end(frontier.size)
    if last is not None:
        with tiles.judging():
            require_signed(last.note, frontier, verifier, what=last.what)
    tiles.finish()
    index.finish()
    return CheckReport(frontier.size, batch_count, tiles.count, frontier.root())


class Batch(NamedTuple):
    """Neighbouring entries; from a bundle there is no note and no last time."""

    entries: Sequence[bytes]
    keys: Sequence[bytes]
    note: bytes | None = None
    last_time: UnixMillis | None = None


def _times(batch: Batch, start: int, name: str) -> list[UnixMillis]:
    try:
        return list(map(time_of, batch.entries))
    except FormatError as exc:
        raise StorageError(f"ledger {name}, after entry {start}: {exc.message}") from exc


def kept_batches(
    wal: WriteAheadFile, files: TileFiles, key_of: KeyOf | None, *, size: int | None = None
) -> Iterator[Batch]:
    """All entries: those that the write-ahead file has no more from bundles, then its records.

    Args:
        wal: The write-ahead file.
        files: The bundles.
        key_of: Makes keys anew.
        size: How many entries there are; ``None``: as many as are found.

    Raises:
        StorageError: Something is missing or damaged.
    """
    begins_at = wal.begins_at
    if begins_at and key_of is None:
        raise wal.damaged(None, f"entries 0 to {begins_at} are missing")
    if key_of is not None:
        yield from bundled_batches(files, key_of, size=begins_at)
    if size is None or size > begins_at:
        expected = begins_at
        for place, record in wal.records(begins_at):
            if record.start != expected:
                reason = f"expected entry {expected}, found {record.start}"
                raise wal.damaged(place, reason)
            expected = record.end
            yield Batch(record.entries, record.keys, record.note, record.last_time)
            if size is not None and record.end >= size:
                return


def bundled_batches(files: TileFiles, key_of: KeyOf, *, size: int) -> Iterator[Batch]:
    """The first ``size`` entries, from full bundles.

    Raises:
        StorageError: A bundle is missing or damaged.
    """
    for number in range(-(-size // WIDTH)):
        bundle = read_bundle(files, number)[: size - number * WIDTH]
        yield Batch(bundle, [key_of(entry) or b"" for entry in bundle])
