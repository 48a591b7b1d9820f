"""Published checkpoints: a folder from which any web server serves the whole log.

Full tiles are there already. For each published checkpoint its partial tiles follow, then the
file ``checkpoint`` is replaced; so whoever reads the checkpoint finds all that it covers.
Partial tiles go once their full tile is there, not before: a reader may still need them.

Source: docs/spec/promises.md, published logs; docs/spec/storage.md, tiles; C2SP tlog-tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bistro.crypto.signing import Note
from bistro.errors import FormatError, StorageError
from bistro.ledger.record import MAX_NOTE_SIZE
from bistro.ledger.tiles import TILE_LEVEL, WIDTH, TileFiles, TilePath
from bistro.ledger.view import View
from bistro.storage.durable import (
    SYSTEM_DISK,
    Disk,
    read_file,
    storage_errors,
    write_atomically,
)
from bistro.wire.checkpoint import Checkpoint

CHECKPOINT_FILE: Final = "checkpoint"


def partial_tiles(size: int) -> Iterator[TilePath]:
    """The partial tiles and the partial bundle of a tree of ``size`` entries."""
    level = 0
    while count := size >> (TILE_LEVEL * level):
        number, width = divmod(count, WIDTH)
        if width:
            yield TilePath(level, number, width)
            if level == 0:
                yield TilePath("entries", number, width)
        level += 1


class StaticLog:
    """The published checkpoint of a ledger and its partial tiles; one thread at a time.

    Args:
        directory: The ledger's folder.
        disk: The system calls to use.
        anew: Publish also what has been published, first.
    """

    def __init__(self, directory: Path, *, disk: Disk = SYSTEM_DISK, anew: bool = False) -> None:
        self.directory = directory
        self._disk = disk
        self._is_anew = anew

    def publish(self, view: View) -> bool:
        """Publish a view's checkpoint unless it is published; blocks; whether it did.

        Args:
            view: Its full tiles are durable.

        Raises:
            StorageError: The old or the new one is published; asking again completes it.
        """
        path = self.directory / CHECKPOINT_FILE
        known = read_file(path, max_size=MAX_NOTE_SIZE, disk=self._disk)
        if view.note is None or (known == view.note and not self._is_anew):
            return False
        files = TileFiles(self.directory, disk=self._disk)
        try:
            for tile in partial_tiles(view.size):
                files.write(tile, view.tile(tile))
            files.sync()
        finally:
            files.abandon()
        # A crash here leaves partial tiles of a checkpoint that was never published: harmless.
        write_atomically(path, view.note, disk=self._disk)
        # A crash here leaves partial tiles beside their full one: harmless, and never removed.
        is_anew, self._is_anew = self._is_anew, False
        if known is not None and not is_anew:
            self._remove_completed(_size_of(known, path), view.size)
        return True

    def _remove_completed(self, old_size: int, size: int) -> None:
        """Delete the partial tiles of the old size whose full tiles are there now."""
        for tile in partial_tiles(old_size):
            level = 0 if tile.level == "entries" else tile.level
            if (tile.number + 1) << (TILE_LEVEL * (level + 1)) <= size:
                folder = (self.directory / tile.format()).parent
                with storage_errors("delete", folder):
                    for path in folder.iterdir():
                        self._disk.delete(path)
                    folder.rmdir()


def _size_of(note: bytes, path: Path) -> int:
    try:
        return Checkpoint.parse(Note.parse(note).text).size
    except FormatError as exc:
        raise StorageError(
            f"{path}: {exc.message}", hint="delete the file: it is published again"
        ) from exc
