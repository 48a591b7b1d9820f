"""A ledger at one moment: what is in memory, and proofs from it and the tiles.

In memory are the frontier, the entries that are not yet published as tiles, and the right edge
of each tile level: together a few hundred hashes, whatever the ledger's size. A view never
changes, so any thread may read it while the ledger goes on. (Views of neighbouring moments
share their lists, which only grow; each looks no further than its own size.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final, NamedTuple

from bistro.crypto.digest import leaf_hash, node_hash
from bistro.crypto.merkle import Frontier, prove_consistency, prove_inclusion, root_of
from bistro.errors import UnknownObjectError
from bistro.instant import UnixMillis
from bistro.ledger.tiles import (
    TILE_LEVEL,
    WIDTH,
    TileFiles,
    TilePath,
    decode_bundle,
    encode_bundle,
)

Edges = tuple[tuple[bytes, ...], ...]
"""For tile levels 1, 2, …: the hashes of the level's last, partial tile."""

NO_TIME: Final = UnixMillis(0)


class NewEntries(NamedTuple):
    """A batch by columns, as long as each other but for the last.

    Attributes:
        entries: The leaf data.
        keys: The key of each, empty where it has none.
        leaves: The leaf hash of each.
        tile_roots: Hashes of the tiles that became full: subtrees of 256 leaves.
    """

    entries: Sequence[bytes]
    keys: Sequence[bytes]
    leaves: Sequence[bytes]
    tile_roots: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class View:
    """A ledger at one moment.

    Attributes:
        files: The published tiles and bundles.
        frontier: What the tree needs to grow.
        published: Entries in full tiles and bundles; a multiple of 256.
        edges: See ``Edges``; they cover exactly what is published.
        leaves: Leaf hashes from ``published`` on; may be longer than this view.
        data: Entries from ``published`` on; may be longer than this view.
        keys: Their keys, empty where they have none; may be longer than this view.
        tile_roots: Hashes of the full tiles from ``published`` on; may be longer than this view.
        note: The signed checkpoint of this size, or ``None`` while the ledger is empty.
        last_time: Time of the last entry, or 0.
    """

    files: TileFiles
    frontier: Frontier
    published: int
    edges: Edges
    leaves: list[bytes] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    tile_roots: list[bytes] = field(default_factory=list)
    note: bytes | None = None
    last_time: UnixMillis = NO_TIME

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.frontier.size

    def extended(
        self,
        *,
        batch: NewEntries,
        frontier: Frontier,
        note: bytes,
        last_time: UnixMillis,
    ) -> View:
        """The view after a batch; this one must be the newest."""
        # What is published already (only while a file is replayed) is not kept twice.
        skip = max(0, min(self.published - self.size, len(batch.entries)))
        first_root = self.size // WIDTH
        self.data.extend(batch.entries[skip:] if skip else batch.entries)
        self.keys.extend(batch.keys[skip:] if skip else batch.keys)
        self.leaves.extend(batch.leaves[skip:] if skip else batch.leaves)
        self.tile_roots.extend(batch.tile_roots[max(self.published // WIDTH - first_root, 0) :])
        # Not by ``replace``, which takes several times as long: this is done for every batch.
        return View(
            self.files,
            frontier,
            self.published,
            self.edges,
            self.leaves,
            self.data,
            self.keys,
            self.tile_roots,
            note,
            last_time,
        )

    def trimmed(self, published: int, edges: Edges) -> View:
        """The view once ``published`` entries are in full tiles."""
        done = published - self.published
        return replace(
            self,
            published=published,
            edges=edges,
            leaves=self.leaves[done:],
            data=self.data[done:],
            keys=self.keys[done:],
            tile_roots=self.tile_roots[done // WIDTH :],
        )

    def node(self, level: int, offset: int) -> bytes:
        """The hash of a complete subtree, from memory or from a tile.

        Raises:
            StorageError: A tile is missing or damaged.
        """
        if (offset + 1) << level <= self.published:
            tile_level, height = divmod(level, TILE_LEVEL)
            count = self.published >> (TILE_LEVEL * tile_level)
            if offset << height < count - count % WIDTH:
                return self.files.node_at(tile_level, height, offset)
            if height == 0:
                return self.edges[tile_level - 1][offset % WIDTH]
        elif level == 0:
            return self.leaves[offset - self.published]
        return node_hash(self.node(level - 1, 2 * offset), self.node(level - 1, 2 * offset + 1))

    def inclusion_path(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """The path of an entry in the tree of this view, or in an earlier one; blocks.

        Raises:
            UnknownObjectError: There is no such entry, or there never was this size.
            StorageError: A tile is missing or damaged.
        """
        if size is not None and size > self.size:
            raise UnknownObjectError(f"a ledger of {self.size} entries never had {size}")
        return prove_inclusion(index, self.size if size is None else size, self.node)

    def consistency_path(self, old_size: int, size: int) -> tuple[bytes, ...]:
        """The path between two sizes up to this view's; blocks while tiles are read.

        Raises:
            UnknownObjectError: The ledger has not had these sizes, in this order.
            StorageError: A tile is missing or damaged.
        """
        if size > self.size:
            raise UnknownObjectError(f"a ledger of {self.size} entries never had {size}")
        return prove_consistency(old_size, size, self.node)

    def entry(self, index: int) -> bytes:
        """An entry; blocks while a bundle is read.

        Raises:
            UnknownObjectError: There is no such entry.
            StorageError: A bundle is missing or damaged, or does not match its tile.
        """
        return next(self.entries(index, index + 1))

    def entries(self, start: int, stop: int) -> Iterator[bytes]:
        """Entries from ``start`` up to but not including ``stop``, in constant memory.

        Raises:
            UnknownObjectError: There are no such entries.
            StorageError: A bundle is missing or damaged, or does not match its tile.
        """
        if not 0 <= start <= stop <= self.size:
            raise UnknownObjectError(f"no entries {start} to {stop} in a ledger of {self.size}")
        at = start
        while at < min(stop, self.published):
            number, within = divmod(at, WIDTH)
            bundle = decode_bundle(self.files.bundle(number))
            for entry in islice(bundle, within, within + stop - at):
                self._require_leaf(at, entry)
                yield entry
                at += 1
        yield from self.data[at - self.published : stop - self.published]

    def _require_leaf(self, index: int, entry: bytes) -> None:
        if leaf_hash(entry) != self.files.hash_at(0, index):
            raise self.files.damaged(TilePath("entries", index // WIDTH), "not what its tile says")

    def tile(self, path: TilePath) -> bytes:
        """A full or partial tile or bundle; blocks while files are read.

        Raises:
            UnknownObjectError: The ledger is too small for it.
            StorageError: A tile or bundle is missing or damaged.
        """
        begin = path.number * WIDTH
        end = begin + path.width
        shift = 0 if path.level == "entries" else TILE_LEVEL * path.level
        if end << shift > self.size:
            raise UnknownObjectError(
                f"{path.format()}: not in a ledger of {self.size} entries",
            )
        if path.level == "entries":
            if path.width == WIDTH and end <= self.published:
                return self.files.bundle(path.number)
            return encode_bundle(list(self.entries(begin, end)))
        return b"".join(self.node(shift, position) for position in range(begin, end))


def load_edges(files: TileFiles, published: int) -> Edges:
    """The right edges of all tile levels, from the full tiles below them.

    Raises:
        StorageError: A tile is missing or damaged.
    """
    edges: list[tuple[bytes, ...]] = []
    level = 1
    while count := published >> (TILE_LEVEL * level):
        first = count - count % WIDTH
        edges.append(
            tuple(files.node_at(level - 1, TILE_LEVEL, number) for number in range(first, count))
        )
        level += 1
    return tuple(edges)


def tile_root(tile: bytes) -> bytes:
    """The hash that the tile above has for this full one."""
    size = len(tile) // WIDTH
    return root_of([tile[at : at + size] for at in range(0, len(tile), size)])
