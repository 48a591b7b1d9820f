"""Rows are found by an index, whatever their number: a scan each second would stop a relay."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.protocol.transfer import TransferState
from bistro.storage.database import Database
from bistro_relay.store.placing import PlacedUploads
from bistro_relay.store.schema import FILE_NAME, MIGRATIONS, open_database
from bistro_relay.store.uploads import UploadStore

ORIGIN = Origin("permits.example", "spring")
NOW = UnixMillis(5)

LOOKS: dict[str, Callable[[UploadStore, PlacedUploads], Awaitable[object]]] = {
    "complete": lambda uploads, _: uploads.list_complete(),
    "expired": lambda uploads, _: uploads.list_expired(NOW),
    "shorter": lambda uploads, _: uploads.list_held_shorter(ORIGIN, NOW),
    "forget": lambda uploads, _: uploads.forget_ended(NOW),
    "named": lambda uploads, _: uploads.list_named("01"),
    "all": lambda uploads, _: uploads.find_all(["01", "02"]),
    "custody": lambda uploads, _: uploads.find_custody(ORIGIN, bytes(32), 1),
    "custodies": lambda _, placed: placed.find_custodies(ORIGIN, [(bytes(32), 1)] * 500),
    "live": lambda _, placed: placed.live_in(1, limit=5),
    "places": lambda _, placed: placed.live_places(1),
}


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    found = await open_database(tmp_path)
    yield found
    await found.close()


@pytest.mark.parametrize("look", LOOKS)
async def test_nothing_that_is_asked_often_looks_at_all_rows(
    database: Database, tmp_path: Path, look: str
) -> None:
    """Not one step of any plan scans uploads, but for an index of few rows."""
    asked: list[str] = []
    await database._connection.set_trace_callback(asked.append)
    await LOOKS[look](UploadStore(database), PlacedUploads(database))
    statements = [sql for sql in asked if "upload" in sql]
    assert statements
    plain = sqlite3.connect(tmp_path / FILE_NAME)
    for sql in statements:
        for *_, step in plain.execute("EXPLAIN QUERY PLAN " + sql):
            assert "state=?" not in step, step
            assert not step.startswith("SCAN upload") or "upload_complete" in step, step
    plain.close()


async def test_what_a_start_counts_is_read_from_indexes(database: Database, tmp_path: Path) -> None:
    """A million rows are a gigabyte; their indexes are a tenth of it."""
    asked: list[str] = []
    await database._connection.set_trace_callback(asked.append)
    assert not [tally async for tally in UploadStore(database).tally()]
    await PlacedUploads(database).loads()
    plain = sqlite3.connect(tmp_path / FILE_NAME)
    for sql in asked:
        steps = [step for *_, step in plain.execute("EXPLAIN QUERY PLAN " + sql)]
        assert any("COVERING INDEX" in step for step in steps), steps
    plain.close()


async def test_rows_of_the_first_schema_are_taken_over(tmp_path: Path) -> None:
    """Held and receiving uploads, and their cursors."""
    old = await Database.open(tmp_path / FILE_NAME, migrations=MIGRATIONS[:1], journal_mode="WAL")
    row = ("permits.example", "spring", bytes(32), b"claim", 7, bytes(32))
    async with old.transaction() as tx:
        for name, state, hold in (("held", "held", 9), ("coming", "receiving", None)):
            await tx.execute(
                "INSERT INTO upload (id, server, call, commitment, claim, size, sha256, "
                "fragment, state, offset, expires_at, hold_until, changed_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, 0, 1, ?, 1)",
                (name, *row, state, hold),
            )
        await tx.execute(
            "INSERT INTO staged (cursor, upload, server, call) "
            "VALUES (41, 'held', 'permits.example', 'spring')"
        )
    await old.close()
    new = await open_database(tmp_path)
    uploads = UploadStore(new)
    held, coming = await uploads.find("held"), await uploads.find("coming")
    assert held is not None
    assert coming is not None
    assert (held.claim, held.place, held.transfer.hold_until) == (b"claim", None, 9)
    assert coming.transfer.state is TransferState.RECEIVING
    (shown,) = await uploads.staged(ORIGIN, after=0, limit=9)
    assert (shown.cursor, shown.claim) == (41, b"claim")
    assert await new.fetch_all("PRAGMA foreign_key_check") == []
    await new.close()
