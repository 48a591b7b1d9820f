"""Small fragments where a disk, memory, a connection or a share comes to its end."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bistro.errors import StorageError
from tests.support.disks import FaultyDisk
from tests.support.paper import Sealed
from tests.support.relays import (
    Site,
    allowed_relay,
    eventually,
    relay_site,
    serving_relay,
)
from tests.support.small_fragments import fetched, line_to, receipt_of, staging


async def test_a_request_that_does_not_come_to_its_end_costs_no_memory_for_long(
    site: Site,
) -> None:
    """It crawls; the rest may come slowly."""
    await site.relay.stage(site.call, Sealed(9))
    whole = site.relay.services.whole
    free = whole._memory
    line = await line_to(site.relay)
    data = staging(site.call, Sealed(1))
    line.send(data[:-1])
    await eventually(lambda: whole._memory < free)
    line.send(b"")
    await eventually(lambda: site.relay.services.gate.count == 1)
    status, fields, _ = await line.ask(data[-1:])
    assert status == 201
    assert receipt_of(fields).commitment == Sealed(1).commitment
    line.close()
    await eventually(lambda: whole._memory == free)
    assert site.relay.services.gate.count == 0


async def test_who_hangs_up_harms_nobody(site: Site) -> None:
    """Before, within and after a request; the others are answered, nothing stays taken."""
    await site.relay.stage(site.call, Sealed(99))
    free = site.relay.services.whole._memory
    good = await line_to(site.relay)
    for number in range(12):
        bad = await line_to(site.relay)
        data = staging(site.call, Sealed(number))
        bad.send(data[: number * len(data) // 11])
        await bad.drain()
        bad.break_off()
        status, _, _ = await good.ask(staging(site.call, Sealed(100 + number)))
        assert status == 201
    good.close()
    await eventually(lambda: site.relay.services.whole._memory == free)
    await eventually(lambda: site.relay.services.gate.count == 0)
    assert not site.relay.task.done()


async def test_an_io_error_is_answered_and_stops_the_relay(tmp_path: Path) -> None:
    """500 for whoever waits; nothing may be promised over a disk that fails."""
    async with allowed_relay(tmp_path) as (settings, call):
        disk = FaultyDisk()
        async with serving_relay(settings, disk=disk) as relay:
            await relay.stage(call, Sealed(1))
            line = await line_to(relay)
            disk.fail_at(0, "not-stored")
            status, _, _ = await line.ask(staging(call, Sealed(2)))
            assert status in {500, 503}
            await asyncio.wait({relay.task})
            line.close()
        assert isinstance(relay.task.exception(), StorageError)
        async with serving_relay(settings) as relay:
            assert await fetched(relay, call, [Sealed(1)]) == [Sealed(1).fragment(0)]
            await relay.stage(call, Sealed(2))


async def test_a_full_disk_is_507_and_the_relay_stays(tmp_path: Path) -> None:
    """What can be kept is kept alone; then the answer is relay-full, until there is room."""
    free = 1 << 40
    async with relay_site(tmp_path, free_disk=lambda: free) as site:
        await site.relay.stage(site.call, Sealed(99))
        line = await line_to(site.relay)
        free = 100
        assert (await line.ask(staging(site.call, Sealed(1)))).status == 507
        free = 1 << 40
        assert (await line.ask(staging(site.call, Sealed(1)))).status == 201
        line.close()
        assert not site.relay.task.done()


async def test_one_address_has_its_share_of_requests(tmp_path: Path) -> None:
    """More are refused by the ordinary server, with 503."""
    async with relay_site(tmp_path, limits={"uploads_per_address_count": 1}) as site:
        await site.relay.stage(site.call, Sealed(9))
        first, second = await line_to(site.relay), await line_to(site.relay)
        data = staging(site.call, Sealed(1))
        first.send(data[:-1])
        await eventually(lambda: site.relay.services.gate.count == 1)
        status, fields, _ = await second.ask(staging(site.call, Sealed(2)))
        assert (status, "Retry-After" in fields) == (503, True)
        assert (await first.ask(data[-1:])).status == 201
        first.close()
        second.close()


async def test_a_full_relay_says_so_before_the_bytes_flow(tmp_path: Path) -> None:
    """The head alone is answered; also where the client waits to be asked for the body."""
    free = 1 << 40
    async with relay_site(tmp_path, free_disk=lambda: free) as site:
        await site.relay.stage(site.call, Sealed(99))
        free = 100
        for data in (
            staging(site.call, Sealed(1)),
            staging(site.call, Sealed(1), Expect="100-continue"),
        ):
            line = await line_to(site.relay)
            head = data[: data.index(b"\r\n\r\n") + 4]
            line.send(head)
            status, _, _ = await line.answer()
            while status == 100:
                status, _, _ = await line.answer()
            assert status == 507
            line.close()


async def test_connections_beyond_the_limit_are_closed_at_once(tmp_path: Path) -> None:
    """One address may have half of them; those that are there go on."""
    async with relay_site(tmp_path, http={"connections_count": 8}) as site:
        await site.relay.stage(site.call, Sealed(99))
        lines = [await line_to(site.relay) for _ in range(6)]
        refused = 0
        for number, line in enumerate(lines):
            try:
                status, _, _ = await line.ask(staging(site.call, Sealed(number)))
                assert status == 201
            except (ConnectionError, asyncio.IncompleteReadError):
                refused += 1
        assert 0 < refused < len(lines)
        for line in lines:
            line.close()
        await eventually(lambda: site.relay.services.gate.count == 0)
