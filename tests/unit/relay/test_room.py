"""Quotas, room on the disk, and open requests."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from bistro.errors import OverloadedError, RelayFullError, StorageError
from bistro.storage.database import Database
from bistro_relay.metrics import RelayMetrics
from bistro_relay.services.accounts import Accounts
from bistro_relay.services.room import Gate, Room, SampledDisk, full_answered
from bistro_relay.store.accounts import AccountStore
from bistro_relay.store.segments import is_full
from tests.support.clocks import ManualClock


def room(free: int, reserve: int = 0, traffic: int | None = None) -> Room:
    metrics = RelayMetrics.register(CollectorRegistry())
    # Nothing is saved here, so there is no database.
    store = AccountStore(cast("Database", None))
    accounts = Accounts(store, ManualClock(), traffic_bytes=traffic, metrics=metrics)
    return Room(lambda: free, accounts, reserve_bytes=reserve, metrics=metrics)


def test_the_last_byte_of_a_quota_may_be_used() -> None:
    """Exactly the quota fits, one byte more does not; others are not concerned."""
    found = room(1_000)
    found.reserve("a.example", 100, quota_bytes=100)
    with pytest.raises(RelayFullError):
        found.reserve("a.example", 1, quota_bytes=100)
    found.reserve("b.example", 1, quota_bytes=100)


def test_the_reserve_is_never_given_away() -> None:
    """Ledgers and database keep their room when fragments have none."""
    found = room(1_000, reserve=900)
    found.reserve("a.example", 100, quota_bytes=None)
    with pytest.raises(RelayFullError):
        found.reserve("a.example", 1, quota_bytes=None)
    assert found.free_bytes() == 0


def test_room_is_given_only_where_traffic_is_left_for_the_way_out() -> None:
    """What is promised room must come and leave; what is given back is owed no more."""
    found = room(10_000, traffic=1_000)
    found.reserve("a.example", 200, quota_bytes=None)
    with pytest.raises(RelayFullError):
        found.reserve("b.example", 301, quota_bytes=None)
    found.reserve("b.example", 300, quota_bytes=None)
    found.fill("b.example", 300)
    assert found.owed_to_others("a.example") == 300
    found.give_back("b.example", size=300)
    found.require("b.example", 150, quota_bytes=None)
    with pytest.raises(RelayFullError):
        found.require("b.example", 151, quota_bytes=None)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), max_size=30))
def test_what_is_given_back_can_be_used_again(uploads: list[tuple[int, int]]) -> None:
    """Whatever happens to uploads, nothing of their reservations stays behind."""
    found = room(10_000)
    for size, received in uploads:
        written = min(received, size)
        found.reserve("a.example", size, quota_bytes=None)
        found.fill("a.example", written)
        assert found.free_bytes() == 10_000 - (size - written)
        found.give_back("a.example", size=size, missing_size=size - written)
    assert found.used("a.example") == 0
    assert found.free_bytes() == 10_000


def test_the_gate_counts_requests_in_all_and_by_address() -> None:
    """Whoever leaves makes room, also by an error."""
    gate = Gate(2, per_address=1)
    with gate.entered("a"):
        assert gate.load == 500
        with pytest.raises(OverloadedError), gate.entered("a"):
            pass
        with gate.entered("b"), pytest.raises(OverloadedError), gate.entered("c"):
            pass
        with pytest.raises(KeyError), gate.entered(None):
            raise KeyError
    assert gate.load == 0


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (OSError(errno.ENOSPC, "full"), True),
        (OSError(errno.EDQUOT, "full"), True),
        (OSError(errno.EIO, "broken"), False),
        (None, False),
    ],
)
def test_a_full_disk_is_told_from_a_broken_one(cause: OSError | None, *, expected: bool) -> None:
    """The first is answered 507, the second stops the relay."""
    error = StorageError("write")
    error.__cause__ = cause
    assert is_full(error) is expected
    with pytest.raises(RelayFullError if expected else StorageError), full_answered():
        raise error


def test_a_full_database_is_a_full_disk() -> None:
    """SQLite has a code of its own for it."""
    database = sqlite3.connect(":memory:")
    database.execute("PRAGMA max_page_count = 1")
    with pytest.raises(sqlite3.OperationalError) as found:
        database.execute("CREATE TABLE t (x)")
    database.close()
    assert is_full(found.value)


def test_a_disk_is_looked_at_once_in_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen a moment ago is believed, and no longer."""
    free, clock = [100], ManualClock()
    monkeypatch.setattr("bistro_relay.services.room.free_disk_bytes", lambda _: free[0])
    disk = SampledDisk(tmp_path, clock)
    assert disk() == 100
    free[0] = 50
    clock.advance(19)
    assert disk() == 100
    clock.advance(1)
    assert disk() == 50
