"""Collecting from real relays: whatever breaks, every envelope arrives once, whole, or is named."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bistro.crypto.keyfile import decode_note_key
from bistro.crypto.treehash import tree_hash
from bistro.errors import StorageError, UnavailableError
from bistro.storage.disk import ReservingDisk
from bistro.storage.locks import FileLock
from bistro.wire.entry import TicketEntry
from bistro.wire.fragment import Cut
from bistro.wire.staging import Repair
from bistro_server.services.reconciling import Account, Reconciliation
from tests.support.disks import FaultyDisk, How, KilledError
from tests.support.fragments import cut_up
from tests.support.promises import MemoryLedger
from tests.support.world import Filing, World, with_ticket, world


def envelopes(found: World) -> dict[str, bytes]:
    """Name and content of everything that was collected."""
    paths = found.site.call.folder.envelopes.glob("*/*")
    return {path.name: path.read_bytes() for path in paths}


def is_collected(found: World, filing: Filing) -> bool:
    return envelopes(found).get(f"{filing.commitment.hex()}.age") == filing.envelope


def fragment_files(found: World) -> list[Path]:
    return list((found.site.folder.root / "collecting/spring/fragments").iterdir())


async def accounts(found: World) -> dict[bytes, Account]:
    opened = Reconciliation.opened(found.site.folder, "spring", found.clock, error_limit_ms=100)
    async with opened as reconciliation:
        return {one.commitment: one async for one in reconciliation.accounts()}


async def repairs(found: World) -> tuple[Repair, ...]:
    return await found.site.api.fetch_repairs("spring", after=0)


async def state_of(found: World, filing: Filing) -> str:
    note = await found.site.api.fetch_status("spring", filing.commitment)
    return "collected" if b'"state":"collected"' in note.encode() else "other"


async def test_what_relays_hold_becomes_an_envelope_and_is_released(tmp_path: Path) -> None:
    """Staged, fetched, verified, restored, durable, released; status and accounts say so."""
    async with world(tmp_path) as found:
        filing = await found.submit()
        done = await found.collect()
        assert (done.progress.collected_count, done.progress.unreleased_count) == (1, 0)
        assert is_collected(found, filing)
        assert fragment_files(found) == []
        for relay in found.relays.values():
            left = await relay.services.uploads.staged(found.site.call.origin, after=0, limit=9)
            assert left == ()
        assert await state_of(found, filing) == "collected"
        assert (await accounts(found))[filing.commitment].gaps == ()


async def test_rows_listed_by_relays_are_enough_to_be_staged(tmp_path: Path) -> None:
    """A client that never came back with its receipts is staged all the same."""
    async with world(tmp_path) as found:
        filing = await found.submit(is_presented=False)
        await found.collect()
        assert is_collected(found, filing)


async def test_any_k_of_n_relays_suffice(tmp_path: Path) -> None:
    """One relay is gone: the others restore; it is released when it is back."""
    async with world(tmp_path) as found:
        filing = await found.submit()
        await found.stop("anna.example")
        done = await found.collect()
        assert is_collected(found, filing)
        assert set(done.failures) == {"anna.example"}
        assert done.progress.unreleased_count == 1
        await found.start("anna.example")
        assert (await found.collect()).progress.unreleased_count == 0


async def test_too_few_relays_leave_a_named_gap(tmp_path: Path) -> None:
    """What was fetched is kept; what is missing is said with who promised it."""
    async with world(tmp_path) as found:
        filing = await found.submit(indexes=(0, 1))
        await found.stop("bert.example")
        done = await found.collect()
        assert done.progress.staged_count == 1
        (gap,) = (await accounts(found))[filing.commitment].gaps
        assert (gap.code, gap.relay, gap.fragment) == ("silent", "bert.example", 1)
        await found.start("bert.example")
        await found.collect()
        assert is_collected(found, filing)


async def test_a_long_silence_asks_the_filer_to_stage_again(tmp_path: Path) -> None:
    """The same bytes at another relay; the wish goes away when it is fulfilled."""
    async with world(tmp_path) as found:
        filing = await found.submit(indexes=(0, 1))
        await found.stop("bert.example")
        await found.collect()
        assert await repairs(found) == ()
        found.clock.advance(15 * 60_000)
        await found.collect()
        (repair,) = await repairs(found)
        assert repair.commitment == filing.commitment
        assert repair.indexes == (1, 2)
        await found.stage(filing, 2)
        await found.collect()
        assert is_collected(found, filing)
        assert await repairs(found) == ()


async def test_a_late_repair_still_counts_until_repair_by(tmp_path: Path) -> None:
    """Staged once is staged for good; only its bytes must come again in time."""
    async with world(tmp_path) as found:
        filing = await found.submit(indexes=(0, 1))
        await found.stop("bert.example")
        await found.collect()
        found.pass_stage_by()
        await found.stage(filing, 2)
        await found.collect()
        assert is_collected(found, filing)


async def test_what_was_not_staged_in_time_is_not_collected(tmp_path: Path) -> None:
    """One fragment is not enough, and a second one too late changes nothing."""
    async with world(tmp_path) as found:
        filing = await found.submit(indexes=(0,))
        await found.collect()
        found.pass_stage_by()
        await found.stage(filing, 1)
        done = await found.collect()
        assert done.progress.collected_count == 0
        opened = await found.open()
        assert opened.counts == {"lapsed": 1}
        assert (await accounts(found))[filing.commitment].gaps[0].code == "not-staged"


async def test_fragments_that_do_not_belong_together_are_void(tmp_path: Path) -> None:
    """Whichever k are used; the fragments stay as proof, the relays are released."""
    async with world(tmp_path) as found:
        honest = found.seal()
        _, other = cut_up(honest.envelope[::-1], k=2, n=3)
        mixed = (*honest.fragments[:2], other[2])
        filing = await found.staged(await found.ticket(_committed(honest, mixed)))
        done = await found.collect()
        assert (done.progress.void_count, done.progress.staged_count) == (1, 0)
        assert done.progress.unreleased_count == 0
        assert envelopes(found) == {}
        assert len(fragment_files(found)) == 2
        (gap,) = (await accounts(found))[filing.commitment].gaps
        assert gap.code == "inconsistent"
        found.pass_stage_by()
        await found.open()
        assert found.outcome(filing) == ("void", ["inconsistent"])


def _committed(filing: Filing, fragments: tuple[bytes, ...]) -> Filing:
    """A filing whose commitment binds other fragments than those of its envelope."""
    descriptors = tuple(
        replace(one, fragment_hash=tree_hash(data))
        for one, data in zip(filing.cut.descriptors, fragments, strict=True)
    )
    cut = Cut(filing.cut.layout, descriptors)
    return replace(filing, cut=cut, fragments=fragments)


@pytest.mark.timeout(60)
async def test_large_and_many_filings_arrive(tmp_path: Path) -> None:
    """An envelope of several rows, and dozens of small ones in the same batches."""
    async with world(tmp_path) as found:
        large = await found.submit({"large.bin": bytes(range(256)) * 20_000}, filer="large")
        small = [await found.submit({"a": b"x" * n}, filer=f"f{n}") for n in range(40)]
        done = await found.collect()
        assert done.progress.collected_count == 41
        assert all(is_collected(found, filing) for filing in [large, *small])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["kill", "not-stored", "stored", "full"])
async def test_collecting_goes_on_where_it_was_stopped(tmp_path: Path, how: How) -> None:
    """Killed, or refused by the disk, at any step: nothing is lost or delivered twice."""
    async with world(tmp_path) as found:
        is_hit, at, filings = True, 0, []
        while is_hit:
            filings.append(await found.submit({"a": b"x" * at}, filer=f"f{at}"))
            disk = FaultyDisk(at=at, how=how)
            with contextlib.suppress(KilledError, StorageError):
                await found.collect(disk=disk)
            is_hit = len(disk.calls) > at
            done = await found.collect()
            assert done.progress.collected_count == len(filings)
            assert done.progress.unreleased_count == 0
            at += 1
        assert at > 10
        assert len(envelopes(found)) == len(filings)
        assert all(is_collected(found, filing) for filing in filings)
        assert fragment_files(found) == []


async def test_bytes_that_changed_on_our_disk_are_fetched_again(tmp_path: Path) -> None:
    """A fragment that rotted while it waited is nobody's fault but ours."""
    async with world(tmp_path) as found:
        filing = await found.submit(indexes=(0, 1))
        await found.stop("bert.example")
        await found.collect()
        (path,) = fragment_files(found)
        path.write_bytes(b"\0" * len(path.read_bytes()))
        await found.start("bert.example")
        done = await found.collect()
        assert is_collected(found, filing)
        assert done.progress.void_count == 0


async def test_a_fragment_that_a_relay_has_lost_is_fetched_elsewhere(tmp_path: Path) -> None:
    """It is named with the promise that was broken."""
    async with world(tmp_path) as found:
        filing = await found.submit(indexes=(0, 1))
        relay = found.relay_settings["anna.example"]
        await found.stop("anna.example")
        for path in relay.relay.data_path.rglob("*"):
            if path.is_file() and path.stat().st_size > 2_000 and "fragment" in str(path):
                path.unlink()
        await found.start("anna.example")
        await found.collect()
        assert not is_collected(found, filing)
        gaps = (await accounts(found))[filing.commitment].gaps
        assert [(gap.code, gap.relay) for gap in gaps] == [
            ("lost", "anna.example"),
            ("repair-asked", None),
        ]
        assert "signed a receipt to hold fragment 0" in gaps[0].text
        await found.stage(filing, 2)
        await found.collect()
        assert is_collected(found, filing)


async def test_another_collector_is_kept_out(tmp_path: Path) -> None:
    """Two would write the same files."""
    async with world(tmp_path) as found:
        await found.submit()
        folder = found.site.folder.root / "collecting/spring"
        folder.mkdir(parents=True)
        lock = FileLock.take(folder / "lock", what="test")
        with pytest.raises(UnavailableError, match="collecting call spring is in use"):
            await found.collect()
        lock.release()
        assert (await found.collect()).progress.collected_count == 1


async def test_a_busy_database_is_waited_for(tmp_path: Path) -> None:
    """Other processes hold it for moments; that is no failure."""
    async with world(tmp_path) as found:
        filing = await found.submit()
        other = sqlite3.connect(
            found.site.folder.database, isolation_level=None, check_same_thread=False
        )
        # In a thread: the server in this process may hold it just now.
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        timer = threading.Timer(0.7, other.rollback)
        timer.start()
        await found.collect()
        timer.join()
        other.close()
        assert is_collected(found, filing)


async def test_a_ticket_of_another_log_under_our_key_is_not_believed(tmp_path: Path) -> None:
    """A proof that holds, for an entry that our log does not have."""
    async with world(tmp_path) as found:
        call = found.site.call
        filing = found.seal()
        forged = MemoryLedger(decode_note_key(call.folder.key("log").read_bytes()))
        entry = TicketEntry(
            origin=str(call.origin), time=found.clock.now(), digest=filing.commitment
        )
        filing = with_ticket(filing, forged.promise(entry))
        await found.staged(filing, is_presented=False)
        done = await found.collect()
        assert done.progress.staged_count == done.progress.collected_count == 0
        assert await accounts(found) == {}


async def test_watching_goes_on_until_repair_by(tmp_path: Path) -> None:
    """What comes later is collected without being asked again."""
    async with world(tmp_path) as found:
        filings = [await found.submit(filer="first")]

        async def pause() -> None:
            if len(filings) < 3:
                filings.append(await found.submit(filer=f"f{len(filings)}"))
            else:
                found.pass_repair_by()

        (done,) = await found.rounds(pause=pause).run(is_watching=True)
        assert done.progress.collected_count == 3
        assert all(is_collected(found, filing) for filing in filings)


async def test_collecting_leaves_room_for_tickets(tmp_path: Path) -> None:
    """A disk that collecting has filled would stop ``serve``, perhaps just before a deadline."""
    async with world(tmp_path) as found:
        filing = await found.submit()
        with pytest.raises(StorageError, match="kept for what cannot wait"):
            await found.collect(disk=ReservingDisk(1 << 60))
        assert not is_collected(found, filing)
        other = await found.submit(filer="other")
        await found.collect(disk=ReservingDisk(1))
        assert is_collected(found, filing)
        assert is_collected(found, other)
        found.pass_stage_by()
        with pytest.raises(StorageError, match="kept for what cannot wait"):
            await found.open(disk=ReservingDisk(1 << 60))
        opened = await found.open(disk=ReservingDisk(1))
        assert opened.counts == {"opened": 2}
