"""The disk below the ledgers fails, each way: nobody is answered with what may not last."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from bistro.errors import StorageError, UnavailableError
from bistro.instant import UnixMillis
from bistro.net.server_client import ServerClient
from bistro.net.session import Session
from bistro.wire.ticket import Ticket
from bistro.wire.ticketing import Ticketed, TicketRequest
from bistro_server.app import Server
from bistro_server.services.control import open_log
from bistro_server.services.folder import ServerFolder
from bistro_server.store.schema import open_database
from bistro_server.store.status_files import StatusFiles
from bistro_server.store.submissions import Submissions
from tests.support.clocks import NOON, ManualClock
from tests.support.destinations import (
    HOUR_MS,
    commitment,
    make_call,
    make_server,
    serving_folder,
)
from tests.support.disks import FaultyDisk, How


async def ask(api: ServerClient, terms_hash: bytes, number: int) -> Ticket:
    """The ticket of a commitment."""
    answer = await api.request_ticket("spring", TicketRequest(commitment(number), terms_hash))
    assert isinstance(answer, Ticketed)
    return Ticket.parse(answer.ticket)


@pytest.mark.parametrize("how", ["not-stored", "stored", "full"])
@pytest.mark.parametrize("step", [0, 1])
async def test_a_failing_disk_stops_the_server_and_a_restart_recovers(
    tmp_path: Path, how: How, step: int
) -> None:
    """Nobody is answered, the daemon ends with the reason, and the next start goes on."""
    folder, settings = make_server(tmp_path / "d")
    clock = ManualClock()
    terms_hash = (await make_call(folder, clock)).terms.hash
    disk = FaultyDisk()
    async with Session() as session:
        async with serving_folder(folder, settings, clock, disk=disk) as (server, task):
            api = ServerClient(session, f"http://127.0.0.1:{server.http.port}")
            first = await ask(api, terms_hash, 1)
            disk.fail_at(step, how)
            with pytest.raises(UnavailableError):
                await ask(api, terms_hash, 2)
            await asyncio.wait([task], timeout=10)
            with pytest.raises(StorageError):
                task.result()
        async with serving_folder(folder, settings, clock) as (server, _):
            api = ServerClient(session, f"http://127.0.0.1:{server.http.port}")
            assert (await ask(api, terms_hash, 1)).entry == first.entry
            second = await ask(api, terms_hash, 2)
            assert second.index == 2
            assert (await ask(api, terms_hash, 2)).entry == second.entry


async def test_a_damaged_ledger_is_not_served(tmp_path: Path) -> None:
    """The start fails and names the file; nothing is given back to nobody."""
    folder, settings = make_server(tmp_path / "d")
    clock = ManualClock()
    call = await make_call(folder, clock)
    (wal,) = (call.folder.log / "wal").iterdir()
    whole = wal.read_bytes().rstrip(b"\0")
    wal.write_bytes(whole[:-40] + b"x" * 40)
    for _ in range(2):
        with pytest.raises(StorageError, match="wal/0"):
            await Server.open(folder, settings, clock)


async def test_terms_that_are_not_in_the_log_stop_the_server(tmp_path: Path) -> None:
    """A log from an old copy would sign a second history: it is not continued."""
    folder, settings = make_server(tmp_path / "d")
    clock = ManualClock()
    call = await make_call(folder, clock)
    shutil.rmtree(call.folder.log)
    with pytest.raises(StorageError, match="not in its log"):
        await Server.open(folder, settings, clock)


async def test_a_log_that_lost_entries_is_not_continued(tmp_path: Path) -> None:
    """An old copy, or a disk that lied: the next ticket would contradict one that was given."""
    folder, settings = make_server(tmp_path / "d")
    clock = ManualClock()
    call = await make_call(folder, clock)
    old = tmp_path / "copy"
    shutil.copytree(call.folder.log, old)
    async with Session() as session, serving_folder(folder, settings, clock) as (server, _):
        api = ServerClient(session, f"http://127.0.0.1:{server.http.port}")
        await ask(api, call.terms.hash, 1)
        for _ in range(1_000):
            if await known_size(folder, clock) == 2:
                break
            await asyncio.sleep(0.01)
    newest = tmp_path / "newest"
    call.folder.log.rename(newest)
    shutil.copytree(old, call.folder.log)
    for _ in range(2):
        with pytest.raises(StorageError, match="has 1 entries, and 2 were written") as caught:
            await Server.open(folder, settings, clock)
        assert "second history" in caught.value.hint
    clock.advance(2 * HOUR_MS)
    async with open_log(folder, call, clock, error_limit_ms=100) as log:
        assert [index async for index, _ in log.entries()] == [0]
        with pytest.raises(StorageError, match="has 1 entries"):
            await log.append_closed()
        with pytest.raises(StorageError, match="has 1 entries"):
            await log.append_opening()
    shutil.rmtree(call.folder.log)
    newest.rename(call.folder.log)
    async with Session() as session, serving_folder(folder, settings, clock) as (server, _):
        api = ServerClient(session, f"http://127.0.0.1:{server.http.port}")
        assert (await ask(api, call.terms.hash, 1)).index == 1


async def known_size(folder: ServerFolder, clock: ManualClock) -> int:
    """How many entries of the log the database has read."""
    database = await open_database(folder.database)
    try:
        return await Submissions(database, StatusFiles(folder.status), clock).tailed("spring")
    finally:
        await database.close()


async def test_a_clock_behind_the_ledger_does_not_start(tmp_path: Path) -> None:
    """With a clock an hour back nothing says ready; both times are named, and what to do."""
    folder, settings = make_server(tmp_path / "d")
    call = await make_call(folder, ManualClock(), opens=UnixMillis(NOON - HOUR_MS))
    behind = ManualClock()
    behind.step(-HOUR_MS)
    for _ in range(2):
        with pytest.raises(StorageError, match=r"ends at .*T12:00:00.*says .*T11:00:00") as caught:
            await Server.open(folder, settings, behind)
        assert "1 h earlier" in caught.value.message
        assert "set the clock right" in caught.value.hint
    # A second back is borne: tickets of that second get the time of the last entry.
    near = ManualClock()
    near.step(-1_000)
    async with Session() as session, serving_folder(folder, settings, near) as (server, _):
        api = ServerClient(session, f"http://127.0.0.1:{server.http.port}")
        assert (await ask(api, call.terms.hash, 1)).time == NOON


@pytest.mark.parametrize("step_ms", [HOUR_MS, -HOUR_MS])
async def test_a_clock_that_is_set_stops_a_server_that_nobody_asks(
    tmp_path: Path, step_ms: int
) -> None:
    """It is found when it happens, not with the first ticket of the last minute."""
    folder, settings = make_server(tmp_path / "d")
    clock = ManualClock()
    await make_call(folder, clock)
    async with serving_folder(folder, settings, clock) as (_, task):
        # As long as its error is unknown, nothing is stamped, and nothing has to stop.
        clock.bound_ms = None
        clock.step(step_ms)
        await asyncio.sleep(2 * settings.calls.poll_ms / 1_000)
        assert not task.done()
        clock.bound_ms = 10
        await asyncio.wait([task], timeout=10)
        with pytest.raises(StorageError, match="the clock was set by"):
            task.result()
