"""What came and left, by destination and month, and what the month's traffic allows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from bistro.errors import RelayFullError, UnavailableError
from bistro.instant import UnixMillis
from bistro.storage.database import Database
from bistro_relay.metrics import RelayMetrics
from bistro_relay.services.accounts import Accounts, month_of
from bistro_relay.store.accounts import Account, AccountStore
from bistro_relay.store.schema import open_database
from tests.support.clocks import ManualClock

A, B = "a.example", "b.example"
DAY_MS = 86_400_000


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    found = await open_database(tmp_path)
    yield found
    await found.close()


def opened(database: Database, clock: ManualClock, limit: int | None = None) -> Accounts:
    metrics = RelayMetrics.register(CollectorRegistry())
    return Accounts(AccountStore(database), clock, traffic_bytes=limit, metrics=metrics)


@given(st.integers(0, 4_102_444_800_000))
def test_a_month_is_that_of_utc_and_the_next_begins_when_it_ends(now: int) -> None:
    """To the millisecond, for every time of this century."""
    month, ends = month_of(UnixMillis(now))
    assert month == datetime.fromtimestamp(now / 1_000, UTC).strftime("%Y-%m")
    assert now < ends
    assert month_of(UnixMillis(ends - 1))[0] == month
    assert month_of(ends)[0] > month


async def test_counts_are_found_again_by_the_next_process(database: Database) -> None:
    """Saved is saved, and a second save of nothing new changes nothing."""
    clock = ManualClock()
    before = opened(database, clock)
    before.received(A, 10)
    before.received(A, 5)
    before.sent(B, 7)
    await before.save()
    await before.save()
    after = opened(database, clock)
    await after.load()
    assert after.accounts() == before.accounts()
    assert after.accounts("2026-11") == [
        Account(A, "2026-11", 15, 0),
        Account(B, "2026-11", 0, 7),
    ]
    assert after.traffic == 22


async def test_a_new_month_begins_with_nothing_and_the_old_one_stays(database: Database) -> None:
    """Of the bill of December, November is no part; the statement has both."""
    clock = ManualClock()
    accounts = opened(database, clock, limit=100)
    accounts.received(A, 60)
    clock.advance(9 * DAY_MS)
    assert accounts.traffic == 0
    accounts.received(A, 1)
    assert [(one.month, one.accepted_bytes) for one in accounts.accounts()] == [
        ("2026-11", 60),
        ("2026-12", 1),
    ]


async def test_what_is_taken_can_always_be_handed_over(database: Database) -> None:
    """Each fragment is taken only with traffic for its way out, and for what is owed already."""
    accounts = opened(database, ManualClock(), limit=100)
    accounts.require_taking(50, owed=0)
    with pytest.raises(RelayFullError):
        accounts.require_taking(51, owed=0)
    accounts.received(A, 30)
    accounts.require_taking(20, owed=30)
    with pytest.raises(RelayFullError):
        accounts.require_taking(21, owed=30)


async def test_fetching_again_never_uses_up_what_is_owed_to_others(database: Database) -> None:
    """Whoever asks twice is told to come back next month, before others suffer."""
    clock = ManualClock()
    accounts = opened(database, clock, limit=100)
    accounts.received(A, 30)
    accounts.received(B, 20)
    accounts.sent(A, 30)
    accounts.require_leaving(0, owed_to_others=20)
    with pytest.raises(UnavailableError) as refused:
        accounts.require_leaving(1, owed_to_others=20)
    assert refused.value.retry_after_s is not None
    assert 8 * DAY_MS < refused.value.retry_after_s * 1_000 <= 9 * DAY_MS
    accounts.require_leaving(20, owed_to_others=0)


async def test_a_count_that_could_not_be_written_is_written_later(database: Database) -> None:
    """A failed save forgets nothing."""
    accounts = opened(database, ManualClock())
    accounts.received(A, 10)
    async with database.transaction() as tx:
        await tx.execute("ALTER TABLE account RENAME TO elsewhere")
    with pytest.raises(Exception, match="account"):
        await accounts.save()
    async with database.transaction() as tx:
        await tx.execute("ALTER TABLE elsewhere RENAME TO account")
    await accounts.save()
    assert await AccountStore(database).load() == accounts.accounts()
