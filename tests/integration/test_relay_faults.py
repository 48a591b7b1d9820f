"""Relays that fail around a deadline, in every way: nobody late, everything collected.

The client, the destination and the relays are the real ones. What a relay does after it has
signed its receipts is done by a stand-in at its address.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from bistro.api import media
from bistro.protocol.submission import SubmissionState
from bistro.wire.batches import BatchItem, FrameHead, decode_batch_request
from bistro.wire.clauses import Spread
from bistro.wire.receipt import Receipt
from bistro.wire.staging import encode_staged
from bistro_client.fragments import open_fragment
from bistro_client.home import Folder
from bistro_client.journal import read_journal
from tests.integration.test_client_path import Filer, filing
from tests.support.strategies import note_key
from tests.support.world import RELAY_NAMES, World
from tests.unit.client.worlds import sealed_of

ANNA, BERT, CORA = RELAY_NAMES
FIVE = (*RELAY_NAMES, "dora.example", "emil.example")
TEN_MINUTES_MS = 600_000
FILES = {"form.xml": b"<form/>", "annex/scan.png": b"\x89PNG" * 200_000}

Bytes = Callable[[BatchItem], bytes]
Filings = dict[bytes, Folder]
"""Folders of submissions by their commitments."""


def fragment_of(folder: Folder, item: BatchItem) -> bytes:
    layout = sealed_of(read_journal(folder)).cut.layout
    with open_fragment(folder, layout, item.index) as fragment:
        return fragment.read(offset=item.offset, size=layout.fragment_size)


def flipping(filings: Filings) -> Bytes:
    """One bit of each fragment is another."""

    def answer(item: BatchItem) -> bytes:
        data = fragment_of(filings[item.commitment], item)
        return data[:-1] + bytes([data[-1] ^ 1])

    return answer


def truncating(filings: Filings) -> Bytes:
    """The end of each fragment is missing, and it says so in its frame."""
    return lambda item: fragment_of(filings[item.commitment], item)[:-100]


def confusing(filings: Filings) -> Bytes:
    """The fragments of somebody else, under the name of what was asked for."""

    def answer(item: BatchItem) -> bytes:
        (other,) = (folder for key, folder in filings.items() if key != item.commitment)
        return fragment_of(other, item)

    return answer


@contextlib.asynccontextmanager
async def standing_in(
    w: World, name: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> AsyncIterator[None]:
    """Somebody else hands over batches where a relay was."""
    await w.stop(name)

    async def staged(_: web.Request) -> web.StreamResponse:
        return web.Response(body=encode_staged(()), content_type=media.MSGPACK)

    app = web.Application()
    app.router.add_get("/staged", staged)
    app.router.add_post("/batches", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", w.relay_settings[name].http.port).start()
    try:
        yield
    finally:
        await runner.cleanup()


def handing(answer: Bytes) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Whole frames with these bytes."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": media.BATCH})
        await response.prepare(request)
        for item in decode_batch_request(await request.read()):
            data = answer(item)
            head = FrameHead(item.commitment, item.index, item.offset, len(data))
            await response.write(head.encode() + data)
        return response

    return handler


async def submit_late(filer: Filer, count: int = 2) -> list[Folder]:
    """Some filings ten minutes before the deadline: all of them on time and staged."""
    terms = filer.w.site.terms
    filer.w.clock.advance(max(0, terms.closes - TEN_MINUTES_MS - filer.w.clock.now()))
    begun = len(filer.home.folders())
    folders = [await filer.submit(FILES, slot=f"lot-{begun + at}") for at in range(count)]
    for folder in folders:
        assert filer.verify(folder.evidence).holds
    assert filer.listener.keys.count("on-time") == begun + count
    return folders


async def require_collected(filer: Filer, folders: list[Folder]) -> None:
    """The destination has every envelope, and each filer sees it."""
    for folder in folders:
        assert (await filer.submitter().look(folder)).state is SubmissionState.COLLECTED


@pytest.mark.parametrize("fault", [flipping, truncating, confusing])
async def test_a_relay_that_hands_over_wrong_bytes_is_named(
    tmp_path: Path, fault: Callable[[Filings], Bytes]
) -> None:
    """The others suffice; what it handed over is kept beside its own signed receipt."""
    async with filing(tmp_path) as filer:
        folders = await submit_late(filer)
        filings = {sealed_of(read_journal(folder)).commitment: folder for folder in folders}
        async with standing_in(filer.w, ANNA, handing(fault(filings))):
            await filer.w.collect()
            await require_collected(filer, folders)
        wrong = filer.w.site.folder.root / "collecting/spring/wrong"
        proofs = sorted(wrong.glob("*.receipt"))
        if fault is truncating:
            # Too few bytes prove nothing: a line may have broken. It is asked again.
            assert not proofs
            return
        assert proofs
        for path in proofs:
            receipt = Receipt.parse(path.read_bytes())
            receipt.verify(note_key(ANNA).verifier, filer.w.site.call.origin)
            found = path.with_suffix(".fragment").read_bytes()
            assert receipt.entry.size == len(found)


async def test_a_relay_that_never_ends_is_given_up(tmp_path: Path) -> None:
    """It sends nothing, for ever; everything comes from the others meanwhile."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": media.BATCH})
        await response.prepare(request)
        await asyncio.Event().wait()
        return response

    async with filing(tmp_path) as filer:
        folders = await submit_late(filer)
        async with standing_in(filer.w, BERT, handler):
            await asyncio.wait_for(filer.w.collect(), 100)
            await require_collected(filer, folders)


async def test_a_relay_killed_ten_minutes_before_the_deadline(tmp_path: Path) -> None:
    """Filed before, it is collected from the others; filed after, it goes to the others."""
    async with filing(tmp_path) as filer:
        before = await submit_late(filer, 1)
        await filer.w.stop(CORA)
        after = await submit_late(filer, 1)
        await filer.w.collect()
        await require_collected(filer, before + after)


async def test_all_but_k_relays_killed(tmp_path: Path) -> None:
    """With (3, 5) at five operators any two may go, before and after uploads."""
    async with filing(tmp_path, names=FIVE, spread=Spread(3, 5)) as filer:
        before = await submit_late(filer, 1)
        await filer.w.stop(ANNA)
        await filer.w.stop(BERT)
        after = await submit_late(filer, 1)
        held = [one.relay for one in read_journal(after[0]).fragments if one.receipt]
        assert len(held) >= 3
        await filer.w.collect()
        await require_collected(filer, before + after)
