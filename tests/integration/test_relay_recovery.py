"""What a relay keeps when disks fail, processes die and files go astray."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from bistro.crypto.signing import VerifierKey
from bistro.errors import StorageError
from bistro.instant import UnixMillis
from bistro.wire.batches import BatchItem, Release
from bistro.wire.entry import ReceiptEntry, decode_entry
from bistro_relay.settings import Settings
from tests.support.disks import FaultyDisk, How, KilledError
from tests.support.paper import RELAY, SPRING, PaperCall, PaperServer, Sealed, publishing
from tests.support.relays import (
    Reply,
    RunningRelay,
    allow,
    allowed_relay,
    eventually,
    relay_settings,
    relay_site,
    serving_relay,
)
from tests.support.strategies import note_key

SEALED = Sealed(1, size=2_097_154)
"""Its fragments are a byte too large for a shared segment."""
SMALL = Sealed(1, size=200_001)
DATA = SEALED.fragment(0)
HALF = len(DATA) // 2
KEY: VerifierKey = note_key(RELAY).verifier


@dataclass
class Told:
    """What a client was told before something broke."""

    path: str | None = None
    offset: int = 0
    receipt: bytes | None = None

    def hear(self, reply: Reply) -> bool:
        """Note an answer; whether it was a good one."""
        if reply.status >= 400:
            return False
        self.path = reply.path if "Location" in reply.headers else self.path
        self.offset = reply.offset
        self.receipt = None if reply.receipt is None else reply.receipt.entry.encode()
        return True


async def upload(relay: RunningRelay, call: PaperCall, told: Told, sealed: Sealed = SEALED) -> int:
    """Create, send half, send the rest; the last status."""
    data = sealed.fragment(0)
    half = len(data) // 2
    reply = await relay.create(call.claim(sealed))
    if told.hear(reply):
        reply = await relay.patch(reply.path, data[:half], at=0)
    if told.hear(reply) and told.path is not None:
        reply = await relay.patch(told.path, data[half:], at=half)
        told.hear(reply)
    return reply.status


async def finish(relay: RunningRelay, call: PaperCall, told: Told, sealed: Sealed = SEALED) -> None:
    """Go on after a restart, and find everything that was told still true."""
    data = sealed.fragment(0)
    if told.path is None:
        reply = await relay.create(call.claim(sealed))
        assert reply.status == 201
        told.path = reply.path
    head = await relay.ask("HEAD", told.path)
    assert head.status == 200, "an upload that was answered is there"
    assert head.offset >= told.offset, "an offset never goes down"
    receipt = head.receipt
    if receipt is None:
        last = await relay.patch(told.path, data[head.offset :], at=head.offset)
        assert last.status == 204
        receipt = last.receipt
    assert receipt is not None
    receipt.verify(KEY, call.origin, sealed.commitment)
    if told.receipt is not None:
        assert receipt.entry.encode() == told.receipt, "a promise is given once"
    client = relay.collector(call)
    assert len(await client.fetch_staged()) == 1
    received = b""
    async with client.fetch_batch([BatchItem(sealed.commitment, 0, 0)]) as frames:
        async for frame in frames:
            received += frame if isinstance(frame, bytes) else b""
    assert received == data
    assert relay.services.room.used(SPRING.server) == len(data)


async def break_once(
    root: Path, call: PaperCall, server: PaperServer, *, at: int, how: How, sealed: Sealed
) -> int:
    """Fail one changing call of the disk, start again, and look; how many calls there were."""
    settings = relay_settings(root)
    allow(settings, server)
    disk, told = FaultyDisk(at=at, how=how), Told()
    try:
        async with serving_relay(settings, disk=disk) as relay:
            if not relay.task.done():
                status = await upload(relay, call, told, sealed)
                if how == "full" and disk.calls[-1] == "write":
                    assert status in {201, 204, 503, 507}
    except (aiohttp.ClientError, KilledError, BaseExceptionGroup, OSError):
        pass  # the connection, or the whole relay, died with its disk
    except Exception as exc:
        # Opening failed: nothing was told, and the next start goes on.
        if told.path is not None:
            raise AssertionError from exc
    async with serving_relay(settings) as relay:
        await finish(relay, call, told, sealed)
    return len(disk.calls)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", ["not-stored", "stored", "kill", "full"])
@pytest.mark.parametrize("sealed", [SEALED, SMALL], ids=["own", "shared"])
async def test_each_durable_step_may_fail(tmp_path: Path, how: How, sealed: Sealed) -> None:
    """Failed and not stored, failed but stored, killed before, disk full: nothing told is lost."""
    call = PaperCall()
    async with publishing(call) as server:
        root = tmp_path / "whole"
        count = await break_once(root, call, server, at=10_000, how=how, sealed=sealed)
        assert count > 10
        for at in range(count):
            await break_once(tmp_path / str(at), call, server, at=at, how=how, sealed=sealed)


async def test_a_full_disk_is_507_and_the_upload_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    """The relay stays up, the offset stays true, and what was not acknowledged takes no room."""
    async with allowed_relay(tmp_path) as (settings, call):
        disk = FaultyDisk()
        async with serving_relay(settings, disk=disk) as relay:
            path = (await relay.create(call.claim(SEALED))).path
            assert (await relay.patch(path, DATA[:HALF], at=0)).offset == HALF
            disk.fail_at(0, "full")
            assert (await relay.patch(path, DATA[HALF:], at=HALF)).status == 507
            assert (await relay.ask("HEAD", path)).offset == HALF
            other = Sealed(2)
            reply = await relay.create(call.claim(other), body=other.fragment(0))
            assert reply.status == 507
            assert not relay.task.done()
            disk._is_full = False
            assert (await relay.patch(path, DATA[HALF:], at=HALF)).receipt is not None


async def test_an_io_error_is_answered_and_stops_the_relay(tmp_path: Path) -> None:
    """500 for the client; nothing may be promised over a disk that fails."""
    async with allowed_relay(tmp_path) as (settings, call):
        disk = FaultyDisk()
        async with serving_relay(settings, disk=disk) as relay:
            path = (await relay.create(call.claim(SEALED))).path
            disk.fail_at(0, "not-stored")
            assert (await relay.patch(path, DATA, at=0)).status == 500
            await asyncio.wait({relay.task})
        assert relay.task.exception() is not None
        async with serving_relay(settings) as relay:
            told = Told(path=path)
            await finish(relay, call, told)


async def test_a_broken_connection_keeps_what_had_come(tmp_path: Path) -> None:
    """The client asks for the offset and sends the rest only."""
    async with relay_site(tmp_path) as site:
        path = (await site.relay.create(site.call.claim(SEALED))).path
        _, writer = await _connect(site.relay)
        head = (
            f"PATCH {path} HTTP/1.1\r\nHost: relay\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
            f"Content-Type: application/offset+octet-stream\r\nContent-Length: {len(DATA)}\r\n\r\n"
        )
        writer.write(head.encode() + DATA[:HALF])
        await writer.drain()
        await eventually(lambda: site.relay.services.intake._busy._ids != set())
        writer.transport.abort()
        await eventually(lambda: site.relay.services.intake._busy._ids == set())
        reply = await site.relay.ask("HEAD", path)
        assert 0 < reply.offset <= HALF
        rest = await site.relay.patch(path, DATA[reply.offset :], at=reply.offset)
        assert rest.receipt is not None


async def test_hash_states_are_rebuilt_after_a_restart(tmp_path: Path) -> None:
    """Resuming in another process reads what is there, and ends with the same hash."""
    async with allowed_relay(tmp_path) as (settings, call):
        told = Told()
        for at in range(0, len(DATA), 120_000):
            async with serving_relay(settings) as relay:
                if told.path is None:
                    told.hear(await relay.create(call.claim(SEALED)))
                assert told.path is not None
                assert told.hear(await relay.patch(told.path, DATA[at : at + 120_000], at=at))
        assert told.receipt is not None


async def test_bytes_that_were_never_acknowledged_are_cut(tmp_path: Path) -> None:
    """What stands behind the recorded offset may not be on the medium, so it is not trusted."""
    async with allowed_relay(tmp_path) as (settings, call):
        async with serving_relay(settings) as relay:
            path = (await relay.create(call.claim(SEALED))).path
            await relay.patch(path, DATA[:HALF], at=0)
        (segment,) = _segments(settings)
        with segment.open("ab") as file:
            file.write(b"garbage")
        async with serving_relay(settings) as relay:
            await finish(relay, call, Told(path=path, offset=HALF))


async def test_a_file_without_a_row_is_swept(tmp_path: Path) -> None:
    """A creation that was never answered leaves nothing for long."""
    async with allowed_relay(tmp_path) as (settings, call):
        async with serving_relay(settings) as relay:
            await relay.create(call.claim(SEALED))
        _forget_rows(settings)
        async with serving_relay(settings):
            assert list(_segments(settings)) == []


async def test_a_receipt_without_a_row_is_restored(tmp_path: Path) -> None:
    """The ledger and the segment know all that a lost database knew of a held fragment."""
    async with allowed_relay(tmp_path) as (settings, call):
        async with serving_relay(settings) as relay:
            told = Told()
            await upload(relay, call, told)
        _forget_rows(settings)
        async with serving_relay(settings) as relay:
            await finish(relay, call, told)
            custody = await relay.services.ledgers.of(SPRING)
            assert custody.ledger.size == 1


async def test_a_row_that_lags_behind_its_receipt_catches_up(tmp_path: Path) -> None:
    """A crash between ledger and database: the promise stands, and is found."""
    async with allowed_relay(tmp_path) as (settings, call):
        for state in ("complete", "receiving"):
            async with serving_relay(settings) as relay:
                told = Told()
                await upload(relay, call, told)
                told.path = (await relay.create(call.claim(SEALED))).path
            with contextlib.closing(_database(settings)) as database:
                database.execute("DELETE FROM staged")
                database.execute("UPDATE upload SET state = ?, hold_until = NULL", (state,))
            async with serving_relay(settings) as relay:
                await finish(relay, call, told)


@pytest.mark.parametrize("is_released", [False, True], ids=["held", "released"])
async def test_a_ledger_that_lost_its_end_is_not_continued(
    tmp_path: Path, *, is_released: bool
) -> None:
    """An old copy, or a disk that lied: the next receipt would contradict one that was given."""
    async with allowed_relay(tmp_path) as (settings, call):
        custody = settings.relay.data_path / "custody"
        async with serving_relay(settings) as relay:
            await relay.stage(call, SEALED, 1)
            if is_released:
                await relay.stage(call, SEALED, 0)
        shutil.copytree(custody, tmp_path / "old")
        async with serving_relay(settings) as relay:
            if is_released:
                release = Release(
                    SPRING, SEALED.commitment, 0, SEALED.cut.descriptors[0].fragment_hash
                )
                await relay.collector(call).release([release])
            else:
                await relay.stage(call, SEALED, 0)
        custody.rename(tmp_path / "newest")
        shutil.copytree(tmp_path / "old", custody)
        for _ in range(2):
            async with serving_relay(settings) as relay:
                with pytest.raises(StorageError, match="not the last one that was") as caught:
                    await relay.task
                assert "second history" in caught.value.hint
        shutil.rmtree(custody)
        (tmp_path / "newest").rename(custody)
        async with serving_relay(settings) as relay:
            assert len(await relay.collector(call).fetch_staged()) == (1 if is_released else 2)


async def test_what_was_released_stays_released(tmp_path: Path) -> None:
    """A file that came back after its release is deleted again, row or no row."""
    async with allowed_relay(tmp_path) as (settings, call):
        async with serving_relay(settings) as relay:
            await upload(relay, call, Told())
            (segment,) = _segments(settings)
            kept = segment.read_bytes()
            client = relay.collector(call)
            digest = SEALED.cut.descriptors[0].fragment_hash
            await client.release([Release(SPRING, SEALED.commitment, 0, digest)])
        for forget in (False, True):
            segment.write_bytes(kept)
            if forget:
                _forget_rows(settings)
            async with serving_relay(settings):
                assert list(_segments(settings)) == []


async def test_a_missing_fragment_is_said_loudly_and_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The destination gets `storage` for it and fetches elsewhere."""
    async with allowed_relay(tmp_path) as (settings, call):
        async with serving_relay(settings) as relay:
            await upload(relay, call, Told())
            await relay.stage(call, Sealed(2))
        for segment in _segments(settings):
            if segment.parent.name != "shared":
                segment.unlink()
        async with serving_relay(settings) as relay:
            items = [BatchItem(one.commitment, 0, 0) for one in (SEALED, Sealed(2))]
            async with relay.collector(call).fetch_batch(items) as frames:
                found = [frame async for frame in frames]
            assert getattr(found[0], "code", None) == "storage"
            assert found[2] == Sealed(2).fragment(0)
        assert "fragment_lost" in capsys.readouterr().out


async def test_a_receipt_says_exactly_what_is_held(tmp_path: Path) -> None:
    """Index, size, hash and end of the hold are the descriptor's and the terms'."""
    async with relay_site(tmp_path) as site:
        upload_found = await site.relay.stage(site.call, SEALED, 2)
        assert upload_found.receipt is not None
        entry = decode_entry(upload_found.receipt.entry.encode())
        descriptor = SEALED.cut.descriptors[2]
        assert isinstance(entry, ReceiptEntry)
        assert (entry.index, entry.size, entry.fragment_hash) == (
            2,
            descriptor.size,
            descriptor.fragment_hash,
        )
        assert entry.hold_until == UnixMillis(site.call.terms.repair_by + 604_800_000)
        assert entry.time == site.relay.clock.now()


def _segments(settings: Settings) -> Iterator[Path]:
    return (settings.relay.data_path / "segments").rglob("*.segment")


def _database(settings: Settings) -> sqlite3.Connection:
    return sqlite3.connect(settings.relay.data_path / "relay.sqlite3", isolation_level=None)


def _forget_rows(settings: Settings) -> None:
    with contextlib.closing(_database(settings)) as database:
        database.execute("DELETE FROM staged")
        database.execute("DELETE FROM upload")


async def _connect(relay: RunningRelay) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", relay.settings.http.port)
