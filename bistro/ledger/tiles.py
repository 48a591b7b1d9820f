"""Tiles and entry bundles of C2SP tlog-tiles, as static files of 256 hashes or entries.

Only full ones are written, each once and for good; whatever is partial is made on demand from
what the ledger has in memory. A web server may serve the ``tile`` folder as it is.

Source: docs/spec/storage.md, tiles; C2SP tlog-tiles.
"""

from __future__ import annotations

import re
import struct
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from bistro.crypto.digest import HASH_SIZE, node_hash
from bistro.errors import StorageError, UnknownObjectError
from bistro.storage.durable import (
    SYSTEM_DISK,
    TEMPORARY_SUFFIX,
    Disk,
    make_directories,
    read_file,
    storage_errors,
    sync_directory,
)
from bistro.storage.pending import PendingFiles
from bistro.wire.entry import MAX_ENTRY_SIZE

WIDTH: Final = 256
"""Hashes in a full tile, entries in a full bundle."""

TILE_LEVEL: Final = 8
"""Levels of the tree between a tile's hashes and those of the tile above."""

TILE_SIZE: Final = WIDTH * HASH_SIZE

MAX_BUNDLE_SIZE: Final = WIDTH * (2 + MAX_ENTRY_SIZE)
_CACHED = 256
_PATH = re.compile(
    r"tile/(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?"
)
_LENGTH = struct.Struct(">H")


@dataclass(frozen=True, slots=True)
class TilePath:
    """What a path below a log's URL names.

    Attributes:
        level: Level of the tile, or ``entries``.
        number: Which tile of that level, from 0.
        width: 256 for a full one, else how many hashes or entries.
    """

    level: int | Literal["entries"]
    number: int
    width: int = WIDTH

    @classmethod
    def parse(cls, text: str) -> TilePath:
        """Read a path such as ``tile/0/x001/x234/067.p/12``.

        Raises:
            UnknownObjectError: Not the one spelling of a tile's path.
        """
        match = _PATH.fullmatch(text)
        if match:
            level = "entries" if match[1] == "entries" else int(match[1])
            number = int(match[2].replace("x", "").replace("/", ""))
            path = cls(level, number, int(match[3] or WIDTH))  # type: ignore[arg-type]
            if path.format() == text:
                return path
        raise UnknownObjectError(f"there is no tile {text[:80]!r}")

    def format(self) -> str:
        """The path: the number in groups of three digits, all but the last with ``x``."""
        digits = f"{self.number % 1_000:03d}"
        rest = self.number // 1_000
        while rest:
            digits = f"x{rest % 1_000:03d}/{digits}"
            rest //= 1_000
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{self.level}/{digits}{partial}"


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Entries, each after its length in two bytes."""
    sizes = list(map(len, entries))
    if len(set(sizes)) == 1:
        # As nearly always: tickets of one call.
        length = _LENGTH.pack(sizes[0])
        return length + length.join(entries)
    return b"".join([_LENGTH.pack(len(entry)) + entry for entry in entries])


def decode_bundle(data: bytes) -> Iterator[bytes]:
    """The entries of a bundle.

    Raises:
        StorageError: It ends within an entry.
    """
    at = 0
    while at < len(data):
        end = at + _LENGTH.size
        if end <= len(data):
            at, end = end, end + _LENGTH.unpack_from(data, at)[0]
        if end > len(data):
            raise StorageError(f"entry bundle: it ends within an entry, at byte {at}")
        yield data[at:end]
        at = end


class TileFiles:
    """The full tiles and bundles below a ledger's folder.

    Reading may happen in any thread; writing has one owner.

    Args:
        directory: The ledger's folder.
        disk: The system calls to use.
    """

    def __init__(self, directory: Path, *, disk: Disk = SYSTEM_DISK) -> None:
        self._directory = directory
        self._disk = disk
        self._cache: OrderedDict[tuple[int, int], list[list[bytes]]] = OrderedDict()
        self._pending = PendingFiles(disk=disk)
        self._folders: dict[str, Path] = {}

    def hash_at(self, level: int, position: int) -> bytes:
        """Hash number ``position`` of a tile level; its tile is full.

        Raises:
            StorageError: The tile is missing or damaged, or the disk failed.
        """
        return self.node_at(level, 0, position)

    def node_at(self, level: int, height: int, offset: int) -> bytes:
        """The hash over ``2**height`` neighbouring hashes of a full tile, ``height`` 0 to 8.

        Raises:
            StorageError: The tile is missing or damaged, or the disk failed.
        """
        number, within = divmod(offset, WIDTH >> height)
        return self._nodes(level, number)[height][within]

    def tile(self, level: int, number: int) -> bytes:
        """A full tile as it is on disk now.

        Raises:
            StorageError: The tile is missing or has another length, or the disk failed.
        """
        path = TilePath(level, number)
        tile = self._read(path, TILE_SIZE)
        if len(tile) != TILE_SIZE:
            raise self.damaged(path, f"expected {TILE_SIZE} bytes, found {len(tile)}")
        return tile

    def _nodes(self, level: int, number: int) -> list[list[bytes]]:
        """A full tile's hashes, and those above them; the last ones asked for stay in memory.

        A path needs one node of each height, and to compute them takes a hash for every hash of
        the tile: so all are computed at once and kept.
        """
        nodes = self._cache.get((level, number))
        if nodes is None:
            tile = self.tile(level, number)
            nodes = [[tile[at : at + HASH_SIZE] for at in range(0, TILE_SIZE, HASH_SIZE)]]
            for _ in range(TILE_LEVEL):
                below = nodes[-1]
                nodes.append(list(map(node_hash, below[::2], below[1::2])))
            self._cache[level, number] = nodes
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)
        return nodes

    def bundle(self, number: int) -> bytes:
        """A full entry bundle as it is on disk."""
        return self._read(TilePath("entries", number), MAX_BUNDLE_SIZE)

    def damaged(self, path: TilePath, reason: str) -> StorageError:
        """What to raise where a file is not what was written."""
        return StorageError(
            f"{self._directory / path.format()}: {reason}",
            hint="without the snapshot file all tiles are written anew",
        )

    def read(self, path: TilePath, max_size: int = MAX_BUNDLE_SIZE) -> bytes | None:
        """A file as it is on disk, full or partial; ``None`` if there is none.

        Raises:
            StorageError: The disk failed.
        """
        return read_file(self._directory / path.format(), max_size=max_size, disk=self._disk)

    def _read(self, path: TilePath, max_size: int) -> bytes:
        data = self.read(path, max_size)
        if data is None:
            raise self.damaged(path, "missing")
        return data

    def write(self, path: TilePath, data: bytes) -> None:
        """Write a full tile or bundle; it has its name, and is durable, only after ``sync``.

        Raises:
            StorageError: The disk failed; no file has its name that was not synced.
        """
        parent, _, name = path.format().rpartition("/")
        self._pending.write(self._folders.get(parent) or self._make(parent), name, data)

    def _make(self, parent: str) -> Path:
        folder = self._directory / parent
        make_directories(folder, disk=self._disk)
        for above in folder.parents:
            # Who made a folder that is there may have died before its name was durable.
            sync_directory(above, disk=self._disk)
            if above == self._directory:
                break
        self._folders[parent] = folder
        return folder

    def sync(self) -> None:
        """Make all files written so far durable, then give them their names.

        Raises:
            StorageError: Some of them may be missing; none is there in part.
        """
        self._pending.sync()

    def clean(self, published: int, behind: int) -> None:
        """Delete temporaries that a crash left where the tiles behind ``published`` go.

        Args:
            published: Entries in full tiles.
            behind: How many entries a pass may have written.

        Raises:
            StorageError: The system refused.
        """
        paths = [TilePath("entries", at // WIDTH) for at in (published, published + behind)]
        level = 0
        while (published + behind) >> (TILE_LEVEL * (level + 1)):
            shift = TILE_LEVEL * (level + 1)
            paths += [TilePath(level, at >> shift) for at in (published, published + behind)]
            level += 1
        for folder in {(self._directory / path.format()).parent for path in paths}:
            for left in folder.glob(f".*{TEMPORARY_SUFFIX}"):
                with storage_errors("delete", left):
                    self._disk.delete(left)

    def abandon(self) -> None:
        """Forget what was written since the last ``sync``."""
        self._pending.abandon()
