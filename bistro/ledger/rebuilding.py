"""Making anew what is derived: tiles and the place to start from, and the duplicate index.

From the write-ahead file where it still has the entries, else from the entry bundles, whose
segments were dropped only when they were durable.

Source: docs/spec/storage.md, recovery.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from bistro.crypto.digest import leaf_hash
from bistro.crypto.merkle import root_of
from bistro.errors import FormatError, StorageError
from bistro.ledger.index import DuplicateIndex
from bistro.ledger.publishing import KeyOf, write_tile
from bistro.ledger.record import time_of
from bistro.ledger.snapshot import Snapshot
from bistro.ledger.tiles import WIDTH, TileFiles, TilePath, decode_bundle
from bistro.ledger.view import NO_TIME
from bistro.ledger.wal import WriteAheadFile

_KEYS_AT_ONCE: Final = 65_536
_TILES_AT_ONCE: Final = 64


def rebuild_tiles(files: TileFiles, size: int) -> Snapshot:
    """Write the tiles of the first ``size`` entries anew from their bundles.

    Returns:
        From where to replay; without a signature, which the next record has.

    Raises:
        StorageError: A bundle is missing or damaged, or the disk failed.
    """
    last_time = NO_TIME
    edges: list[list[bytes]] = []
    for number in range(-(-size // WIDTH)):
        entries = read_bundle(files, number)
        leaves = list(map(leaf_hash, entries))
        write_tile(files, number, leaves, root_of(leaves), edges)
        try:
            last_time = time_of(entries[min(size - number * WIDTH, WIDTH) - 1])
        except FormatError as exc:
            raise files.damaged(TilePath("entries", number), exc.message) from exc
        if number % _TILES_AT_ONCE == 0:
            files.sync()
    files.sync()
    return Snapshot(-(-size // WIDTH) * WIDTH, size, size, last_time, b"")


def read_bundle(files: TileFiles, number: int) -> list[bytes]:
    """The 256 entries of a full bundle.

    Raises:
        StorageError: It is missing or damaged, or the disk failed.
    """
    path = TilePath("entries", number)
    data = files.read(path)
    if data is None:
        raise lost_entries(files, path, "missing")
    try:
        entries = list(decode_bundle(data))
    except StorageError as exc:
        raise lost_entries(files, path, exc.message) from exc
    if len(entries) != WIDTH:
        raise lost_entries(files, path, f"expected {WIDTH} entries, found {len(entries)}")
    return entries


def lost_entries(files: TileFiles, path: TilePath, reason: str) -> StorageError:
    """What to raise where a bundle is damaged that may be all that there is of its entries."""
    return StorageError(
        files.damaged(path, reason).message,
        hint="stop serve and run `bistro-server log check --repair`; it makes the file anew if "
        "the write-ahead file has its entries, otherwise restore it from a copy or from whoever "
        "mirrors the log",
    )


def read_verified_bundle(files: TileFiles, number: int) -> list[bytes]:
    """As ``read_bundle``; its entries are those of its tile.

    Raises:
        StorageError: It is missing or damaged, or the disk failed.
    """
    entries = read_bundle(files, number)
    if b"".join(map(leaf_hash, entries)) != files.tile(0, number):
        raise lost_entries(files, TilePath("entries", number), "not what its tile says")
    return entries


def rebuild_index(
    index: DuplicateIndex,
    wal: WriteAheadFile,
    files: TileFiles,
    *,
    published: int,
    key_of: KeyOf | None,
) -> None:
    """Give the index the keys of published entries that it lacks.

    Raises:
        StorageError: They are nowhere, or the disk failed.
    """
    if index.reach >= published:
        return
    keys: list[bytes] = []
    for more in _keys_from(index.reach, wal, files, key_of):
        keys += more
        missing_count = published - index.reach
        if len(keys) >= min(_KEYS_AT_ONCE, missing_count):
            added = keys[:missing_count]
            index.add(added, index.reach + len(added))
            keys.clear()
        if index.reach >= published:
            return
    found = index.reach + len(keys)
    raise wal.damaged(None, f"it ends at entry {found}, although {published} are published")


def _keys_from(
    start: int, wal: WriteAheadFile, files: TileFiles, key_of: KeyOf | None
) -> Iterator[Sequence[bytes]]:
    if start < wal.begins_at:
        if key_of is None:
            raise StorageError(
                f"duplicate index: the keys of entries {start} to {wal.begins_at} are gone",
                hint="restore the index folder from a copy",
            )
        for number in range(start // WIDTH, -(-wal.begins_at // WIDTH)):
            keys = [key_of(entry) or b"" for entry in read_verified_bundle(files, number)]
            begin, end = max(start - number * WIDTH, 0), wal.begins_at - number * WIDTH
            yield keys[begin:end]
        start = wal.begins_at
    for _, record in wal.records(start):
        yield record.keys[max(start - record.start, 0) :]
