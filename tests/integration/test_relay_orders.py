"""What an operator orders while a relay serves: drain, pause, pace, a cap on traffic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bistro.errors import RelayFullError, StorageError, UnavailableError
from bistro.instant import UnixMillis
from bistro.net.collector_client import CollectorClient
from bistro.wire.batches import BatchItem, Release, Released
from bistro_relay.services.orders import give_order
from bistro_relay.settings import Settings
from bistro_relay.store.orders import Orders, OrdersFile
from tests.support.clocks import NOON, ManualClock
from tests.support.paper import HOUR_MS, SPRING, Sealed
from tests.support.relays import Site, allowed_relay, relay_site, serving_relay


def order(site: Site, orders: Orders) -> None:
    """As a command does; the relay is made to look now."""
    OrdersFile(site.relay.settings.relay.data_path).save(orders)
    site.relay.services.orders.look()


async def fetched(
    client: CollectorClient,
    sealed: Sealed,
    offset: int = 0,
    *,
    each: Callable[[bytes], None] = lambda _: None,
) -> bytes:
    """One fragment from an offset on; ``each`` hears of every piece."""
    found = b""
    async with client.fetch_batch([BatchItem(sealed.commitment, 0, offset)]) as frames:
        async for frame in frames:
            if isinstance(frame, bytes):
                found += frame
                each(frame)
    return found


@pytest.mark.parametrize("size", [1_000, 1_200_000])
async def test_draining_takes_nothing_new_and_finishes_what_has_begun(
    tmp_path: Path, size: int
) -> None:
    """503 before bytes flow; an upload that had begun gets its receipt; undrain ends it."""
    async with relay_site(tmp_path) as site:
        relay, begun, later = site.relay, Sealed(1, size=size), Sealed(2, size=size)
        data = begun.fragment(0)
        created = await relay.create(site.call.claim(begun))
        await relay.patch(created.path, data[:100], at=0)
        order(site, Orders(draining_since=NOON))
        for body in (None, later.fragment(0)):
            refused = await relay.create(site.call.claim(later), body=body)
            assert refused.status == 503
            assert b"draining" in refused.body
        assert not (await relay.api.fetch_discovery()).accepting
        done = await relay.patch(created.path, data[100:], at=100)
        assert done.receipt is not None
        assert await fetched(relay.collector(site.call), begun) == data
        order(site, Orders())
        await relay.stage(site.call, later)


async def test_what_is_held_already_is_answered_while_draining(tmp_path: Path) -> None:
    """A client whose answer was lost learns that it is done."""
    async with relay_site(tmp_path) as site:
        sealed = Sealed(1)
        await site.relay.stage(site.call, sealed)
        order(site, Orders(draining_since=NOON))
        again = await site.relay.create(site.call.claim(sealed), body=sealed.fragment(0))
        assert again.status == 201
        assert again.receipt is not None


async def test_orders_outlive_the_process(tmp_path: Path) -> None:
    """An upload begun before drain and restart is finished after both."""
    async with allowed_relay(tmp_path) as (settings, call):
        sealed = Sealed(1, size=3_000_000)
        async with serving_relay(settings) as relay:
            created = await relay.create(call.claim(sealed))
            await relay.patch(created.path, sealed.fragment(0)[:1_000_000], at=0)
            OrdersFile(settings.relay.data_path).save(Orders(draining_since=NOON))
        async with serving_relay(settings) as relay:
            assert relay.services.orders.is_draining
            at = (await relay.ask("HEAD", created.path)).offset
            done = await relay.patch(created.path, sealed.fragment(0)[at:], at=at)
            assert done.receipt is not None


async def test_a_paused_relay_says_when_to_come_back_and_still_lists_and_releases(
    tmp_path: Path,
) -> None:
    """Only the bytes rest."""
    async with relay_site(tmp_path) as site:
        sealed = Sealed(1)
        await site.relay.stage(site.call, sealed)
        order(site, Orders(paused_until=UnixMillis(NOON + HOUR_MS)))
        client = site.relay.collector(site.call)
        with pytest.raises(UnavailableError) as refused:
            await fetched(client, sealed)
        assert refused.value.retry_after_s == HOUR_MS / 1_000
        assert len(await client.fetch_staged()) == 1
        site.relay.clock.advance(HOUR_MS)
        assert await fetched(client, sealed) == sealed.fragment(0)
        digest = sealed.cut.descriptors[0].fragment_hash
        order(site, Orders(paused_until=UnixMillis(NOON + 2 * HOUR_MS)))
        release = Release(SPRING, sealed.commitment, 0, digest)
        assert await client.release([release]) == (Released(),)


async def test_a_stream_is_cut_when_a_pause_begins_and_goes_on_where_it_was(
    tmp_path: Path,
) -> None:
    """What was read is good, and the rest comes from that offset."""
    rate = {"bytes_per_s": 1_000_000}
    async with relay_site(tmp_path, collection=rate) as site:
        sealed = Sealed(1, size=3_000_000)
        data = sealed.fragment(0)
        await site.relay.stage(site.call, sealed)
        client = site.relay.collector(site.call)
        found: list[bytes] = []

        def pause(piece: bytes) -> None:
            found.append(piece)
            order(site, Orders(paused_until=UnixMillis(NOON + HOUR_MS)))

        with pytest.raises(UnavailableError):
            await fetched(client, sealed, each=pause)
        read = b"".join(found)
        assert 0 < len(read) < len(data)
        site.relay.clock.advance(HOUR_MS)
        go_on = site.relay.clock.advance
        rest = await fetched(client, sealed, len(read), each=lambda _: go_on(1_000))
        assert read + rest == data


async def test_quiet_hours_of_the_settings_count_by_their_zone(tmp_path: Path) -> None:
    """At noon of UTC it is one in the afternoon in Berlin."""
    quiet = {"quiet_hours": ["13:00-14:00"], "time_zone": "Europe/Berlin"}
    async with relay_site(tmp_path, collection=quiet) as site:
        sealed = Sealed(1)
        await site.relay.stage(site.call, sealed)
        client = site.relay.collector(site.call)
        with pytest.raises(UnavailableError):
            await fetched(client, sealed)
        site.relay.clock.advance(HOUR_MS)
        assert await fetched(client, sealed) == sealed.fragment(0)


async def test_the_cap_on_traffic_turns_uploads_away_and_never_what_was_promised(
    tmp_path: Path,
) -> None:
    """A fragment costs its way in and its way out; a new month begins anew."""
    one, two = Sealed(1), Sealed(2)
    size = len(one.fragment(0))
    async with relay_site(tmp_path, limits={"traffic_bytes": 3 * size}) as site:
        await site.relay.stage(site.call, one)
        with pytest.raises(RelayFullError):
            await site.relay.stage(site.call, two)
        client = site.relay.collector(site.call)
        assert await fetched(client, one) == one.fragment(0)
        assert await fetched(client, one) == one.fragment(0)
        with pytest.raises(UnavailableError):
            await fetched(client, one)
        site.relay.clock.advance(9 * 24 * HOUR_MS)
        assert await fetched(client, one) == one.fragment(0)


async def test_counts_of_traffic_survive_a_restart(tmp_path: Path) -> None:
    """The cap is that of the month, not of the process."""
    async with allowed_relay(tmp_path) as (settings, call):
        clock = ManualClock()
        async with serving_relay(settings, clock) as relay:
            await relay.stage(call, Sealed(1))
            used = relay.services.accounts.traffic
        assert used == len(Sealed(1).fragment(0))
        async with serving_relay(replace_limits(settings, used), clock) as relay:
            assert relay.services.accounts.traffic == used
            with pytest.raises(RelayFullError):
                await relay.stage(call, Sealed(2))


def replace_limits(settings: Settings, traffic_bytes: int) -> Settings:
    limits = settings.limits.model_copy(update={"traffic_bytes": traffic_bytes})
    return settings.model_copy(update={"limits": limits})


def test_commands_change_one_order_and_leave_the_other(tmp_path: Path) -> None:
    """Draining twice keeps the first time; a pause does not end it."""
    file = OrdersFile(tmp_path)
    give_order(tmp_path, draining_since=NOON)
    give_order(tmp_path, draining_since=UnixMillis(NOON + 1))
    give_order(tmp_path, paused_until=UnixMillis(NOON + 2))
    assert file.load() == Orders(NOON, UnixMillis(NOON + 2))
    give_order(tmp_path, draining_since=None)
    assert file.load() == Orders(None, UnixMillis(NOON + 2))
    give_order(tmp_path, paused_until=None)
    assert file.load() == Orders()


def test_a_file_that_holds_no_orders_is_named(tmp_path: Path) -> None:
    """A relay does not guess what was meant."""
    (tmp_path / "orders.json").write_bytes(b"{}")
    with pytest.raises(StorageError, match=r"orders\.json"):
        OrdersFile(tmp_path).load()
