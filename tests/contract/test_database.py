"""What every database behind a store promises; run against each implementation there is.

Today that is SQLite in both journal modes. Another implementation joins by adding its way of
opening to ``OPENERS``.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from bistro.errors import BistroError, ConflictError, StorageError, UnavailableError
from bistro.storage.database import Database

SCHEMA = """
CREATE TABLE ticket (
  name TEXT PRIMARY KEY, -- a comment; with a semicolon
  body TEXT NOT NULL
);
CREATE TRIGGER never AFTER DELETE ON ticket BEGIN
  INSERT INTO ticket VALUES ('deleted', 'x');
END;
"""

Opener = Callable[..., Awaitable[Database]]


async def open_wal(
    path: Path, migrations: Sequence[str] = (SCHEMA,), *, busy_timeout_ms: int = 5_000
) -> Database:
    return await Database.open(
        path, migrations=migrations, journal_mode="WAL", busy_timeout_ms=busy_timeout_ms
    )


async def open_delete(
    path: Path, migrations: Sequence[str] = (SCHEMA,), *, busy_timeout_ms: int = 5_000
) -> Database:
    return await Database.open(
        path, migrations=migrations, journal_mode="DELETE", busy_timeout_ms=busy_timeout_ms
    )


OPENERS = [open_wal, open_delete]


@pytest.fixture(params=OPENERS, ids=["wal", "delete"])
def opener(request: pytest.FixtureRequest) -> Opener:
    opener: Opener = request.param
    return opener


@pytest.fixture
async def database(opener: Opener, tmp_path: Path) -> AsyncIterator[Database]:
    database = await opener(tmp_path / "test.db")
    yield database
    await database.close()


async def insert(database: Database, name: str, body: str = "x") -> None:
    async with database.transaction() as transaction:
        await transaction.execute("INSERT INTO ticket VALUES (?, ?)", (name, body))


async def names(database: Database) -> list[str]:
    return [row["name"] for row in await database.fetch_all("SELECT name FROM ticket ORDER BY 1")]


async def test_what_was_committed_is_there_after_reopening(opener: Opener, tmp_path: Path) -> None:
    """All of a transaction, by position and by name."""
    database = await opener(tmp_path / "a.db")
    async with database.transaction() as transaction:
        assert await transaction.execute("INSERT INTO ticket VALUES ('a', 'x')") == 1
        rows = [("b", "y"), ("c", "z")]
        assert await transaction.execute_many("INSERT INTO ticket VALUES (?, ?)", rows) == 2
        row = await transaction.fetch_one("SELECT * FROM ticket WHERE name = :n", {"n": "b"})
        assert row is not None
        assert row["body"] == "y"
    await database.close()
    again = await opener(tmp_path / "a.db")
    assert await names(again) == ["a", "b", "c"]
    assert await again.fetch_one("SELECT 1 FROM ticket WHERE name = 'q'") is None
    await again.close()


async def test_a_block_that_raises_changes_nothing(database: Database) -> None:
    """Whatever it raises, and however much it had done."""

    async def attempt() -> None:
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO ticket VALUES ('a', 'x')")
            raise KeyError

    with pytest.raises(KeyError):
        await attempt()
    assert await names(database) == []


async def test_a_failing_member_of_a_group_harms_no_other(database: Database) -> None:
    """Requests that share a commit are still separate: one rolls back, the others last."""

    async def attempt(number: int) -> None:
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO ticket VALUES (?, 'x')", (f"{number:02d}",))
            await asyncio.sleep(0)
            if number % 3 == 0:
                raise KeyError(number)

    results = await asyncio.gather(*map(attempt, range(30)), return_exceptions=True)  # noqa: TID251
    assert [type(result) for result in results] == [
        KeyError if number % 3 == 0 else type(None) for number in range(30)
    ]
    assert await names(database) == [f"{number:02d}" for number in range(30) if number % 3]


async def test_waiting_transactions_share_commits(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred at once cost a few commits, not a hundred."""
    commits: list[str] = []
    run = Database._run

    async def counted(self: Database, sql: str) -> None:
        commits.extend([sql] if sql == "COMMIT" else [])
        await run(self, sql)

    monkeypatch.setattr(Database, "_run", counted)
    async with asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(insert(database, str(number)))
    assert len(await names(database)) == 100
    assert len(commits) <= 5


async def test_nobody_returns_before_the_commit(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members of a group, and readers that saw its rows, all wait for the commit."""
    returned: list[str] = []
    run = Database._run

    async def watched(self: Database, sql: str) -> None:
        if sql == "COMMIT":
            assert returned == []
        await run(self, sql)

    monkeypatch.setattr(Database, "_run", watched)

    async def write(name: str) -> None:
        await insert(database, name)
        returned.append(name)

    async def read() -> None:
        assert await names(database) == ["a", "b"]
        returned.append("read")

    async with asyncio.TaskGroup() as group:
        group.create_task(write("a"))
        group.create_task(write("b"))
        group.create_task(read())
    assert sorted(returned) == ["a", "b", "read"]


async def test_a_failed_commit_reaches_every_member_and_nothing_lasts(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told that a change lasts which does not."""
    run = Database._run

    async def failing(self: Database, sql: str) -> None:
        if sql == "COMMIT":
            raise StorageError("injected")
        await run(self, sql)

    monkeypatch.setattr(Database, "_run", failing)
    results = await asyncio.gather(  # noqa: TID251
        insert(database, "a"), insert(database, "b"), return_exceptions=True
    )
    assert [str(result) for result in results] == ["injected", "injected"]
    monkeypatch.undo()
    assert await names(database) == []
    await insert(database, "c")


@pytest.mark.parametrize("when", range(12))
async def test_cancelling_at_any_moment_leaves_the_database_usable(
    database: Database, when: int
) -> None:
    """Cancelled before or after its commit, a member is whole or absent; others are served."""

    async def both() -> None:
        await insert(database, "a")

    async with asyncio.TaskGroup() as group:
        task = group.create_task(both())
        group.create_task(insert(database, "b"))
        for _ in range(when * 3):
            await asyncio.sleep(0)
        task.cancel()
    await insert(database, "c")
    assert await names(database) in (["a", "b", "c"], ["b", "c"])


async def test_cancelling_inside_a_block_rolls_it_back(database: Database) -> None:
    """And what shares its group is committed."""
    inside = asyncio.Event()

    async def hold() -> None:
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO ticket VALUES ('held', 'x')")
            inside.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(hold())
        await inside.wait()
        group.create_task(insert(database, "other"))
        task.cancel()
    assert await names(database) == ["other"]


async def test_a_broken_constraint_is_a_conflict(database: Database) -> None:
    """Uniqueness is the schema's; the caller hears of it and nothing changes."""
    await insert(database, "a")
    with pytest.raises(ConflictError):
        await insert(database, "a")
    assert await names(database) == ["a"]


async def test_wrong_sql_is_a_storage_error(database: Database) -> None:
    """No foreign error passes."""
    with pytest.raises(StorageError, match="syntax error"):
        await database.fetch_all("SELEC 1")
    with pytest.raises(StorageError, match="no such table"):
        async with database.transaction() as transaction:
            await transaction.execute("DELETE FROM nowhere")


async def test_a_lock_held_elsewhere_is_unavailable_and_nothing_is_changed(
    opener: Opener, tmp_path: Path
) -> None:
    """The same request may be made again later."""
    first = await opener(tmp_path / "a.db")
    second = await opener(tmp_path / "a.db", busy_timeout_ms=10)
    async with first.transaction() as transaction:
        await transaction.execute("INSERT INTO ticket VALUES ('a', 'x')")
        with pytest.raises(UnavailableError) as caught:
            await insert(second, "b")
        assert caught.value.retry_after_s == 1.0
    await insert(second, "b")
    assert await names(first) == ["a", "b"]
    await first.close()
    await second.close()


async def test_migrations_run_once_in_order_and_newer_schemas_are_refused(
    opener: Opener, tmp_path: Path
) -> None:
    """An old program never touches what a newer one made."""
    more = "ALTER TABLE ticket ADD COLUMN note TEXT; INSERT INTO ticket VALUES ('m', 'b', 'n');"
    await (await opener(tmp_path / "a.db")).close()
    for _ in range(2):
        database = await opener(tmp_path / "a.db", (SCHEMA, more))
        assert await names(database) == ["m"]
        await database.close()
    with pytest.raises(StorageError, match="expected schema version 1 or less, found 2"):
        await opener(tmp_path / "a.db")


async def test_a_migration_that_fails_leaves_the_version_before(
    opener: Opener, tmp_path: Path
) -> None:
    """Half a migration is never found."""
    bad = "CREATE TABLE extra (a); CREATE TABLE ticket (b);"
    with pytest.raises(StorageError, match="already exists"):
        await opener(tmp_path / "a.db", (SCHEMA, bad))
    database = await opener(tmp_path / "a.db")
    with pytest.raises(StorageError, match="no such table: extra"):
        await database.fetch_all("SELECT * FROM extra")
    await database.close()


async def test_a_file_that_is_no_database_is_a_storage_error(
    opener: Opener, tmp_path: Path
) -> None:
    """It is not overwritten."""
    (tmp_path / "a.db").write_bytes(b"something else entirely, and long enough" * 100)
    with pytest.raises(StorageError):
        await opener(tmp_path / "a.db")
    assert (tmp_path / "a.db").read_bytes().startswith(b"something else")
    with pytest.raises(StorageError):
        await opener(tmp_path / "missing" / "a.db")


async def test_after_an_error_of_the_medium_everything_is_refused(
    opener: Opener, tmp_path: Path
) -> None:
    """A damaged page is not worked around: open again, which recovers, or restore."""
    path = tmp_path / "a.db"
    database = await opener(path)
    async with database.transaction() as transaction:
        rows = [(str(number), "x" * 500) for number in range(200)]
        await transaction.execute_many("INSERT INTO ticket VALUES (?, ?)", rows)
    await database.close()
    data = bytearray(path.read_bytes())
    data[4096 * 2 :] = b"\xff" * (len(data) - 4096 * 2)
    path.write_bytes(data)
    database = await opener(path)
    with pytest.raises(StorageError, match="malformed"):
        await database.fetch_all("SELECT * FROM ticket")
    with pytest.raises(StorageError, match="stopped after an earlier failure"):
        await insert(database, "b")
    await database.close()


async def test_a_closed_database_says_so(opener: Opener, tmp_path: Path) -> None:
    """A late request is an error of ours, not of a library."""
    database = await opener(tmp_path / "a.db")
    await database.close()
    with pytest.raises(BistroError):
        await names(database)


async def test_a_full_disk_rolls_back_and_reading_goes_on(database: Database) -> None:
    """The page limit stands in for the disk's."""
    await insert(database, "kept")
    await database.fetch_all("PRAGMA max_page_count = 8")
    with pytest.raises(UnavailableError, match="full") as caught:
        await insert(database, "big", "x" * 100_000)
    assert "free some space" in caught.value.hint
    assert await names(database) == ["kept"]
    await insert(database, "small")
    assert await names(database) == ["kept", "small"]


async def test_a_gathered_transaction_lasts_or_changes_nothing(database: Database) -> None:
    """One hop for all of it; a broken constraint takes everything back and harms nobody else."""

    def insert(*names: str) -> Callable[[sqlite3.Connection], int]:
        def work(connection: sqlite3.Connection) -> int:
            rows = [(name, "body") for name in names]
            return connection.executemany("INSERT INTO ticket VALUES (?, ?)", rows).rowcount

        return work

    assert await database.run(insert("a", "b")) == 2
    with pytest.raises(ConflictError):
        await database.run(insert("c", "a"))
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO ticket VALUES ('d', 'body')")
    names = [row["name"] for row in await database.fetch_all("SELECT name FROM ticket")]
    assert sorted(names) == ["a", "b", "d"]


async def test_a_gathered_transaction_does_not_mix_with_others(database: Database) -> None:
    """A group that is open is committed first; nothing of it is taken back with ours."""

    async def one(name: str) -> None:
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO ticket VALUES (?, 'body')", (name,))

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO ticket VALUES ('gone', 'body')")
        connection.execute("INSERT INTO ticket VALUES ('gone', 'body')")

    async def failing() -> None:
        with pytest.raises(ConflictError):
            await database.run(fail)

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(one(str(number)))
            group.create_task(failing())
    rows = await database.fetch_all("SELECT name FROM ticket")
    assert {row["name"] for row in rows} == {str(number) for number in range(20)}
