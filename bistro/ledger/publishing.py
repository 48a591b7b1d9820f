"""Publishing: full tiles and bundles to files, keys to the index, then the snapshot.

The order makes every crash harmless. Tiles and bundles are written first; found again after a
crash they are written again, byte for byte the same. The index follows, then the snapshot,
which alone makes a restart rely on both. Only then are segments of the write-ahead file
dropped that hold nothing else, and a ledger's memory is trimmed last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from bistro.instant import UnixMillis
from bistro.ledger.index import DuplicateIndex
from bistro.ledger.snapshot import Snapshot
from bistro.ledger.tiles import WIDTH, TileFiles, TilePath, encode_bundle
from bistro.ledger.view import Edges, View, tile_root
from bistro.ledger.wal import WriteAheadFile
from bistro.storage.durable import SYSTEM_DISK, Disk

KeyOf = Callable[[bytes], bytes | None]
"""Makes an entry's key anew from the entry."""

PASS_LIMIT: Final = 16_384
"""Entries of one pass at most: sorting their keys holds the interpreter for some milliseconds."""


class Boundary(NamedTuple):
    """Where one record ends and the next begins.

    Attributes:
        size: Entries before it.
        last_time: Time of the entry before it; 0 if there is none.
        note: The signed checkpoint of ``size``; empty at size 0.
    """

    size: int
    last_time: UnixMillis
    note: bytes


@dataclass(frozen=True, slots=True)
class Published:
    """What a pass achieved.

    Attributes:
        published: Entries in full tiles now.
        edges: The right edges at that size.
        keys: Keys that the index holds now and memory need not.
    """

    published: int
    edges: Edges
    keys: list[bytes]


class Publisher:
    """Writes what has become complete; one pass at a time, in any thread.

    Args:
        snapshot_path: Where the snapshot lies.
        index: The duplicate index.
        wal: The write-ahead file; what is published is dropped from it.
        key_of: Makes keys anew; without it nothing is dropped, because a lost index could
            not be made anew from the bundles.
        disk: The system calls to use.
    """

    def __init__(
        self,
        snapshot_path: Path,
        index: DuplicateIndex,
        wal: WriteAheadFile,
        *,
        key_of: KeyOf | None,
        disk: Disk = SYSTEM_DISK,
    ) -> None:
        self._snapshot_path = snapshot_path
        self._index = index
        self._wal = wal
        self._key_of = key_of
        self._disk = disk
        self._boundaries: deque[Boundary] = deque()

    def note_boundary(self, boundary: Boundary) -> None:
        """Remember a record boundary; in order, each once."""
        self._boundaries.append(boundary)

    def publish(self, view: View) -> Published:
        """Write what is complete in ``view``, up to a limit; returns when it is durable.

        Raises:
            StorageError: The disk failed; a later pass or a restart repeats it.
        """
        target = min(view.size - view.size % WIDTH, view.published + PASS_LIMIT)
        edges = [list(edge) for edge in view.edges]
        try:
            _write_tiles(view, target, edges)
        finally:
            view.files.abandon()
        boundary = self._latest_boundary(target)
        keys = view.keys[: target - view.published]
        if target > self._index.reach:
            self._index.add(keys[self._index.reach - target :], target)
        Snapshot(target, view.size, *boundary).save(self._snapshot_path, disk=self._disk)
        if self._key_of is not None:
            self._wal.drop(boundary.size)
        return Published(target, tuple(map(tuple, edges)), [key for key in keys if key])

    def _latest_boundary(self, published: int) -> Boundary:
        """The last boundary at or before ``published``; older ones are forgotten."""
        while len(self._boundaries) > 1 and self._boundaries[1].size <= published:
            self._boundaries.popleft()
        return self._boundaries[0]


def _write_tiles(view: View, target: int, edges: list[list[bytes]]) -> None:
    """Write the tiles and bundles up to ``target``; moves ``edges`` on."""
    for begin in range(view.published, target, WIDTH):
        at = begin - view.published
        bundle = encode_bundle(view.data[at : at + WIDTH])
        view.files.write(TilePath("entries", begin // WIDTH), bundle)
        leaves, root = view.leaves[at : at + WIDTH], view.tile_roots[at // WIDTH]
        write_tile(view.files, begin // WIDTH, leaves, root, edges)
    view.files.sync()


def write_tile(
    files: TileFiles,
    number: int,
    hashes: Sequence[bytes],
    root: bytes,
    edges: list[list[bytes]],
    *,
    level: int = 0,
) -> None:
    """Write a full tile, and those above that it completes.

    Args:
        files: Where to.
        number: Which tile of its level.
        hashes: Its 256 hashes.
        root: The hash over them.
        edges: The right edges before; they are moved on.
        level: Its level.
    """
    files.write(TilePath(level, number), b"".join(hashes))
    if len(edges) == level:
        edges.append([])
    edge = edges[level]
    edge.append(root)
    if len(edge) == WIDTH:
        above = tile_root(b"".join(edge))
        write_tile(files, number // WIDTH, edge, above, edges, level=level + 1)
        edge.clear()
