"""The duplicate index is derived: it may be lost, and is then made anew."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from bistro.errors import StorageError
from bistro.ledger.index import DuplicateIndex, Reach


def test_keys_and_reach_last_together(tmp_path: Path) -> None:
    """A known key keeps its first place; more keys than one question holds can be asked."""
    index = DuplicateIndex.open(tmp_path / "i")
    keys = [b"%d" % number for number in range(1_200)]
    index.add([(key, at) for at, key in enumerate(keys)], Reach(1_200, 1_000, 77))
    index.add([(keys[3], 5_000)], Reach(1_201, 1_000, 77))
    index.close()
    index = DuplicateIndex.open(tmp_path / "i")
    assert index.reach == Reach(1_201, 1_000, 77)
    assert index.find([*keys, b"unknown"]) == {key: at for at, key in enumerate(keys)}
    assert index.find([]) == {}
    index.close()


@pytest.mark.parametrize("content", [b"no database" * 99, b""])
def test_a_damaged_index_is_made_anew(tmp_path: Path, content: bytes) -> None:
    """It reaches nothing, so everything is read again."""
    (tmp_path / "i").write_bytes(content)
    index = DuplicateIndex.open(tmp_path / "i")
    assert index.reach == Reach(0, 0, 0)
    index.close()


def test_an_index_of_another_version_is_made_anew(tmp_path: Path) -> None:
    """There is nothing in it that the write-ahead file does not have."""
    with sqlite3.connect(tmp_path / "i") as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    index = DuplicateIndex.open(tmp_path / "i")
    index.add([(b"a", 1)], Reach(2, 2, 2))
    assert index.find([b"a"]) == {b"a": 1}
    index.close()


def test_a_failed_addition_moves_nothing(tmp_path: Path) -> None:
    """Neither keys nor reach, in memory or on disk."""
    index = DuplicateIndex.open(tmp_path / "i")
    index.add([(b"a", 0)], Reach(1, 1, 1))

    def rows() -> Iterator[tuple[bytes, int]]:
        yield (b"b", 1)
        raise sqlite3.OperationalError("injected")

    with pytest.raises(StorageError, match="injected"):
        index.add(rows(), Reach(2, 2, 2))
    assert index.reach == Reach(1, 1, 1)
    assert index.find([b"a", b"b"]) == {b"a": 0}
    index.close()


def test_an_index_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """For example where the folder is missing."""
    with pytest.raises(StorageError):
        DuplicateIndex.open(tmp_path / "no" / "i")
