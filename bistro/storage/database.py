"""One SQLite connection a process, with transactions that coroutines cannot mix up.

Coroutines that share a connection without a lock roll back each other's acknowledged rows.
Here every change runs inside ``transaction()``: one at a time, each in its own savepoint, and
those that wait at the same time share one commit (an fsync is what a commit costs). The block
is left only when the commit has returned, so whatever follows it may be acknowledged.

A read outside a transaction takes its turn in the same queue, and never returns rows that are
not yet committed: if it meets an open group it waits for that group's commit.

Source: docs/spec/storage.md.
"""

from __future__ import annotations

import asyncio
import copy
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal, Self, TypeVar

import aiosqlite

from bistro.errors import StorageError, UnavailableError
from bistro.storage.finishing import finish
from bistro.storage.sqlite import Parameters, Row, SqliteErrors, statements_of

__all__ = ["Database", "JournalMode", "Parameters", "Row", "Transaction"]

JournalMode = Literal["DELETE", "WAL"]
T = TypeVar("T")

_SYNCHRONOUS = {"DELETE": "EXTRA", "WAL": "FULL"}
"""What makes a commit durable: a rollback journal needs its directory synced as well."""


class _Group:
    """Transactions that share one commit."""

    is_settled = False
    failure: StorageError | UnavailableError | None = None


class Transaction:
    """What can be done inside a ``Database.transaction()`` block, and only there."""

    def __init__(self, connection: aiosqlite.Connection, errors: SqliteErrors) -> None:
        self._connection = connection
        self._errors = errors

    async def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Run one statement; the number of rows it changed.

        Raises:
            ConflictError: A constraint does not hold.
            UnavailableError: Another process holds the database.
            StorageError: The database failed.
        """
        with self._errors:
            async with self._connection.execute(sql, parameters) as cursor:
                return cursor.rowcount

    async def execute_many(self, sql: str, rows: Sequence[Parameters]) -> int:
        """Run one statement for each of ``rows``; the number of rows changed in all."""
        with self._errors:
            async with self._connection.executemany(sql, rows) as cursor:
                return cursor.rowcount

    async def fetch_all(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """All rows of a query, or of a statement with ``RETURNING``; give it a ``LIMIT``."""
        with self._errors:
            return list(await self._connection.execute_fetchall(sql, parameters))

    async def fetch_one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        """The first row, or ``None``."""
        rows = await self.fetch_all(sql, parameters)
        return rows[0] if rows else None


class Database:
    """An open database; obtained from ``open``, given back by ``close``.

    Attributes:
        path: The database file.
    """

    def __init__(self, path: Path, connection: aiosqlite.Connection) -> None:
        self.path = path
        self._connection = connection
        self._errors = SqliteErrors(path)
        self._turn = asyncio.Lock()
        self._group: _Group | None = None

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        migrations: Sequence[str],
        journal_mode: JournalMode = "WAL",
        busy_timeout_ms: int = 5_000,
    ) -> Self:
        """Open or make the database and bring its schema up to date.

        Args:
            path: Its directory exists.
            migrations: SQL scripts, never edited, only added to; the n-th leads to version n.
            journal_mode: ``WAL`` where one process uses the file, ``DELETE`` where several do.
            busy_timeout_ms: How long to wait for another process.

        Raises:
            UnavailableError: Another process holds the database.
            StorageError: No database, a newer schema than ``migrations``, or a failing disk.
        """
        with SqliteErrors(path):
            # A connect of aiosqlite that fails leaves its thread behind, so fail before it.
            await asyncio.to_thread(_probe, path)
            connection = await aiosqlite.connect(
                path, isolation_level=None, timeout=busy_timeout_ms / 1_000
            )
        database = cls(path, connection)
        try:
            await database._prepare(migrations, journal_mode)
        except BaseException:
            await connection.close()
            raise
        return database

    async def _prepare(self, migrations: Sequence[str], journal_mode: JournalMode) -> None:
        self._connection.row_factory = Row
        session = Transaction(self._connection, self._errors)
        found = await session.fetch_one(f"PRAGMA journal_mode = {journal_mode}")
        if found is None or str(found[0]).upper() != journal_mode:
            raise StorageError(f"{self.path}: expected journal mode {journal_mode}, found {found}")
        await session.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[journal_mode]}")
        await session.execute("PRAGMA foreign_keys = ON")
        for target, script in enumerate(migrations, start=1):
            # Asked anew inside each transaction: another process may have been faster.
            async with self.transaction() as transaction:
                if await self._version(transaction) < target:
                    for statement in statements_of(script):
                        await transaction.execute(statement)
                    await transaction.execute(f"PRAGMA user_version = {target}")
        version = await self._version(session)
        if version > len(migrations):
            raise StorageError(
                f"{self.path}: expected schema version {len(migrations)} or less, found {version}",
                hint="start the newer program that has used this database",
            )

    async def _version(self, session: Transaction) -> int:
        row = await session.fetch_one("PRAGMA user_version")
        return int(row[0]) if row is not None else 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Run a block whose changes all last when it has ended, or none if it raises.

        Keep the block short and free of waiting for anything but the database: every other
        coroutine waits meanwhile.

        Raises:
            UnavailableError: Another process holds the database; nothing was changed.
            StorageError: The commit failed: the changes may or may not last.
        """
        async with self._turn:
            try:
                group = await finish(self._begin())
                yield Transaction(self._connection, self._errors)
            except BaseException:
                await finish(self._abort())
                raise
        await self._await_commit(group)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function in the connection's thread, as a transaction and a commit of its own.

        Cheaper than ``transaction`` for those who gather many changes themselves: nothing
        passes between threads but the whole.

        Args:
            work: Changes rows; what it raises takes all of them back.

        Raises:
            ConflictError: A constraint does not hold; nothing was changed.
            UnavailableError: Another process holds the database; nothing was changed.
            StorageError: The commit failed: the changes may or may not last.
        """
        async with self._turn:
            if self._group is not None:
                await finish(self._commit(self._group))
            with self._errors:
                return await finish(self._in_thread(work))

    async def _in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection
        # What aiosqlite's own methods call: there is no public way to its thread.
        result: T = await connection._execute(_run, connection._conn, work)  # type: ignore[no-untyped-call]  # noqa: SLF001
        return result

    async def fetch_all(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """All rows of a query, none of them uncommitted; give it a ``LIMIT``.

        Raises:
            UnavailableError: Another process holds the database.
            StorageError: The database failed.
        """
        async with self._turn:
            group = self._group
            rows = await Transaction(self._connection, self._errors).fetch_all(sql, parameters)
        if group is not None:
            await self._await_commit(group)
        return rows

    async def fetch_one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        """The first row, or ``None``; see ``fetch_all``."""
        rows = await self.fetch_all(sql, parameters)
        return rows[0] if rows else None

    async def close(self) -> None:
        """Close after the block that runs now; a group that is still open is committed."""
        async with self._turn:
            if self._group is not None:
                await finish(self._commit(self._group))
            await self._connection.close()

    async def _run(self, sql: str) -> None:
        with self._errors:
            await self._connection.execute(sql)

    async def _begin(self) -> _Group:
        """Join the open group, or open one; then mark where this member begins.

        The savepoint is never released: the commit does that, and a released one could not be
        told from a kept one after a failure.
        """
        if self._group is None:
            await self._run("BEGIN IMMEDIATE")
            self._group = _Group()
        await self._run("SAVEPOINT member")
        return self._group

    async def _abort(self) -> None:
        """Take back what this member did; commit what the others in its group did."""
        group = self._group
        if group is None:
            return
        if self._connection.in_transaction:
            await self._run("ROLLBACK TO member")
            await self._commit(group)
        else:
            # Some errors (a full disk) make SQLite roll back everything, the others' rows too:
            # asking again is right, and is refused where the medium has failed.
            rolled_back = f"{self.path}: the transaction was rolled back"
            self._settle(group, UnavailableError(rolled_back, retry_after_s=1.0))

    async def _await_commit(self, group: _Group) -> None:
        """Return when ``group`` is committed.

        The lock is fair: whoever waited for it while a member ran comes first and joins the
        group, then the first member gets here and commits for all of them.
        """
        cancelled: asyncio.CancelledError | None = None
        while not group.is_settled:
            try:
                async with self._turn:
                    if not group.is_settled:
                        await finish(self._commit(group))
            except asyncio.CancelledError as exc:
                # An open group would keep other processes out: commit first, then leave.
                cancelled = exc
        if cancelled is not None:
            raise cancelled
        if group.failure is not None:
            raise copy.copy(group.failure) from group.failure

    async def _commit(self, group: _Group) -> None:
        try:
            # A crash before this returns leaves the group whole or absent; nobody was answered.
            await self._run("COMMIT")
        except (StorageError, UnavailableError) as exc:
            with suppress(sqlite3.Error):
                await self._connection.rollback()
            self._settle(group, exc)
        else:
            self._settle(group)

    def _settle(
        self, group: _Group, failure: StorageError | UnavailableError | None = None
    ) -> None:
        group.is_settled = True
        group.failure = failure
        self._group = None


def _run(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        # A crash before this returns leaves all of it or nothing; nobody was answered.
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def _probe(path: Path) -> None:
    sqlite3.connect(path).close()
