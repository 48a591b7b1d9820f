"""Small fragments that come slowly: they wait on the disk, and nothing of them stays that ended."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bistro.errors import StorageError
from bistro.wire.relay_notes import Takedown
from bistro_relay.services.takedowns import order_takedown
from bistro_relay.services.whole import MEMORY_SIZE
from tests.support.clocks import NOON
from tests.support.disks import FaultyDisk
from tests.support.lines import Line
from tests.support.paper import RELAY, SPRING, Sealed
from tests.support.relays import (
    RunningRelay,
    Site,
    allowed_relay,
    eventually,
    relay_site,
    serving_relay,
)
from tests.support.small_fragments import fetched, line_to, receipt_of, staging
from tests.support.strategies import note_key

MIB = 1_048_576


_LINES: list[Line] = []


@pytest.fixture(autouse=True)
async def _close_lines() -> AsyncIterator[None]:
    yield
    while _LINES:
        _LINES.pop().close()
    await asyncio.sleep(0)


async def crawling(relay: RunningRelay, data: bytes) -> Line:
    """A connection that has brought ``data`` while no fragment found memory."""
    line = await line_to(relay)
    _LINES.append(line)
    taken = relay.services.crawls._slots
    line.send(data)
    await eventually(lambda: relay.services.crawls._slots > taken)
    return line


def without_memory(relay: RunningRelay) -> Callable[[], None]:
    """Take all memory of fragments; what gives it back."""
    whole = relay.services.whole
    size = whole._memory
    assert whole.admit(1)
    whole._memory = 0
    return lambda: whole.give_back(size)


async def test_without_memory_a_fragment_waits_until_there_is_some(site: Site) -> None:
    """It is answered then, byte for byte what came, and its connection is closed."""
    sealed = [Sealed(n, size=2 * MIB) for n in range(3)]
    await site.relay.stage(site.call, Sealed(9))
    give_back = without_memory(site.relay)
    lines = [await crawling(site.relay, staging(site.call, one)[:-1]) for one in sealed]
    for one, line in zip(sealed, lines, strict=True):
        line.send(one.fragment(0)[-1:])
    await eventually(lambda: len(site.relay.services.crawls._ended) == 3)
    give_back()
    for one, line in zip(sealed, lines, strict=True):
        status, fields, _ = await line.answer()
        assert (status, fields["Connection"]) == (201, "close")
        assert receipt_of(fields).commitment == one.commitment
        assert await line.ended()
    assert await fetched(site.relay, site.call, sealed) == [one.fragment(0) for one in sealed]
    await eventually(lambda: site.relay.services.whole._memory == MEMORY_SIZE)
    assert not site.relay.services.crawls._slots, "the file is empty again"


async def test_pieces_of_any_size_are_put_together(site: Site) -> None:
    """Some are written together, some by themselves, and order is kept."""
    sealed = Sealed(1, size=100_000)
    await site.relay.stage(site.call, Sealed(9))
    data = staging(site.call, sealed)
    head = len(data) - len(sealed.fragment(0))
    give_back = without_memory(site.relay)
    line = await crawling(site.relay, data[: head + 3])
    give_back()
    at, size = head + 3, 1
    while at < len(data):
        line.send(data[at : at + size])
        await line.drain()
        await asyncio.sleep(0)
        at, size = at + size, min(2 * size, 9_000)
    assert (await line.answer()).status == 201
    assert await fetched(site.relay, site.call, [sealed]) == [sealed.fragment(0)]


async def test_the_last_bytes_may_come_while_others_are_written(tmp_path: Path) -> None:
    """They are written, too, before anything is read back; so it is for who hangs up then."""
    async with allowed_relay(tmp_path) as (settings, call):
        disk, goes_on = FaultyDisk(), threading.Event()
        async with serving_relay(settings, disk=disk) as relay:
            await relay.stage(call, Sealed(9))
            sealed = Sealed(1, size=100_000)
            data = staging(call, sealed)
            give_back = without_memory(relay)
            write = disk.write

            def wait(fd: int, data: bytes | memoryview, *, offset: int) -> int:
                assert goes_on.wait(20)
                return write(fd, data, offset=offset)

            disk.write = wait  # type: ignore[method-assign]
            line = await crawling(relay, data[:30_000])
            gone = await crawling(relay, staging(call, Sealed(2, size=100_000))[:30_000])
            give_back()
            line.send(data[30_000:])
            await eventually(lambda: len(relay.services.crawls._ended) == 1)
            gone.break_off()
            await eventually(lambda: relay.services.gate.count == 1)
            goes_on.set()
            assert (await line.answer()).status == 201
            assert await fetched(relay, call, [sealed]) == [sealed.fragment(0)]
            await eventually(lambda: not relay.services.crawls._slots)


async def test_who_hangs_up_leaves_nothing(site: Site) -> None:
    """Room, share and slot are free again, whatever had come."""
    await site.relay.stage(site.call, Sealed(9))
    used = site.relay.services.room.used(SPRING.server)
    without_memory(site.relay)
    data = staging(site.call, Sealed(1, size=2 * MIB))
    for size in (3_000, 40_000, len(data) - 1):
        line = await crawling(site.relay, data[:size])
        assert site.relay.services.room.used(SPRING.server) == used + MIB
        line.break_off()
        await eventually(lambda: site.relay.services.gate.count == 0)
        await eventually(lambda: not site.relay.services.crawls._slots)
        assert site.relay.services.room.used(SPRING.server) == used
    assert not site.relay.services.quotas._of_tickets


async def test_wrong_bytes_are_refused_and_forgotten(site: Site) -> None:
    """As if they had come at once."""
    sealed = Sealed(1)
    await site.relay.stage(site.call, Sealed(9))
    used = site.relay.services.room.used(SPRING.server)
    give_back = without_memory(site.relay)
    data = staging(site.call, sealed, body=bytes(len(sealed.fragment(0))))
    line = await crawling(site.relay, data[:-1])
    give_back()
    assert (await line.ask(data[-1:])).status == 460
    assert await line.ended()
    await eventually(lambda: site.relay.services.room.used(SPRING.server) == used)
    assert not site.relay.services.crawls._slots


async def test_a_held_fragment_is_answered_with_its_receipt(site: Site) -> None:
    """Its twin came while it crawled."""
    sealed = Sealed(1)
    await site.relay.stage(site.call, Sealed(9))
    give_back = without_memory(site.relay)
    data = staging(site.call, sealed)
    line = await crawling(site.relay, data[:-1])
    give_back()
    await site.relay.stage(site.call, sealed)
    used = site.relay.services.room.used(SPRING.server)
    status, fields, _ = await line.ask(data[-1:])
    assert status == 201
    assert receipt_of(fields).commitment == sealed.commitment
    await eventually(lambda: site.relay.services.room.used(SPRING.server) < used)


async def test_what_was_taken_down_meanwhile_is_refused(site: Site) -> None:
    """It was good when it began."""
    sealed = Sealed(1)
    await site.relay.stage(site.call, Sealed(9))
    give_back = without_memory(site.relay)
    data = staging(site.call, sealed)
    line = await crawling(site.relay, data[:-1])
    give_back()
    order = Takedown(
        relay=RELAY,
        at=NOON,
        origin=SPRING,
        commitment=sealed.commitment,
        fragments=None,
        reason="order 7 of a court",
    )
    order_takedown(site.relay.settings.relay.data_path, note_key(RELAY), order)
    await site.relay.services.takedowns.tick()
    assert (await line.ask(data[-1:])).status == 403
    await eventually(lambda: not site.relay.services.crawls._slots)


@pytest.mark.parametrize("least", [0, 1_000])
async def test_who_brings_too_little_is_cut_off(tmp_path: Path, least: int) -> None:
    """Nothing for the idle time, or less than must be brought once it lasts."""
    async with relay_site(tmp_path, limits={"least_bytes_per_s": least}) as site:
        relay = site.relay
        await relay.stage(site.call, Sealed(9))
        used = relay.services.room.used(SPRING.server)
        without_memory(relay)
        line = await crawling(relay, staging(site.call, Sealed(1))[:-1_000])
        for _ in range(4):
            relay.clock.advance(20_000)
            if least:
                line.send(b"\0")
                await asyncio.sleep(0)
        status, fields, _ = await line.answer()
        assert (status, fields["Connection"]) == (503, "close")
        await eventually(lambda: relay.services.room.used(SPRING.server) == used)
        await eventually(lambda: relay.services.gate.count == 0)


@pytest.mark.parametrize(("code", "status"), [(errno.ENOSPC, 507), (errno.EIO, 500)])
async def test_a_disk_that_fails_is_answered(tmp_path: Path, code: int, status: int) -> None:
    """A full one is no fault; any other stops the relay, which loses no promise by it."""
    async with allowed_relay(tmp_path) as (settings, call):
        disk = FaultyDisk()
        async with serving_relay(settings, disk=disk) as relay:
            await relay.stage(call, Sealed(9))
            without_memory(relay)
            data = staging(call, Sealed(1, size=100_000))
            write = disk.write

            def fail(fd: int, data: bytes | memoryview, *, offset: int) -> int:
                raise OSError(code, "injected")

            disk.write = fail  # type: ignore[method-assign]
            line = await line_to(relay)
            _LINES.append(line)
            answer = await line.ask(data[:-1])
            disk.write = write  # type: ignore[method-assign]
            assert (answer.status, await line.ended()) == (status, True)
            if status == 507:
                await eventually(lambda: relay.services.gate.count == 0)
                assert not relay.task.done()
            else:
                await asyncio.wait({relay.task})
                assert isinstance(relay.task.exception(), StorageError)
        async with serving_relay(settings) as relay:
            assert await fetched(relay, call, [Sealed(9)]) == [Sealed(9).fragment(0)]
            assert (await relay.stage(call, Sealed(1, size=100_000))).receipt


async def test_nothing_of_a_crawl_outlives_the_process(tmp_path: Path) -> None:
    """No file, no row, no room: nobody was told of an upload that could go on."""
    async with allowed_relay(tmp_path) as (settings, call):
        async with serving_relay(settings) as relay:
            without_memory(relay)
            await relay.stage(call, Sealed(9, size=4 * MIB))
            line = await crawling(relay, staging(call, Sealed(1, size=MIB))[:-1])
            assert not list(settings.relay.data_path.glob("waiting*"))
            line.send(b"")
        assert await line.ended()
        async with serving_relay(settings) as relay:
            rows = [tally async for tally in relay.services.uploads.tally()]
            assert [(one.state.value, one.count) for one in rows] == [("held", 1)]
