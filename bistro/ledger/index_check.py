"""Checking the duplicate index against the entries: all keys, each with its place, each once.

Looking up every key would read the whole index once for each. Instead both sides are summed up,
the rows that the entries demand and the rows that are there, and the runs are merged, so that
equal digests meet. All in constant memory.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from bistro.errors import StorageError
from bistro.ledger.index import DuplicateIndex
from bistro.ledger.rows import DIGEST_SIZE, ROW_SIZE, cut
from bistro.ledger.runs import Run, merge_rows

_MODULUS: Final = 1 << 128
_HINT: Final = "stop the ledger and delete its index folder: it is made anew from the entries"


class IndexCheck:
    """Takes all keys of a ledger in order, then compares.

    Args:
        index: The index.
        runs: All its runs, which stay as they are meanwhile.
        size: How many entries are looked at; the index may hold keys of newer ones.
    """

    def __init__(self, index: DuplicateIndex, runs: Sequence[Run], *, size: int | None) -> None:
        self._index = index
        self._runs = runs
        self._size = sys.maxsize if size is None else size
        self._reach = runs[-1].end if runs else 0
        self._sum = 0
        self._count = 0
        self._newest: dict[bytes, int] = {}

    def add(self, start: int, keys: Sequence[bytes]) -> None:
        """Take the keys of the entries from ``start`` on, empty where there is none.

        Raises:
            StorageError: A newer key than the index holds is used twice.
        """
        rows = [(key, index) for index, key in enumerate(keys, start) if key]
        older = [(key, index) for key, index in rows if index < self._reach]
        digests = self._index.digests([key for key, _ in older])
        for digest, (_, index) in zip(digests, older, strict=True):
            self._sum += int.from_bytes(digest, "big") * (2 * index + 1)
        self._sum %= _MODULUS
        self._count += len(older)
        for key, index in rows[len(older) :]:
            earlier = self._newest.setdefault(key, index)
            if earlier != index:
                raise _used_twice(earlier, index)

    def finish(self) -> None:
        """Compare.

        Raises:
            StorageError: A key has two entries, or the index does not match the entries.
        """
        for key, earlier in self._index.find(list(self._newest)).items():
            if earlier != self._newest[key]:
                raise _used_twice(earlier, self._newest[key])
        total, count, previous = 0, 0, bytes(ROW_SIZE)
        for rows in merge_rows(self._runs, _never_wait) if self._runs else ():
            for row in cut(rows, ROW_SIZE):
                if row[:DIGEST_SIZE] == previous[:DIGEST_SIZE]:
                    raise _used_twice(_index_of(previous), _index_of(row))
                previous = row
                if (index := _index_of(row)) < self._size:
                    total += int.from_bytes(row[:DIGEST_SIZE], "big") * (2 * index + 1)
                    count += 1
            total %= _MODULUS
        if (total, count) != (self._sum, self._count):
            raise StorageError(
                f"the duplicate index does not match the entries: expected {self._count} keys, "
                f"found {count}",
                hint=_HINT,
            )


def _never_wait() -> None:
    """Nobody else needs a turn."""


def _index_of(row: bytes) -> int:
    return int.from_bytes(row[DIGEST_SIZE:], "big")


def _used_twice(first: int, second: int) -> StorageError:
    return StorageError(
        f"entries {first} and {second} have the same key: two times for one commitment",
        hint="do not continue this ledger; keep a copy of it as evidence",
    )
