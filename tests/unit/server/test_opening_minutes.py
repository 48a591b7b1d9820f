"""The tree of the minutes: any size, any path, memory of one batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from bistro.crypto.digest import leaf_hash
from bistro.crypto.merkle import inclusion_path, root_of, verify_inclusion
from bistro.errors import StorageError
from bistro_server.services.opening_minutes import BATCH, MinutesTree
from tests.support.disks import FaultyDisk


@pytest.mark.parametrize("size", [0, 1, 2, 3, 255, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH + 7])
def test_the_tree_on_disk_is_the_tree_in_memory(tmp_path: Path, size: int) -> None:
    """Same root, same paths, whatever batches it was written in."""
    leaves = [leaf_hash(str(number).encode()) for number in range(size)]
    with MinutesTree(tmp_path / "tree") as tree:
        for leaf in leaves:
            tree.add(leaf)
        assert tree.size == size
        assert tree.root() == root_of(leaves)
        for index in {0, 1, size // 2, size - 1} & set(range(size)):
            path = tree.path(index)
            assert path == inclusion_path(leaves, index)
            verify_inclusion(
                leaf=leaves[index], index=index, size=size, path=path, root=tree.root()
            )


def test_what_an_earlier_opening_left_is_overwritten(tmp_path: Path) -> None:
    """The files are derived: a second tree in the same folder begins anew."""
    for count in (5_000, 3):
        leaves = [leaf_hash(bytes([number % 256])) for number in range(count)]
        with MinutesTree(tmp_path / "tree") as tree:
            for leaf in leaves:
                tree.add(leaf)
            assert tree.root() == root_of(leaves)


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """No minutes are written over a tree that is not whole."""
    with MinutesTree(tmp_path / "tree", disk=FaultyDisk(at=5, how="full")) as tree:
        for number in range(10):
            tree.add(leaf_hash(bytes([number])))
        with pytest.raises(StorageError):
            tree.root()
