"""What one ticket, one destination and one address may begin at a relay, and how slowly."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bistro.api import media
from bistro.errors import UnavailableError
from bistro.wire.batches import BatchItem, Release
from tests.support.lines import Line, written
from tests.support.paper import SPRING, Sealed
from tests.support.relays import (
    TUS,
    RunningRelay,
    Site,
    allowed_relay,
    eventually,
    relay_site,
    serving_relay,
)
from tests.support.small_fragments import line_to, staging

SEALED = Sealed(1, size=40_000)
DATA = SEALED.fragment(0)
MIB = 1_048_576


async def create(relay: RunningRelay, site: Site, sealed: Sealed = SEALED) -> tuple[int, str]:
    """Status, and path of a new upload."""
    reply = await relay.create(site.call.claim(sealed))
    return reply.status, reply.headers.get("Location", "")


async def test_a_ticket_has_so_many_uploads_that_are_not_ended(tmp_path: Path) -> None:
    """One more is 503 and reserves nothing; each that ends, in any way, makes room for another."""
    async with relay_site(tmp_path, limits={"uploads_per_ticket_count": 2}) as site:
        relay = site.relay
        paths = [(await create(relay, site))[1].rpartition("/")[2] for _ in range(2)]
        used = relay.services.room.used(SPRING.server)
        refused = await relay.create(site.call.claim(SEALED))
        assert refused.status == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert relay.services.room.used(SPRING.server) == used
        assert (await create(relay, site, Sealed(2)))[0] == 201, "another ticket has its own"
        assert (await relay.ask("DELETE", f"/uploads/{paths[0]}")).status == 204
        status, path = await create(relay, site)
        assert status == 201
        assert (await create(relay, site))[0] == 503
        path = "/uploads/" + path.rpartition("/")[2]
        assert (await relay.patch(path, bytes(len(DATA)), at=0)).status == 460
        status, path = await create(relay, site)
        path = "/uploads/" + path.rpartition("/")[2]
        assert (await relay.patch(path, DATA, at=0)).receipt is not None
        relay.clock.advance(3_700_000)
        await eventually(lambda: relay.services.room.used(SPRING.server) == len(DATA))


async def test_what_had_begun_is_counted_again_after_a_restart(tmp_path: Path) -> None:
    """A restart is no way around a quota."""
    limits = {"uploads_per_ticket_count": 1, "reserve_bytes": 0}
    async with allowed_relay(tmp_path, limits=limits) as (settings, call):
        async with serving_relay(settings) as relay:
            assert (await relay.create(call.claim(SEALED))).status == 201
        async with serving_relay(settings) as relay:
            assert (await relay.create(call.claim(SEALED))).status == 503
            assert (await relay.create(call.claim(Sealed(2)))).status == 201


async def test_a_ticket_has_so_many_new_fragments_in_a_second(tmp_path: Path) -> None:
    """Also by the quick way; time brings more."""
    limits = {"fragments_per_ticket_per_s": 1, "uploads_per_ticket_count": 100}
    async with relay_site(tmp_path, limits=limits) as site:
        statuses = [(await create(site.relay, site))[0] for _ in range(17)]
        assert statuses == [201] * 16 + [503]
        line = await line_to(site.relay)
        assert (await line.ask(staging(site.call, SEALED))).status == 503
        site.relay.clock.advance(1_000)
        assert (await line.ask(staging(site.call, SEALED))).status == 201
        line.close()


async def test_a_destination_has_so_many_fragments(tmp_path: Path) -> None:
    """507 beyond, in both ways; a release makes room for another."""
    async with relay_site(tmp_path, limits={"fragments_count": 2}) as site:
        await site.relay.stage(site.call, Sealed(1))
        await site.relay.stage(site.call, Sealed(2))
        assert (await create(site.relay, site, Sealed(3)))[0] == 507
        line = await line_to(site.relay)
        assert (await line.ask(staging(site.call, Sealed(3)))).status == 507
        line.close()
        digest = Sealed(1).cut.descriptors[0].fragment_hash
        released = Release(SPRING, Sealed(1).commitment, 0, digest)
        await site.relay.collector(site.call).release([released])
        assert (await create(site.relay, site, Sealed(3)))[0] == 201


async def test_an_address_has_so_many_requests_in_a_second(tmp_path: Path) -> None:
    """Others are not concerned; it is told when to come again."""
    async with relay_site(tmp_path, limits={"requests_per_address_per_s": 1}) as site:
        answers = [await site.relay.create(site.call.claim(Sealed(n))) for n in range(18)]
        assert {one.status for one in answers[:16]} == {201}
        assert answers[-1].status == 503
        assert "Retry-After" in answers[-1].headers
        port = site.relay.settings.http.port
        async with await Line.to(port, local_addr=("127.0.0.9", 0)) as line:
            assert (await line.ask(staging(site.call, Sealed(99)))).status == 201


async def test_a_trickle_is_cut_off_and_keeps_what_it_brought(tmp_path: Path) -> None:
    """A byte now and then does not hold a place: on average there must be more."""
    async with relay_site(tmp_path, limits={"least_bytes_per_s": 100}) as site:
        sealed = Sealed(1, size=4 * MIB)
        _, path = await create(site.relay, site, sealed)
        path = "/uploads/" + path.rpartition("/")[2]
        fields = {"Host": "relay", "Content-Type": media.TUS_BYTES, **TUS, "Upload-Offset": "0"}
        fields["Content-Length"] = str(2 * MIB)
        async with await Line.to(site.relay.settings.http.port) as line:
            line.send(written(f"PATCH {path}", fields, sealed.fragment(0)[:1_000]))
            await eventually(lambda: site.relay.services.gate.count == 1)
            await asyncio.sleep(0.1)
            site.relay.clock.advance(20_000)
            line.send(b"\0")
            await asyncio.sleep(0.1)
            assert site.relay.services.gate.count == 1, "within its patience anybody may be slow"
            site.relay.clock.advance(20_000)
            line.send(b"\0")
            assert (await line.answer()).status == 503
        await eventually(lambda: site.relay.services.gate.count == 0)
        assert (await site.relay.ask("HEAD", path)).offset == 1_002


async def test_a_reader_that_takes_nothing_is_cut_off(tmp_path: Path) -> None:
    """It held a place and a piece in memory; who reads slowly but reads goes on."""
    async with relay_site(tmp_path, limits={"idle_s": 0.4}) as site:
        sealed = [Sealed(number, size=2 * MIB) for number in range(24)]
        for one in sealed:
            await site.relay.stage(site.call, one)
        sizes: list[int] = []
        with pytest.raises(UnavailableError):
            await _read_once(site, sealed, sizes)
        assert 0 < sum(sizes) < 24 * MIB


async def _read_once(site: Site, sealed: list[Sealed], sizes: list[int]) -> None:
    """Ask for fragments, and let the answer lie from its first bytes on."""
    items = [BatchItem(one.commitment, 0, 0) for one in sealed]
    async with site.relay.collector(site.call).fetch_batch(items) as frames:
        async for frame in frames:
            if isinstance(frame, bytes):
                sizes.append(len(frame))
                await asyncio.sleep(3.0)
