"""What others can verify of a call's log: over HTTP, and from its folder alone.

And what a server does with ledgers that are not what they were: it stops.
"""

import asyncio
import shutil
import zlib
from pathlib import Path

import pytest

from bistro.api import routes
from bistro.crypto.merkle import verify_consistency
from bistro.errors import StorageError, UnavailableError, UnknownObjectError
from bistro.net.server_client import ServerClient
from bistro.net.session import Session
from bistro.wire.checkpoint import verify_checkpoint
from bistro_server.app import Server
from bistro_server.services.ledgers import CallLedgers
from tests.support.clocks import ManualClock
from tests.support.destinations import (
    HOUR_MS,
    SPRING,
    destination,
    make_call,
    make_server,
    serving_folder,
)
from tests.support.static_log import read_checkpoint, read_log


async def test_a_log_that_grew_is_proven_to_extend_the_one_before(tmp_path: Path) -> None:
    """The path is cached for ever; sizes that the log never had are unknown."""
    async with destination(tmp_path / "d") as site:
        key = site.terms.keys.log
        seen = []
        for begin in (0, 300, 301):
            requests = [site.request(number) for number in range(begin, begin + 200)]
            await site.api.request_tickets("spring", requests)
            note = await site.api.fetch_checkpoint("spring")
            seen.append(verify_checkpoint(note.encode(), key))
        for old in seen:
            for new in seen[seen.index(old) :]:
                path = await site.api.fetch_consistency("spring", old.size, new.size)
                verify_consistency(
                    old_size=old.size, old_root=old.root, size=new.size, root=new.root, path=path
                )
        url = routes.LOG_CONSISTENCY.url(site.base_url, call="spring", old="1", size="100")
        answer = await site.session.ask("GET", url, limit=10_000)
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        for begin_text, end_text in [
            ("5", "4"),
            ("1", "99999"),
            ("01", "5"),
            ("a", "5"),
            ("1", "-5"),
        ]:
            url = routes.LOG_CONSISTENCY.url(
                site.base_url, call="spring", old=begin_text, size=end_text
            )
            with pytest.raises(UnknownObjectError):
                await site.session.ask("GET", url, limit=10_000)


async def test_a_closed_call_leaves_its_whole_log_for_any_web_server(tmp_path: Path) -> None:
    """Under its final checkpoint, with the closed entry last; refusals beside it."""
    async with destination(tmp_path / "d") as site:
        requests = [site.request(number) for number in range(300)]
        await site.api.request_tickets("spring", requests)
        folder, refusals = site.call.folder.log, site.call.folder.refusals
        assert not (folder / "checkpoint").exists()
        site.clock.advance(HOUR_MS + 2_000)
        for _ in range(2_000):
            if (folder / "checkpoint").exists():
                break
            await asyncio.sleep(0.01)
        await site.api.request_ticket("spring", site.request(1_000))
        entries = read_log(folder, site.terms.keys.log.format())
        assert len(entries) == 302
        assert entries[-1].startswith(b"bistro/closed/v1\n")
        assert (await site.api.fetch_checkpoint("spring")).encode() == (
            folder / "checkpoint"
        ).read_bytes()
        assert not (refusals / "checkpoint").exists()
        await site.server.calls.get("spring").append_opening()
        entries = read_log(folder, site.terms.keys.log.format())
        assert entries[-1].startswith(b"bistro/opening/v1\n")
        refused_key = site.terms.keys.log.renamed(SPRING.refusals)
        assert len(read_log(refusals, refused_key.format())) == 1


async def test_new_checkpoints_are_published_while_the_call_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every few seconds, if there is a new one."""
    monkeypatch.setattr("bistro_server.services.ledgers.PUBLISH_EVERY_S", 0.01)
    async with destination(tmp_path / "d") as site:
        vkey = site.terms.keys.log.format()
        for count in (1, 300):
            await site.api.request_tickets("spring", [site.request(n) for n in range(count)])
            for _ in range(2_000):
                path = site.call.folder.log / "checkpoint"
                if path.exists() and read_checkpoint(path.parent, vkey)[1] == count + 1:
                    break
                await asyncio.sleep(0.01)
            assert len(read_log(site.call.folder.log, vkey)) == count + 1


async def test_several_calls_have_a_ledger_and_a_writer_each(tmp_path: Path) -> None:
    """One process serves them all; a second writer of any is refused, also while it serves."""
    folder, settings = make_server(tmp_path / "d")
    clock = ManualClock()
    origins = [SPRING, type(SPRING)(SPRING.server, "autumn")]
    calls = [await make_call(folder, clock, origin=origin) for origin in origins]
    async with serving_folder(folder, settings, clock) as (server, _), Session() as session:
        api = ServerClient(session, f"http://127.0.0.1:{server.http.port}")
        for call in calls:
            note = await api.fetch_checkpoint(call.id)
            assert verify_checkpoint(note.encode(), call.log_key).origin == str(call.origin)
            with pytest.raises(UnavailableError, match="in use"):
                await CallLedgers.open(call, clock, error_limit_ms=100)
    for call in calls:
        await (await CallLedgers.open(call, clock, error_limit_ms=100)).close()


async def test_swapped_folders_of_two_calls_are_not_served(tmp_path: Path) -> None:
    """Nothing is signed into the wrong log."""
    folder, settings = make_server(tmp_path / "d")
    clock = ManualClock()
    spring = await make_call(folder, clock)
    autumn = await make_call(folder, clock, origin=type(SPRING)(SPRING.server, "autumn"))
    before = {
        call.id: sorted((path.name, path.read_bytes()) for path in call.folder.log.rglob("0*"))
        for call in (spring, autumn)
    }
    spring.folder.log.rename(tmp_path / "elsewhere")
    autumn.folder.log.rename(spring.folder.log)
    (tmp_path / "elsewhere").rename(autumn.folder.log)
    with pytest.raises(
        StorageError, match=r"expected ledger permits\.example/autumn from"
    ) as caught:
        await Server.open(folder, settings, clock)
    assert "swapped" in caught.value.hint
    after = sorted((path.name, path.read_bytes()) for path in spring.folder.log.rglob("0*"))
    assert after == before["autumn"]


async def test_the_snapshot_of_a_later_day_stops_an_old_log(tmp_path: Path) -> None:
    """Whoever restores a part of a folder must not continue it: that would be a fork."""
    async with destination(tmp_path / "d") as site:
        shutil.copytree(site.call.folder.log, tmp_path / "old")
        await site.api.request_tickets("spring", [site.request(n) for n in range(600)])
        await site.server.calls.get("spring").log.publish()
        log, call, clock = site.call.folder.log, site.call, site.clock
    for part in ("wal", "tile", "index"):
        shutil.rmtree(log / part, ignore_errors=True)
        if (tmp_path / "old" / part).exists():
            shutil.copytree(tmp_path / "old" / part, log / part)
    with pytest.raises(StorageError):
        await CallLedgers.open(call, clock, error_limit_ms=100)


async def test_a_forged_tail_stops_the_log(tmp_path: Path) -> None:
    """A byte of the last record, with its CRC made right again: the signature does not hold."""
    async with destination(tmp_path / "d") as site:
        await site.api.request_ticket("spring", site.request(1))
        call, clock = site.call, site.clock
    (segment,) = (call.folder.log / "wal").iterdir()
    data = bytearray(segment.read_bytes())
    body_at = data.rindex(b"Brec") + 40
    end = data.rindex(b"Bend")
    ticket = data.rindex(b"bistro/ticket/v1")
    time_at = data.index(b"\n", data.index(b"\n", ticket) + 1) + 1
    data[time_at + 5] ^= 1
    data[end - 4 : end] = zlib.crc32(data[body_at : end - 4]).to_bytes(4, "big")
    segment.write_bytes(data)
    with pytest.raises(StorageError, match="do not lead to the checkpoint beside them"):
        await CallLedgers.open(call, clock, error_limit_ms=100)
