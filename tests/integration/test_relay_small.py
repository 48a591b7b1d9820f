"""Small fragments that come whole: answered before the ordinary server, kept in shared segments."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from bistro.wire.batches import BatchItem, Release
from tests.support.lines import Line, written
from tests.support.paper import SPRING, Sealed
from tests.support.relays import (
    TUS,
    Site,
    free_port,
    relay_site,
)
from tests.support.small_fragments import fetched, line_to, receipt_of, staging
from tests.support.tls import issue

MIB = 1_048_576


async def test_the_answer_is_that_of_the_ordinary_server(site: Site) -> None:
    """Same status, same fields; only what differs for each request differs."""
    await site.relay.stage(site.call, Sealed(9))
    line = await line_to(site.relay)
    status, quick, _ = await line.ask(staging(site.call, Sealed(1)))
    line.close()
    line = await line_to(site.relay)
    checksum = "sha1 " + base64.b64encode(bytes(20)).decode()
    wrong, _, _ = await line.ask(staging(site.call, Sealed(2), Upload_Checksum=checksum))
    assert wrong == 460, "a checksum is the ordinary server's, and so is the connection now"
    again, ordinary, _ = await line.ask(staging(site.call, Sealed(2)))
    assert (status, again) == (201, 201)
    assert quick.keys() == ordinary.keys() - {"Content-Type"}
    for name in quick.keys() - {"Date", "Location", "Bistro-Receipt", "Bistro-Request-Id"}:
        assert quick[name] == ordinary[name], name
    line.close()


async def test_requests_follow_each_other_on_one_connection(site: Site) -> None:
    """One by one, and sent ahead; each gets its own receipt, in order."""
    await site.relay.stage(site.call, Sealed(99))
    line = await line_to(site.relay)
    for number in range(3):
        _, fields, _ = await line.ask(staging(site.call, Sealed(number)))
        assert receipt_of(fields).commitment == Sealed(number).commitment
    ahead = [Sealed(10 + number, size=200_000) for number in range(4)]
    line.send(b"".join(staging(site.call, one) for one in ahead))
    for one in ahead:
        status, fields, _ = await line.answer()
        assert status == 201
        assert receipt_of(fields).commitment == one.commitment
    assert await fetched(site.relay, site.call, ahead) == [one.fragment(0) for one in ahead]
    line.close()


@pytest.mark.parametrize("size", [2, 2 * 64 * 1024, 2 * MIB])
async def test_sizes_up_to_the_largest_come_back_as_they_went(site: Site, size: int) -> None:
    """One byte, the usual, and exactly the limit; byte by byte at the borders of a read."""
    sealed = Sealed(1, size=size)
    await site.relay.stage(site.call, Sealed(9))
    line = await line_to(site.relay)
    data = staging(site.call, sealed)
    for piece in (data[:1], data[1:900], data[900:-1], data[-1:]):
        line.send(piece)
        await line.drain()
        await asyncio.sleep(0.01)
    status, fields, _ = await line.answer()
    assert status == 201
    assert int(fields["Upload-Offset"]) == len(sealed.fragment(0))
    assert await fetched(site.relay, site.call, [sealed]) == [sealed.fragment(0)]
    path = urlsplit(fields["Location"]).path
    assert (await site.relay.ask("HEAD", path)).receipt == receipt_of(fields)
    assert (await site.relay.ask("DELETE", path)).status == 403
    line.close()


async def test_a_larger_one_has_a_segment_of_its_own(site: Site) -> None:
    """And is streamed there."""
    sealed = Sealed(1, size=2 * MIB + 2)
    await site.relay.stage(site.call, Sealed(9))
    line = await line_to(site.relay)
    status, _, _ = await line.ask(staging(site.call, sealed))
    assert status == 201
    root = site.relay.settings.relay.data_path / "segments"
    own = [path for path in root.rglob("*.segment") if path.parent.name != "shared"]
    assert len(own) == 1
    assert await fetched(site.relay, site.call, [sealed]) == [sealed.fragment(0)]
    line.close()


async def test_a_held_fragment_is_answered_with_its_receipt_whatever_is_sent(site: Site) -> None:
    """Again, at the same time, with wrong bytes, after the deadline: one entry, one row."""
    sealed = Sealed(1)
    await site.relay.stage(site.call, Sealed(9))
    lines = [await line_to(site.relay) for _ in range(8)]
    answers = await asyncio.gather(  # noqa: TID251 - all at the same time
        *(line.ask(staging(site.call, sealed)) for line in lines)
    )
    wrong = bytes(len(sealed.fragment(0)))
    answers.append(await lines[0].ask(staging(site.call, sealed, body=wrong)))
    entries = {receipt_of(fields).entry for _, fields, _ in answers}
    assert len(entries) == 1
    assert {status for status, _, _ in answers} == {201}
    assert len({fields["Location"] for _, fields, _ in answers}) == 1
    assert len(await site.relay.collector(site.call).fetch_staged()) == 2
    assert site.relay.services.room.used(SPRING.server) == 2 * len(sealed.fragment(0))
    site.relay.clock.advance(site.call.terms.repair_by + 1 - site.relay.clock.now())
    status, fields, _ = await lines[1].ask(staging(site.call, sealed))
    assert (status, receipt_of(fields).entry in entries) == (201, True)
    status, _, _ = await lines[1].ask(staging(site.call, Sealed(2)))
    assert status == 403
    for line in lines:
        line.close()


async def test_wrong_bytes_are_460_and_leave_nothing(site: Site) -> None:
    """No receipt, no room taken, no row; the right bytes are taken afterwards."""
    sealed = Sealed(1)
    await site.relay.stage(site.call, Sealed(9))
    used = site.relay.services.room.used(SPRING.server)
    line = await line_to(site.relay)
    status, _, _ = await line.ask(staging(site.call, sealed, body=bytes(len(sealed.fragment(0)))))
    assert status == 460
    assert site.relay.services.room.used(SPRING.server) == used
    assert len(await site.relay.collector(site.call).fetch_staged()) == 1
    status, _, _ = await line.ask(staging(site.call, sealed))
    assert status == 201
    line.close()


async def test_a_batch_of_thousands_comes_in_the_order_that_was_asked(site: Site) -> None:
    """Small, large, released and unknown ones mixed; each frame is whole."""
    sealed = [Sealed(number, size=600) for number in range(300)]
    await site.relay.stage(site.call, Sealed(1_000, size=3 * MIB))
    line = await line_to(site.relay)
    for one in sealed:
        assert (await line.ask(staging(site.call, one))).status == 201
    line.close()
    client = site.relay.collector(site.call)
    gone = sealed[7]
    digest = gone.cut.descriptors[0].fragment_hash
    await client.release([Release(SPRING, gone.commitment, 0, digest)])
    order = [*sealed[150:], Sealed(1_000, size=3 * MIB), *sealed[:150], Sealed(5_000)]
    items = [BatchItem(one.commitment, 0, 1) for one in order]
    heads: list[tuple[bytes, str | None]] = []
    bodies: list[bytes] = []
    async with client.fetch_batch(items) as frames:
        async for frame in frames:
            if isinstance(frame, bytes):
                bodies[-1] += frame
            else:
                heads.append((frame.commitment, frame.code))
                bodies.append(b"")
    assert [commitment for commitment, _ in heads] == [one.commitment for one in order]
    for one, (_, code), body in zip(order, heads, bodies, strict=True):
        if one is gone or one.number == 5_000:
            assert (code, body) == ("unknown-object", b"")
        else:
            assert (code, body) == (None, one.fragment(0)[1:])


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_over_tls_all_is_the_same(tmp_path: Path, loop: str) -> None:
    """Small ones here, others by the ordinary server, on one connection, on both event loops."""
    factory = asyncio.new_event_loop
    if loop == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_over_tls(tmp_path))


async def _over_tls(root: Path) -> None:
    issued = issue(trustme.CA(), root)
    port = free_port()
    http = {"certificate_path": issued.chain, "key_path": issued.key, "port": port}
    http["base_url"] = f"https://localhost:{port}"
    async with relay_site(root, http=http) as site:
        relay, call = site.relay, site.call
        await relay.services.book.require(SPRING)
        line = await Line.to(port, "localhost", ssl=issued.context())
        path = ""
        for number, size in enumerate((2, 131_072, MIB)):
            one = Sealed(number, size=size)
            status, fields, _ = await line.ask(staging(call, one))
            path = urlsplit(fields["Location"]).path
            assert status == 201
            assert receipt_of(fields).commitment == one.commitment
        large = Sealed(7, size=3 * MIB)
        assert (await line.ask(staging(call, large))).status == 201
        assert (await line.ask(staging(call, Sealed(8)))).status == 201
        line.send(written(f"HEAD {path}", {"Host": "relay", **TUS}))
        assert (await line.head()).startswith(b"HTTP/1.1 200")
        line.close()
