"""Publishing: full tiles and bundles to files, keys to the index, then the snapshot.

The order makes every crash harmless. Tiles and bundles are written first; found again after a
crash they are written again, byte for byte the same. The index follows, then the snapshot,
which alone makes a restart rely on both. A ledger's memory is trimmed last.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bistro.instant import UnixMillis
from bistro.ledger.index import DuplicateIndex, Reach
from bistro.ledger.snapshot import Snapshot
from bistro.ledger.tiles import WIDTH, TilePath, encode_bundle
from bistro.ledger.view import Edges, View, tile_root
from bistro.storage.durable import SYSTEM_DISK, Disk


class Boundary(NamedTuple):
    """Where one record ends and the next begins.

    Attributes:
        size: Entries before it.
        offset: Its place in the write-ahead file.
        last_time: Time of the entry before it; 0 if there is none.
        note: The signed checkpoint of ``size``; empty at size 0.
    """

    size: int
    offset: int
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
        disk: The system calls to use.
    """

    def __init__(
        self, snapshot_path: Path, index: DuplicateIndex, *, disk: Disk = SYSTEM_DISK
    ) -> None:
        self._snapshot_path = snapshot_path
        self._index = index
        self._disk = disk
        self._boundaries: deque[Boundary] = deque()

    def note_boundary(self, boundary: Boundary) -> None:
        """Remember a record boundary; in order, each once."""
        self._boundaries.append(boundary)

    def publish(self, view: View) -> Published:
        """Write all that is complete in ``view``; returns when it is durable.

        Raises:
            StorageError: The disk failed; a later pass or a restart repeats it.
        """
        target = view.size - view.size % WIDTH
        edges = [list(edge) for edge in view.edges]
        for begin in range(view.published, target, WIDTH):
            at = begin - view.published
            entries = [item.entry for item in view.items[at : at + WIDTH]]
            view.files.write(TilePath("entries", begin // WIDTH), encode_bundle(entries))
            self._write_tile(view, 0, begin // WIDTH, view.leaves[at : at + WIDTH], edges)
        view.files.sync()
        boundary = self._latest_boundary(target)
        new = view.items[: target - view.published]
        rows = [(item.key, at) for at, item in enumerate(new, view.published) if item.key]
        if target > self._index.reach.size:
            self._index.add(rows, Reach(target, boundary.size, boundary.offset))
        Snapshot(target, view.size, *boundary).save(self._snapshot_path, disk=self._disk)
        return Published(target, tuple(map(tuple, edges)), [key for key, _ in rows])

    def _write_tile(
        self, view: View, level: int, number: int, hashes: list[bytes], edges: list[list[bytes]]
    ) -> None:
        tile = b"".join(hashes)
        view.files.write(TilePath(level, number), tile)
        if len(edges) == level:
            edges.append([])
        edge = edges[level]
        edge.append(tile_root(tile))
        if len(edge) == WIDTH:
            self._write_tile(view, level + 1, number // WIDTH, edge, edges)
            edge.clear()

    def _latest_boundary(self, published: int) -> Boundary:
        """The last boundary at or before ``published``; older ones are forgotten."""
        while len(self._boundaries) > 1 and self._boundaries[1].size <= published:
            self._boundaries.popleft()
        return self._boundaries[0]
