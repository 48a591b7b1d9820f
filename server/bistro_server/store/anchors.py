"""Anchors of a call's log: checkpoints that another authority stamped, one file each.

``calls/<call>/anchors/<size>.json``, the size without leading zeros. A file is written once: an
anchor that is there is as good as any later one of the same checkpoint.

Source: docs/spec/timestamps.md, anchors.
"""

from __future__ import annotations

import re
from bisect import bisect_right, insort
from pathlib import Path

from bistro.errors import FormatError, StorageError
from bistro.storage.durable import (
    SYSTEM_DISK,
    Disk,
    make_directories,
    read_file,
    storage_errors,
    write_atomically,
)
from bistro.wire.anchor import MAX_ANCHOR_SIZE, Anchor

_NAME = re.compile(r"([1-9][0-9]{0,15})\.json", re.ASCII)


class AnchorFiles:
    """The anchors of one call; all methods block.

    Args:
        directory: May not exist yet.
        disk: The system calls to use.
    """

    def __init__(self, directory: Path, *, disk: Disk = SYSTEM_DISK) -> None:
        self._directory = directory
        self._disk = disk
        self._sizes: list[int] | None = None

    def sizes(self) -> list[int]:
        """The sizes of the checkpoints that are stamped, ascending; read once, then remembered.

        Raises:
            StorageError: The folder cannot be read.
        """
        if self._sizes is None:
            names = []
            if self._directory.is_dir():
                with storage_errors("list", self._directory):
                    names = [path.name for path in self._directory.iterdir()]
            found = [_NAME.fullmatch(name) for name in names]
            self._sizes = sorted(int(match[1]) for match in found if match)
        return self._sizes

    def write(self, anchor: Anchor) -> None:
        """Keep an anchor; returns when it is durable.

        Raises:
            StorageError: It may be there or not; asking for another one is harmless.
        """
        size = anchor.checkpoint.size
        if size in self.sizes():
            return
        make_directories(self._directory, disk=self._disk)
        write_atomically(self._path(size), anchor.encode(), disk=self._disk)
        # Only what is durable is handed out.
        insort(self.sizes(), size)

    def covering(self, index: int) -> Anchor | None:
        """The earliest anchor whose checkpoint covers entry ``index``.

        Raises:
            StorageError: Its file is missing or damaged.
        """
        sizes = self.sizes()
        place = bisect_right(sizes, index)
        return None if place == len(sizes) else self._read(sizes[place])

    def newest(self) -> Anchor | None:
        """The anchor of the largest checkpoint.

        Raises:
            StorageError: Its file is missing or damaged.
        """
        sizes = self.sizes()
        return self._read(sizes[-1]) if sizes else None

    def _read(self, size: int) -> Anchor:
        path = self._path(size)
        data = read_file(path, max_size=MAX_ANCHOR_SIZE, disk=self._disk)
        try:
            anchor = None if data is None else Anchor.decode(data)
        except FormatError as exc:
            raise StorageError(f"{path}: {exc.message}", hint="restore it from a copy") from exc
        if anchor is None or anchor.checkpoint.size != size:
            raise StorageError(
                f"{path}: expected the anchor of {size} entries, found another or none",
                hint="restore it from a copy",
            )
        return anchor

    def _path(self, size: int) -> Path:
        return self._directory / f"{size}.json"
