"""The Merkle tree of the minutes, on disk: constant memory, however many commitments there are.

Every complete subtree goes to a file of its level, 32 bytes each; paths are read from there.
The files are derived and are made anew by every opening.

Source: docs/spec/opening.md, minutes.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from bistro.crypto.digest import HASH_SIZE
from bistro.crypto.merkle import BatchTree, Frontier, prove_inclusion
from bistro.storage.durable import (
    SYSTEM_DISK,
    AppendFile,
    Disk,
    delete_file,
    make_directories,
)

BATCH: Final = 1_024


class MinutesTree:
    """A tree that grows at its end and then proves; every method blocks. Close it at the end.

    Args:
        directory: A folder of its own.
        disk: The system calls to use.
    """

    def __init__(self, directory: Path, *, disk: Disk = SYSTEM_DISK) -> None:
        self._directory = directory
        self._disk = disk
        self._stack = ExitStack()
        self._levels: list[AppendFile] = []
        self._frontier = Frontier.empty()
        self._pending: list[bytes] = []
        make_directories(directory, disk=disk)

    def __enter__(self) -> Self:
        """The tree, closed at the end of the block."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Give the descriptors back."""
        self._stack.close()

    @property
    def size(self) -> int:
        """Leaves so far."""
        return self._frontier.size + len(self._pending)

    def add(self, leaf: bytes) -> None:
        """Append a leaf hash.

        Raises:
            StorageError: The disk failed.
        """
        self._pending.append(leaf)
        if len(self._pending) >= BATCH:
            self._flush()

    def root(self) -> bytes:
        """The root over all leaves."""
        self._flush()
        return self._frontier.root()

    def path(self, index: int) -> tuple[bytes, ...]:
        """The inclusion path of leaf ``index``, lowest sibling first."""
        self._flush()
        return prove_inclusion(index, self._frontier.size, self._node)

    def _node(self, level: int, offset: int) -> bytes:
        return self._levels[level].read(offset=offset * HASH_SIZE, size=HASH_SIZE)

    def _flush(self) -> None:
        if not self._pending:
            return
        tree = BatchTree(self._frontier, self._pending)
        hashes: dict[int, bytearray] = {}
        for level, _, value in tree.completed():
            hashes.setdefault(level, bytearray()).extend(value)
        for level in sorted(hashes):
            self._level(level).append(bytes(hashes[level]))
        self._frontier = tree.frontier
        self._pending = []

    def _level(self, level: int) -> AppendFile:
        while len(self._levels) <= level:
            path = self._directory / f"level-{len(self._levels)}"
            delete_file(path, disk=self._disk)
            file = AppendFile.create(path, disk=self._disk)
            self._stack.callback(file.close)
            self._levels.append(file)
        return self._levels[level]
