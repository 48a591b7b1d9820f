"""Collecting from relays that lie, stall, break off or talk nonsense: the others make up for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from bistro.api import media
from bistro.errors import UnavailableError
from bistro.net.session import Session
from bistro.wire.batches import BatchItem, FrameHead, decode_batch_request
from bistro.wire.receipt import Receipt
from bistro.wire.staging import StagedRow, encode_staged
from bistro_server.services.collecting_relays import RelayDesk
from tests.integration.test_collecting import accounts, is_collected, repairs
from tests.support.strategies import note_key
from tests.support.world import Filing, World, world

ANNA = "anna.example"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
MEGABYTE = bytes(1 << 20)


def bytes_of(filing: Filing, item: BatchItem) -> bytes:
    return filing.fragments[item.index][item.offset :]


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": media.BATCH})
    await response.prepare(request)
    return response


def wrong_bytes(filing: Filing) -> Answer:
    """Whole frames, with other bytes than promised."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await stream(request)
        for item in decode_batch_request(await request.read()):
            data = bytes_of(filing, item)
            head = FrameHead(item.commitment, item.index, item.offset, len(data))
            await response.write(head.encode() + bytes(len(data)))
        return response

    return answer


def half(filing: Filing) -> Answer:
    """Half of the first fragment, then the connection breaks."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await stream(request)
        item = decode_batch_request(await request.read())[0]
        data = bytes_of(filing, item)
        head = FrameHead(item.commitment, item.index, item.offset, len(data))
        await response.write(head.encode() + data[: len(data) // 2])
        assert request.transport is not None
        request.transport.close()
        return response

    return answer


def endless(filing: Filing) -> Answer:
    """The right frame, and then bytes without end."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await stream(request)
        for item in decode_batch_request(await request.read()):
            data = bytes_of(filing, item)
            head = FrameHead(item.commitment, item.index, item.offset, len(data))
            await response.write(head.encode() + data)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(MEGABYTE)
        return response

    return answer


def too_long(filing: Filing) -> Answer:
    """A frame that announces half a terabyte."""
    del filing

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await stream(request)
        item = decode_batch_request(await request.read())[0]
        head = FrameHead(item.commitment, item.index, item.offset, 1 << 39)
        await response.write(head.encode())
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(MEGABYTE)
        return response

    return answer


def gone(filing: Filing) -> Answer:
    """It never heard of the fragment."""
    del filing

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await stream(request)
        for item in decode_batch_request(await request.read()):
            head = FrameHead(item.commitment, item.index, item.offset, code="unknown-object")
            await response.write(head.encode())
        return response

    return answer


def other_frames(filing: Filing) -> Answer:
    """Frames that nobody asked for."""
    del filing

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await stream(request)
        await response.write(FrameHead(bytes(32), 9, 9, 9).encode() + bytes(9))
        return response

    return answer


def garbage(filing: Filing) -> Answer:
    """Not frames at all."""
    del filing

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await stream(request)
        await response.write(b"<html>welcome</html>" * 100)
        return response

    return answer


def web_page(filing: Filing) -> Answer:
    """Another kind of answer."""
    del filing

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>captive portal</html>", content_type="text/html")

    return answer


def broken_disk(filing: Filing) -> Answer:
    """Its own disk failed: that must not look like ours."""
    del filing

    async def answer(_: web.Request) -> web.StreamResponse:
        body = '{"code":"storage","status":500,"title":"disk","type":"about:blank"}'
        return web.Response(status=500, text=body, content_type="application/problem+json")

    return answer


@contextlib.asynccontextmanager
async def in_place_of(found: World, name: str, batches: Answer) -> AsyncIterator[None]:
    """Something else answers where the relay ``name`` was, and is asked."""
    asked = 0
    await found.stop(name)

    async def noted(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return await batches(request)

    async def staged(_: web.Request) -> web.StreamResponse:
        return web.Response(body=encode_staged(()), content_type=media.MSGPACK)

    app = web.Application()
    app.router.add_get("/staged", staged)
    app.router.add_post("/batches", noted)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    port = found.relay_settings[name].http.port
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
        assert asked
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "bad",
    [
        wrong_bytes,
        half,
        endless,
        too_long,
        gone,
        other_frames,
        garbage,
        web_page,
        broken_disk,
    ],
)
async def test_a_bad_relay_keeps_nothing_from_arriving(
    tmp_path: Path, bad: Callable[[Filing], Answer]
) -> None:
    """Others give what it does not; it is released like every other when it is itself again."""
    async with world(tmp_path) as found:
        filing = await found.submit({"a": b"x" * 300_000})
        async with in_place_of(found, ANNA, bad(filing)):
            await found.collect()
            assert is_collected(found, filing)
        await found.start(ANNA)
        assert (await found.collect()).progress.unreleased_count == 0


async def test_wrong_bytes_are_kept_as_proof_beside_the_receipt(tmp_path: Path) -> None:
    """The relay signed that it holds other bytes; it is not asked for them again."""
    async with world(tmp_path) as found:
        filing = await found.submit({"a": b"x" * 1_000}, indexes=(0, 1))
        async with in_place_of(found, ANNA, wrong_bytes(filing)):
            await found.collect()
            await found.collect()
        kept = sorted((found.site.folder.root / "collecting/spring/wrong").iterdir())
        assert [path.suffix for path in kept] == [".claim", ".fragment", ".receipt"]
        assert kept[1].read_bytes() == bytes(len(filing.fragments[0]))
        receipt = Receipt.parse(kept[2].read_bytes())
        receipt.verify(note_key(ANNA).verifier, found.site.call.origin, filing.commitment)
        assert receipt.entry.fragment_hash == filing.cut.descriptors[0].fragment_hash
        gaps = (await accounts(found))[filing.commitment].gaps
        assert ("wrong-bytes", ANNA) in [(gap.code, gap.relay) for gap in gaps]
        (repair,) = await repairs(found)
        assert repair.indexes == (0, 2)
        await found.stage(filing, 2)
        await found.collect()
        assert is_collected(found, filing)


async def test_a_broken_transfer_is_continued_at_the_byte_it_reached(tmp_path: Path) -> None:
    """Also by another process, and through another answer."""
    async with world(tmp_path) as found:
        filing = await found.submit({"a": b"x" * 300_000}, indexes=(0, 1))
        async with in_place_of(found, ANNA, half(filing)):
            await found.collect()
        files = (found.site.folder.root / "collecting/spring/fragments").iterdir()
        sizes = {path.stat().st_size for path in files}
        whole = len(filing.fragments[0])
        assert whole in sizes
        assert any(0 < size < whole for size in sizes)
        await found.start(ANNA)
        await found.collect()
        assert is_collected(found, filing)


async def test_bytes_spoilt_before_a_resumption_are_fetched_anew_and_blame_nobody(
    tmp_path: Path,
) -> None:
    """A power cut may have changed what an earlier process wrote."""
    async with world(tmp_path) as found:
        filing = await found.submit({"a": b"x" * 300_000}, indexes=(0, 1))
        async with in_place_of(found, ANNA, half(filing)):
            await found.collect()
        folder = found.site.folder.root / "collecting/spring"
        whole = len(filing.fragments[0])
        for path in (folder / "fragments").iterdir():
            if path.stat().st_size < whole:
                path.write_bytes(bytes(path.stat().st_size))
        await found.start(ANNA)
        await found.collect()
        assert is_collected(found, filing)
        assert list((folder / "wrong").iterdir()) == []


class _Endless:
    """A relay that lists rows without end, or takes for ever."""

    def __init__(self, answer: Answer) -> None:
        self.app = web.Application()
        self.app.router.add_get("/staged", answer)
        self.app.router.add_post("/batches", answer)
        self.app.router.add_post("/releases", answer)


async def test_a_list_that_goes_backwards_is_refused(tmp_path: Path) -> None:
    """Rows at or before the cursor would be read for ever."""

    async def staged(_: web.Request) -> web.StreamResponse:
        rows = (StagedRow(3, b"x", 1),)  # type: ignore[arg-type]
        return web.Response(body=encode_staged(rows), content_type=media.MSGPACK)

    async with world(tmp_path) as found:
        await found.stop(ANNA)
        async with _serving(found, staged) as desk:
            assert len(await desk.staged(after=2, limit=10)) == 1
            with pytest.raises(UnavailableError, match="expected rows behind 3"):
                await desk.staged(after=3, limit=10)


async def test_a_relay_that_takes_for_ever_is_given_up(tmp_path: Path) -> None:
    """Silence and trickles are bounded by time, for every question."""

    async def trickle(request: web.Request) -> web.StreamResponse:
        response = await stream(request)
        # A fragment that never ends, so that a batch is not refused for what it says.
        await response.write(FrameHead(bytes(32), 0, 0, 1 << 20).encode())
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"\0")
                await asyncio.sleep(0.02)
        return response

    async with world(tmp_path) as found:
        await found.stop(ANNA)
        async with _serving(found, trickle) as desk:
            with pytest.raises(UnavailableError, match=r"anna\.example: it took too long"):
                await desk.staged(after=0, limit=10)
            with pytest.raises(UnavailableError):
                await desk.release([])
            async with desk.batch([BatchItem(bytes(32), 0)]) as frames:
                head, *rest = [frame async for frame in frames]
                assert isinstance(head, FrameHead)
                assert 0 < len(rest) < head.length, "it ended in the middle, at its time"


@contextlib.asynccontextmanager
async def _serving(found: World, answer: Answer) -> AsyncIterator[RelayDesk]:
    """A desk of ``anna.example`` with little patience, where ``answer`` answers everything."""
    runner = web.AppRunner(_Endless(answer).app, shutdown_timeout=0.1)
    await runner.setup()
    port = found.relay_settings[ANNA].http.port
    await web.TCPSite(runner, "127.0.0.1", port).start()
    relay = next(one for one in found.site.call.relays if one.name == ANNA)
    try:
        async with Session() as session:
            yield RelayDesk(
                relay,
                found.site.call,
                session,
                found.clock,
                answer_time_s=0.3,
                batch_time_s=0.3,
            )
    finally:
        await runner.cleanup()
