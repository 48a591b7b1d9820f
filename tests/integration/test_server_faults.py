"""The disk below the ledgers fails, each way: nobody is answered with what may not last."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bistro.errors import StorageError, UnavailableError
from bistro.net.server_client import ServerClient
from bistro.net.session import Session
from bistro.wire.ticket import Ticket
from bistro.wire.ticketing import Ticketed, TicketRequest
from bistro_server.app import Server
from tests.support.clocks import ManualClock
from tests.support.destinations import commitment, make_call, make_server, serving_folder
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
    wal = call.folder.log / "log.wal"
    wal.write_bytes(wal.read_bytes()[:-40] + b"x" * 40)
    for _ in range(2):
        with pytest.raises(StorageError, match=r"log\.wal"):
            await Server.open(folder, settings, clock)


async def test_terms_that_are_not_in_the_log_stop_the_server(tmp_path: Path) -> None:
    """A log from an old copy would sign a second history: it is not continued."""
    folder, settings = make_server(tmp_path / "d")
    clock = ManualClock()
    call = await make_call(folder, clock)
    for path in call.folder.log.iterdir():
        path.unlink()
    with pytest.raises(StorageError, match="not in its log"):
        await Server.open(folder, settings, clock)


async def test_a_clock_behind_the_ledger_does_not_stamp(tmp_path: Path) -> None:
    """After a restart with a clock an hour back, the ledger refuses to go on."""
    folder, settings = make_server(tmp_path / "d")
    terms_hash = (await make_call(folder, ManualClock())).terms.hash
    behind = ManualClock()
    behind.step(-3_600_000)
    async with Session() as session, serving_folder(folder, settings, behind) as (server, task):
        api = ServerClient(session, f"http://127.0.0.1:{server.http.port}")
        with pytest.raises(UnavailableError, match="clock went back"):
            await ask(api, terms_hash, 1)
        await asyncio.wait([task], timeout=10)
        with pytest.raises(StorageError, match="clock went back"):
            task.result()
