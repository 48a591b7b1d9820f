"""When the next bytes of a batch stream may leave."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from bistro.errors import UnavailableError
from bistro.instant import UnixMillis
from bistro.protocol.quiet_hours import QuietHours
from bistro_relay.metrics import RelayMetrics
from bistro_relay.services.accounts import Accounts
from bistro_relay.services.orders import HandingPace, StandingOrders
from bistro_relay.services.pacing import Pacing
from bistro_relay.services.room import Room
from bistro_relay.store.accounts import AccountStore
from bistro_relay.store.orders import Orders, OrdersFile
from bistro_relay.store.schema import open_database
from tests.support.clocks import NOON, ManualClock

A = "a.example"
HOUR_MS = 3_600_000


class Bench:
    """Pacing whose sleep moves the clock."""

    def __init__(self, root: Path, store: AccountStore, pace: HandingPace, limit: int | None):
        self.clock = ManualClock()
        self.file = OrdersFile(root)
        self.slept_ms = 0
        metrics = RelayMetrics.register(CollectorRegistry())
        self.orders = StandingOrders(self.file, pace, self.clock, metrics=metrics)
        accounts = Accounts(store, self.clock, traffic_bytes=limit, metrics=metrics)
        room = Room(lambda: 1_000_000, accounts, reserve_bytes=0, metrics=metrics)
        self.pacing = Pacing(self.clock, self.orders, accounts, room, sleep=self._sleep)

    async def _sleep(self, pause_s: float) -> None:
        self.slept_ms += round(pause_s * 1_000)
        self.clock.advance(round(pause_s * 1_000))
        self.orders.look()


class Make:
    """Makes benches on one database."""

    def __init__(self, root: Path, store: AccountStore):
        self.root, self.store = root, store

    def __call__(
        self, rate: int | None = None, *quiet: str, quiet_rate: int = 0, limit: int | None = None
    ) -> Bench:
        pace = HandingPace(rate, QuietHours.parse(quiet), quiet_rate)
        return Bench(self.root, self.store, pace, limit)


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    database = await open_database(tmp_path)
    yield Make(tmp_path, AccountStore(database))
    await database.close()


async def test_without_any_rate_nothing_waits(make: Make) -> None:
    """And pieces are as large as they come."""
    bench = make()
    pacer = bench.pacing.pacer(A, None)
    assert pacer.piece_size is None
    await pacer.after(10_000_000)
    assert bench.slept_ms == 0


async def test_a_stream_keeps_its_own_rate(make: Make) -> None:
    """Ten seconds' worth takes ten seconds."""
    bench = make()
    pacer = bench.pacing.pacer(A, 10_000)
    for _ in range(100):
        await pacer.after(1_000)
    assert bench.slept_ms == 10_000


async def test_streams_share_the_common_rate(make: Make) -> None:
    """Two streams together are no faster than one."""
    bench = make(10_000)
    one, two = bench.pacing.pacer(A, None), bench.pacing.pacer("b.example", None)
    for _ in range(50):
        await one.after(1_000)
        await two.after(1_000)
    assert bench.slept_ms == 10_000


async def test_a_slow_stream_is_an_even_one(make: Make) -> None:
    """No piece takes longer than a second, down to a kilobyte a second."""
    for rate in (1_024, 20_000, 10_000_000):
        size = make(rate).pacing.pacer(A, None).piece_size
        assert size is not None
        assert size <= rate
    size = make(1_000_000).pacing.pacer(A, 5_000).piece_size
    assert size is not None
    assert size <= 5_000


async def test_quiet_hours_have_a_rate_of_their_own(make: Make) -> None:
    """It is noon: between eleven and one the other rate counts, and then the usual one."""
    bench = make(10_000, "11:00-13:00", quiet_rate=1_000)
    assert bench.pacing.bytes_per_s == 1_000
    bench.clock.advance(HOUR_MS)
    assert bench.pacing.bytes_per_s == 10_000


async def test_quiet_hours_without_a_rate_say_when_they_end(make: Make) -> None:
    """Nothing leaves, and ``Retry-After`` is the end."""
    bench = make(None, "11:00-13:00")
    with pytest.raises(UnavailableError) as refused:
        bench.pacing.require(A)
    assert refused.value.retry_after_s == HOUR_MS / 1_000
    bench.clock.advance(HOUR_MS)
    bench.pacing.require(A)


async def test_a_pause_cuts_a_stream_that_waits(make: Make) -> None:
    """Within a second, however slow the stream is; when it is over the stream goes on."""
    bench = make(1_000)
    pacer = bench.pacing.pacer(A, None)
    bench.file.save(Orders(paused_until=UnixMillis(NOON + HOUR_MS)))
    with pytest.raises(UnavailableError):
        await pacer.after(100_000)
    assert bench.slept_ms == 1_000
    bench.clock.advance(HOUR_MS)
    pacer.require()


async def test_the_longer_of_pause_and_quiet_hours_counts(make: Make) -> None:
    """Whoever comes back when told finds neither."""
    bench = make(None, "11:00-13:00")
    bench.file.save(Orders(paused_until=UnixMillis(NOON + 2 * HOUR_MS)))
    bench.orders.look()
    assert bench.orders.rest_ends_at() == NOON + 2 * HOUR_MS
    assert bench.orders.state == "paused"


async def test_traffic_that_is_used_up_cuts_a_stream(make: Make) -> None:
    """What is counted and over the cap does not leave any more."""
    bench = make(limit=100)
    bench.pacing.count(A, 100)
    bench.pacing.require(A)
    with pytest.raises(UnavailableError):
        bench.pacing.require(A, 1)
