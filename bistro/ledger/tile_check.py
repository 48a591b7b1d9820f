"""Comparing published tiles and bundles with the entries, and telling which of them is damaged.

Entries that the write-ahead file has no more are read from their bundles. Where a tile is not
what its bundle says, either may be damaged: the next signed checkpoint decides. If the entries
are those that were signed, it is the tile, and can be made anew; otherwise it is the bundle.

Source: docs/spec/storage.md, recovery; C2SP tlog-tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bistro.crypto.digest import leaf_hash
from bistro.errors import StorageError
from bistro.ledger.rebuilding import lost_entries
from bistro.ledger.static import partial_tiles
from bistro.ledger.tiles import WIDTH, TileFiles, TilePath, encode_bundle
from bistro.ledger.view import tile_root

MEND: Final = (
    "the entries are as they were signed: stop serve, and `bistro-server log check --repair` "
    "makes the file anew"
)


class EntriesHoldError(Exception):
    """Cause of a ``StorageError``: the entries are as they were signed, so it can be mended."""


class TileCheck:
    """Compares published tiles and bundles with what the entries say.

    Args:
        files: Tiles and bundles.
        published: Entries in full ones.
        announced: Entries under the published checkpoint, whose partial tiles are compared as
            well; 0: there is none.

    Attributes:
        count: Files compared so far.
    """

    def __init__(self, files: TileFiles, published: int, announced: int = 0) -> None:
        self.count = 0
        self._files = files
        self._published = published
        self._announced = announced
        self._size = 0
        self._entries: list[bytes] = []
        self._levels: list[list[bytes]] = []
        self._suspect: tuple[TilePath, str] | None = None

    def add(self, entry: bytes) -> None:
        """Take the next entry."""
        self._size += 1
        self._entries.append(entry)
        if len(self._entries) == WIDTH:
            if self._size <= self._published:
                number = self._size // WIDTH - 1
                self._compare(TilePath("entries", number), encode_bundle(self._entries))
                self._compare_tile(0, number, list(map(leaf_hash, self._entries)))
            self._entries.clear()
        if self._size == self._announced:
            for path in partial_tiles(self._size):
                self._compare_partial(path)

    @contextmanager
    def judging(self) -> Iterator[None]:
        """Around the check of a signature over all entries so far: it decides what is damaged.

        Raises:
            StorageError: A tile is, because of ``EntriesHoldError``, or a bundle; or what the
                block raises.
        """
        try:
            yield
        except StorageError as exc:
            if self._suspect is not None and self._suspect[0].level in {0, "entries"}:
                path = self._suspect[0]
                bundle = TilePath("entries", path.number, path.width)
                reason = "its entries are not those that were signed"
                raise lost_entries(self._files, bundle, reason) from exc
            raise
        self.finish()

    def finish(self) -> None:
        """Name what is damaged, once the entries are known to be as they were signed.

        Raises:
            StorageError: A tile or bundle is not what they say, because of ``EntriesHoldError``.
        """
        if self._suspect is not None:
            path, reason = self._suspect
            found = self._files.damaged(path, reason)
            raise StorageError(found.message, hint=MEND) from EntriesHoldError()

    def _compare_tile(self, level: int, number: int, hashes: list[bytes]) -> None:
        tile = b"".join(hashes)
        self._compare(TilePath(level, number), tile)
        if len(self._levels) == level:
            self._levels.append([])
        above = self._levels[level]
        above.append(tile_root(tile))
        if len(above) == WIDTH:
            self._compare_tile(level + 1, number // WIDTH, above)
            above.clear()

    def _compare_partial(self, path: TilePath) -> None:
        if path.level == "entries":
            expected = encode_bundle(self._entries)
        elif path.level == 0:
            expected = b"".join(map(leaf_hash, self._entries))
        else:
            expected = b"".join(self._levels[path.level - 1])
        full = TilePath(path.level, path.number)
        # Beside a process that writes it may have become full, and then it goes.
        if self._files.read(path) is not None or self._files.read(full) is None:
            self._compare(path, expected)

    def _compare(self, path: TilePath, expected: bytes) -> None:
        found = self._files.read(path)
        self.count += 1
        if found != expected and self._suspect is None:
            reason = "missing" if found is None else "not what the entries say"
            self._suspect = path, reason
