"""The duplicate index: which entry has a key; derived, and rebuilt if it is lost.

It covers what has been published; the keys of newer entries are in the ledger's memory. With
its rows it records, in the same commit, how far it reaches in the write-ahead file, so after
any crash the rest is read from there.

Source: docs/spec/storage.md, duplicate index.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Self

from bistro.errors import StorageError
from bistro.storage.sqlite import SqliteErrors

SCHEMA_VERSION: Final = 1

_ASKED_AT_ONCE = 500
_SCHEMA = """
CREATE TABLE seen (key BLOB PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE reach (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL,
  record_size INTEGER NOT NULL, record_offset INTEGER NOT NULL);
PRAGMA user_version = 1;
"""


class Reach(NamedTuple):
    """How far an index reaches.

    Attributes:
        size: It holds the keys of all entries below this index.
        record_size: Size of the ledger at a record boundary at or before ``size``.
        record_offset: That boundary's offset in the write-ahead file; 0: its beginning.
    """

    size: int
    record_size: int
    record_offset: int


class DuplicateIndex:
    """Keys and the indexes of their entries; usable from any thread, one at a time.

    Attributes:
        reach: How far it reaches.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._errors = SqliteErrors(path)
        self._lock = threading.Lock()
        self.reach = Reach(0, 0, 0)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the index; one that is missing, damaged or of another version is made anew.

        Raises:
            StorageError: The disk failed.
        """
        try:
            return cls._open(path)
        except (StorageError, sqlite3.DatabaseError):
            for suffix in ("", "-wal", "-shm"):
                with suppress(OSError):
                    path.with_name(path.name + suffix).unlink()
        return cls._open(path)

    @classmethod
    def _open(cls, path: Path) -> Self:
        with SqliteErrors(path):
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        index = cls(connection, path)
        try:
            with index._errors:
                index._prepare()
        except BaseException:
            connection.close()
            raise
        return index

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        # The snapshot says less than this index only because a commit here is durable.
        self._connection.execute("PRAGMA synchronous = FULL")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        elif version != SCHEMA_VERSION:
            raise StorageError(f"duplicate index of version {version}, expected {SCHEMA_VERSION}")
        row = self._connection.execute(
            "SELECT size, record_size, record_offset FROM reach"
        ).fetchone()
        if row is not None:
            self.reach = Reach(*row)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """The index of the entry of each key that is known.

        Raises:
            StorageError: The disk failed.
        """
        found: dict[bytes, int] = {}
        with self._lock, self._errors:
            for begin in range(0, len(keys), _ASKED_AT_ONCE):
                asked = keys[begin : begin + _ASKED_AT_ONCE]
                marks = ",".join("?" * len(asked))
                found.update(
                    self._connection.execute(
                        f"SELECT key, position FROM seen WHERE key IN ({marks})",  # noqa: S608 - marks only
                        asked,
                    )
                )
        return found

    def add(self, rows: Iterable[tuple[bytes, int]], reach: Reach) -> None:
        """Add keys and move the reach, durably, in one step; known keys stay as they are.

        Raises:
            StorageError: All of it or nothing will be found.
        """
        with self._lock, self._errors:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", rows)
                self._connection.execute("INSERT OR REPLACE INTO reach VALUES (1, ?, ?, ?)", reach)
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
        self.reach = reach

    def close(self) -> None:
        """Close; waits for a call that is under way."""
        with self._lock:
            self._connection.close()
