"""SQLite's errors as ours, and its scripts as statements.

A broken constraint is ``ConflictError``, a lock held by another process or a full disk
``UnavailableError``, all else ``StorageError``. After an error of the medium (a failed write or
sync, a damaged page) the connection is not to be trusted any more: it must be opened again, which
recovers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from bistro.errors import ConflictError, StorageError, UnavailableError

Parameters = Sequence[object] | Mapping[str, object]
Row = sqlite3.Row

_PRIMARY = 0xFF
_PASSING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL})
_MEDIUM = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class SqliteErrors:
    """A context that translates ``sqlite3`` errors, and remembers when the medium failed.

    Args:
        path: The database file, for messages.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failure: str | None = None

    def __enter__(self) -> None:
        """Refuse to go on after an error of the medium.

        Raises:
            StorageError: An earlier error was one of the medium.
        """
        if self._failure is not None:
            raise StorageError(
                f"{self._path}: stopped after an earlier failure ({self._failure})",
                hint="check the disk and start again",
            )

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Translate.

        Raises:
            ConflictError: A constraint does not hold.
            UnavailableError: Another process holds the database, or the disk is full: nothing
                was changed.
            StorageError: Anything else that SQLite says.
        """
        if isinstance(exc, sqlite3.IntegrityError):
            raise ConflictError(f"{self._path.name}: {exc}") from exc
        # aiosqlite says ValueError where its connection is closed.
        if isinstance(exc, sqlite3.Error) or (isinstance(exc, ValueError) and "closed" in str(exc)):
            kind = getattr(exc, "sqlite_errorcode", 0) & _PRIMARY
            if kind in _PASSING:
                hint = "free some space" if kind == sqlite3.SQLITE_FULL else ""
                raise UnavailableError(f"{self._path}: {exc}", hint=hint, retry_after_s=1) from exc
            if kind in _MEDIUM:
                self._failure = str(exc)
            raise StorageError(f"{self._path}: {exc}") from exc


def statements_of(script: str) -> Iterator[str]:
    """The statements of a script, one by one, so that they can run in one transaction.

    ``executescript`` commits first, and a crash between two statements would leave half a
    migration behind.
    """
    statement = ""
    for piece in script.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            if statement.strip(" \n\t;"):
                yield statement
            statement = ""
