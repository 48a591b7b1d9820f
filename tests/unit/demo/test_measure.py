"""Meters and gates: bytes are forwarded as they are, and every one is counted once."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from bistro.instant import UnixMillis
from tests.e2e.demo.following import RequestReader
from tests.e2e.demo.measure import Gate, Meter, Transfer, modelled_rates
from tests.support.clocks import ManualClock

NOW = UnixMillis(1_790_000_000_000)
UPLOAD = b"PATCH /uploads/x HTTP/1.1\r\nContent-Length: 6\r\nUpload-Offset: 4\r\n\r\nabcdef"
COLLECT = b"GET /staged?after=0 HTTP/1.1\r\nHost: x\r\n\r\n"


def test_rates_add_channels_and_leave_out_what_lies_outside() -> None:
    """Bytes a second in each step, whatever the width of a step."""
    clock = ManualClock(NOW)
    meter = Meter(clock)
    meter.count("a", 100)
    clock.advance(600)
    meter.count("a", 50)
    meter.count("b", 7)
    clock.advance(10_000)
    meter.count("a", 1)
    end = UnixMillis(NOW + 1_000)
    assert meter.rates("a", begin=NOW, end=end, step_ms=500) == [200, 100]
    assert meter.rates("a", "b", begin=NOW, end=end, step_ms=500) == [200, 114]
    assert meter.total("a") == 151
    assert meter.total("a", until=end) == 150


@pytest.mark.parametrize("size", [1, 7, 64, 1_000])
def test_requests_are_told_apart_however_the_bytes_are_cut(size: int) -> None:
    """Bodies are skipped by their length; heads may come in pieces."""
    stream = UPLOAD + COLLECT + UPLOAD
    reader = RequestReader()
    begun = [
        request
        for at in range(0, len(stream), size)
        for request in reader.feed(stream[at : at + size])
    ]
    assert [(one.method, one.path, one.size, one.offset) for one in begun] == [
        ("PATCH", "/uploads/x", 6, 4),
        ("GET", "/staged?after=0", 0, None),
        ("PATCH", "/uploads/x", 6, 4),
    ]
    assert [one.sent for one in begun] == [6, 0, 6]


def test_a_request_under_way_knows_how_much_of_it_has_passed() -> None:
    """So a relay can be killed in the middle of an upload, and not by chance."""
    reader = RequestReader()
    reader.feed(UPLOAD[:-4])
    assert reader.current is not None
    assert (reader.current.sent, reader.current.size) == (2, 6)


async def test_a_gate_forwards_counts_and_tells_who_collects() -> None:
    """Bytes to the daemon count as its own, answers only where they go to the collector."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while head := await reader.read(1_000):
                writer.write(b"answer to " + head[:5])
        writer.close()
        ended.set()

    ended = asyncio.Event()
    daemon = await asyncio.start_server(answer, "127.0.0.1", 0)
    meter = Meter(ManualClock(NOW))
    gate = Gate("relay", meter)
    seen: list[int] = []
    gate.watch = lambda request: seen.append(request.sent)
    async with daemon, gate.open():
        gate.target = daemon.sockets[0].getsockname()[1]
        for request, told in ((UPLOAD, b"answer to PATCH"), (COLLECT, b"answer to GET /")):
            reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
            writer.write(request)
            assert await reader.readexactly(15) == told
            writer.close()
            await writer.wait_closed()
            await ended.wait()
            ended.clear()
    assert meter.total("relay") == len(UPLOAD) + len(COLLECT)
    assert meter.total("relay/collected") == 15
    assert seen == [6, 0]
    assert [one.method for one in gate.requests] == ["PATCH", "GET"]


async def test_a_gate_without_a_living_daemon_ends_connections() -> None:
    """As a machine would whose daemon is gone, not as one that keeps callers waiting."""
    gate = Gate("relay", Meter(ManualClock(NOW)))
    async with gate.open():
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


def test_modelled_transfers_keep_their_bytes() -> None:
    """What is computed for direct upload adds up to the filings' sizes."""
    transfers = [
        Transfer(UnixMillis(NOW + 250), UnixMillis(NOW + 1_250), 1_000),
        Transfer(UnixMillis(NOW + 900), UnixMillis(NOW + 900), 500),
    ]
    end = UnixMillis(NOW + 2_000)
    rates = modelled_rates(transfers, begin=NOW, end=end, step_ms=500)
    assert rates == [500, 2_000, 500, 0]
    assert sum(rates) / 2 == 1_500
