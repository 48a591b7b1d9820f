"""Small fragments that come by creation and PATCH: none of them keeps a file of its own."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from pathlib import Path

import pytest

from bistro.api import media
from bistro.wire.batches import Release
from tests.support.disks import FaultyDisk
from tests.support.lines import Answer, Line, written
from tests.support.paper import RELAY, SPRING, Sealed
from tests.support.relays import (
    TUS,
    Reply,
    RunningRelay,
    Site,
    allowed_relay,
    eventually,
    hyphened,
    relay_site,
    serving_relay,
)
from tests.support.small_fragments import fetched
from tests.support.strategies import note_key

SEALED = Sealed(1, size=200_000)
DATA = SEALED.fragment(0)
HALF = len(DATA) // 2
MIB = 1_048_576

_APPENDING = {"Host": "relay", "Content-Type": media.TUS_BYTES, **TUS}


def own_segments(relay: RunningRelay) -> list[Path]:
    """Files that hold one fragment each."""
    root = relay.settings.relay.data_path / "segments"
    return [path for path in root.rglob("*.segment") if path.parent.name != "shared"]


def upload_path(reply: Reply) -> str:
    """The path of an upload, however its place is given."""
    return "/uploads/" + reply.path.rpartition("/")[2]


async def begin(site: Site, sealed: Sealed = SEALED) -> str:
    """Create an upload without a byte; its path."""
    reply = await site.relay.create(site.call.claim(sealed))
    assert (reply.status, reply.offset) == (201, 0)
    return upload_path(reply)


async def require_held(site: Site, reply: Reply, sealed: Sealed = SEALED) -> None:
    """The receipt is good, the bytes come back, and room is taken once."""
    assert reply.receipt is not None
    reply.receipt.verify(note_key(RELAY).verifier, SPRING, sealed.commitment)
    data = sealed.fragment(0)
    assert await fetched(site.relay, site.call, [sealed]) == [data]
    assert site.relay.services.room.used(SPRING.server) == len(data)
    assert len(await site.relay.collector(site.call).fetch_staged()) == 1


async def test_creation_and_one_patch_cost_no_file(tmp_path: Path) -> None:
    """The plain way of tus: a row, then a record; the same receipt ever after."""
    async with relay_site(tmp_path) as site:
        path = await begin(site)
        assert own_segments(site.relay) == []
        reply = await site.relay.patch(path, DATA, at=0)
        assert (reply.status, reply.offset) == (204, len(DATA))
        assert own_segments(site.relay) == []
        await require_held(site, reply)
        head = await site.relay.ask("HEAD", path)
        assert head.receipt == reply.receipt
        assert (await site.relay.ask("DELETE", path)).status == 403
        released = Release(SPRING, SEALED.commitment, 0, SEALED.cut.descriptors[0].fragment_hash)
        await site.relay.collector(site.call).release([released])
        assert site.relay.services.room.used(SPRING.server) == 0


async def test_pieces_have_a_file_until_the_last(tmp_path: Path) -> None:
    """What was acknowledged is in a file, and moves with the end into a shared segment."""
    async with relay_site(tmp_path) as site:
        path = await begin(site)
        for at, end in ((0, 10), (10, HALF)):
            reply = await site.relay.patch(path, DATA[at:end], at=at)
            assert (reply.status, reply.offset) == (204, end)
        assert len(own_segments(site.relay)) == 1
        reply = await site.relay.patch(path, DATA[HALF:], at=HALF)
        assert (reply.status, reply.offset) == (204, len(DATA))
        assert own_segments(site.relay) == []
        await require_held(site, reply)


async def test_an_upload_without_a_byte_survives_a_restart(tmp_path: Path) -> None:
    """It has no file, and is no less there for that."""
    async with allowed_relay(tmp_path) as (settings, call):
        async with serving_relay(settings) as relay:
            path = upload_path(await relay.create(call.claim(SEALED)))
        async with serving_relay(settings) as relay:
            assert (await relay.ask("HEAD", path)).offset == 0
            assert (await relay.patch(path, DATA, at=0)).receipt is not None
        async with serving_relay(settings) as relay:
            assert (await relay.ask("HEAD", path)).receipt is not None
            assert await fetched(relay, call, [SEALED]) == [DATA]


@pytest.mark.parametrize("at", [0, HALF])
async def test_wrong_bytes_end_the_upload(tmp_path: Path, at: int) -> None:
    """460; nothing is held, no room is taken, and a new upload may begin."""
    async with relay_site(tmp_path) as site:
        path = await begin(site)
        if at:
            await site.relay.patch(path, DATA[:at], at=0)
        assert (await site.relay.patch(path, bytes(len(DATA) - at), at=at)).status == 460
        assert (await site.relay.ask("HEAD", path)).status == 410
        assert own_segments(site.relay) == []
        assert site.relay.services.room.used(SPRING.server) == 0
        reply = await site.relay.patch(await begin(site), DATA, at=0)
        await require_held(site, reply)


async def test_a_wrong_checksum_drops_the_request_and_not_the_upload(tmp_path: Path) -> None:
    """The offset stays; the right bytes with the right checksum are taken."""
    async with relay_site(tmp_path) as site:
        path = await begin(site)
        await site.relay.patch(path, DATA[:HALF], at=0)
        checksum = _sha256(DATA[HALF:])
        wrong = bytes(len(DATA) - HALF)
        reply = await site.relay.patch(path, wrong, at=HALF, Upload_Checksum=checksum)
        assert reply.status == 460
        reply = await site.relay.patch(path, DATA[HALF:], at=HALF, Upload_Checksum=checksum)
        assert reply.status == 204
        await require_held(site, reply)


async def test_what_came_before_the_connection_broke_is_kept(tmp_path: Path) -> None:
    """The next request goes on there; with a checksum for all of it, at the old offset."""
    async with relay_site(tmp_path) as site:
        for number, checksum in ((1, {}), (2, {"Upload_Checksum": _sha256(DATA)})):
            sealed = Sealed(number, size=200_000)
            path, data = await begin(site, sealed), sealed.fragment(0)
            line = await Line.to(site.relay.settings.http.port)
            fields = {**_APPENDING, "Content-Length": str(len(data)), "Upload-Offset": "0"}
            fields |= hyphened(checksum)
            line.send(written(f"PATCH {path}", fields, data[:70_000]))
            await line.drain()
            await asyncio.sleep(0.05)
            line.break_off()
            await eventually(lambda: site.relay.services.gate.count == 0)
            head = await site.relay.ask("HEAD", path)
            assert head.offset == (0 if checksum else 70_000)
            reply = await site.relay.patch(path, data[head.offset :], at=head.offset)
            assert reply.receipt is not None
        assert own_segments(site.relay) == []


def _sha256(data: bytes) -> str:
    return "sha256 " + base64.b64encode(hashlib.sha256(data).digest()).decode()


async def test_two_uploads_of_one_fragment_get_one_receipt(tmp_path: Path) -> None:
    """At the same time or after each other: one entry, one row, the other upload ends."""
    async with relay_site(tmp_path) as site:
        paths = [await begin(site) for _ in range(3)]
        first, second = await asyncio.gather(  # noqa: TID251 - both at the same time
            *(site.relay.patch(path, DATA, at=0) for path in paths[:2])
        )
        third = await site.relay.patch(paths[2], DATA, at=0)
        assert {reply.status for reply in (first, second, third)} == {204}
        entries = {one.receipt.entry for one in (first, second, third) if one.receipt is not None}
        assert len(entries) == 1
        await require_held(site, first)
        assert own_segments(site.relay) == []


async def test_without_memory_it_is_streamed_to_a_file(tmp_path: Path) -> None:
    """Memory is bounded whatever comes, and so the file is what small ones fall back to."""
    async with relay_site(tmp_path) as site:
        path = await begin(site)
        whole = site.relay.services.whole
        taken = 0
        while whole.admit(MIB):
            taken += MIB
        reply = await site.relay.patch(path, DATA, at=0)
        assert len(own_segments(site.relay)) == 1
        await require_held(site, reply)
        whole.give_back(taken)
        assert whole.admit(len(DATA))


async def test_memory_is_given_back_however_a_request_ends(tmp_path: Path) -> None:
    """After good, wrong and broken ones there is as much as before."""
    async with relay_site(tmp_path) as site:
        whole = site.relay.services.whole
        before = whole._memory
        await site.relay.patch(await begin(site), DATA, at=0)
        path = await begin(site, Sealed(2, size=200_000))
        assert (await site.relay.patch(path, bytes(len(DATA)), at=0)).status == 460
        assert (await site.relay.patch(path, DATA, at=0)).status == 410
        assert whole._memory == before


async def test_offsets_of_a_request_outlive_its_failure(tmp_path: Path) -> None:
    """A large one was recorded halfway; the disk fills up; it goes on from there, not before."""
    sealed = Sealed(1, size=40 * MIB)
    data = sealed.fragment(0)
    disk = FaultyDisk()
    async with (
        allowed_relay(tmp_path) as (settings, call),
        serving_relay(settings, disk=disk) as relay,
    ):
        path = upload_path(await relay.create(call.claim(sealed)))
        disk.fail_at(60, "full")
        assert (await _patch(relay, path, data, at=0)).status == 507
        disk.heal()
        offset = (await relay.ask("HEAD", path)).offset
        assert 0 < offset < len(data), "a checkpoint was recorded before the disk was full"
        assert (await _patch(relay, path, data[offset:], at=offset)).status == 204
        assert await fetched(relay, call, [sealed]) == [data]


async def _patch(relay: RunningRelay, path: str, data: bytes, *, at: int) -> Answer:
    """An append that is too large for a client library's liking."""
    fields = {**_APPENDING, "Content-Length": str(len(data)), "Upload-Offset": str(at)}
    async with await Line.to(relay.settings.http.port) as line:
        return await line.ask(written(f"PATCH {path}", fields, data))
