"""Small fragments that come whole: answered before the ordinary server, kept in shared segments."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import trustme

from bistro.api import media
from bistro.errors import StorageError
from bistro.wire.batches import BatchItem, Release
from bistro.wire.receipt import Receipt
from tests.support.disks import FaultyDisk
from tests.support.paper import RELAY, SPRING, PaperCall, Sealed, publishing
from tests.support.relays import (
    Site,
    allow,
    eventually,
    free_port,
    metadata,
    relay_settings,
    relay_site,
    serving_relay,
)
from tests.support.strategies import note_key

KEY = note_key(RELAY).verifier
MIB = 1_048_576


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with relay_site(tmp_path) as found:
        yield found


def request(call: PaperCall, sealed: Sealed, *, body: bytes | None = None, **fields: str) -> bytes:
    """The one request that stages fragment 0."""
    data = sealed.fragment(0) if body is None else body
    usual = {
        "Host": "relay",
        "Content-Type": media.TUS_BYTES,
        "Content-Length": str(len(data)),
        "Tus-Resumable": "1.0.0",
        "Upload-Length": str(len(data)),
        "Upload-Metadata": metadata(call.claim(sealed)),
    }
    changed = usual | {name.replace("_", "-"): value for name, value in fields.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in changed.items())
    return f"POST /uploads HTTP/1.1\r\n{lines}\r\n".encode() + data


class Line:
    """A raw connection to a relay."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, site: Site) -> Line:
        port = site.relay.settings.http.port
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def answer(self) -> tuple[int, dict[str, str]]:
        """Status and header fields of the next answer, whose body is passed over."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")[:-2]
        fields = dict(line.split(": ", 1) for line in lines)
        await self._reader.readexactly(int(fields.get("Content-Length", 0)))
        return int(first.split()[1]), fields

    async def ask(self, data: bytes) -> tuple[int, dict[str, str]]:
        self.writer.write(data)
        return await self.answer()

    def close(self) -> None:
        self.writer.close()


def receipt_of(fields: dict[str, str]) -> Receipt:
    found = Receipt.parse(base64.b64decode(fields["Bistro-Receipt"]))
    found.verify(KEY, SPRING)
    return found


async def fetched(site: Site, sealed: Sequence[Sealed]) -> list[bytes]:
    """The fragments as the destination gets them."""
    items = [BatchItem(one.commitment, 0, 0) for one in sealed]
    found: list[bytes] = []
    async with site.relay.collector(site.call).fetch_batch(items) as frames:
        async for frame in frames:
            if isinstance(frame, bytes):
                found[-1] += frame
            else:
                assert frame.code is None
                found.append(b"")
    return found


async def test_the_answer_is_that_of_the_ordinary_server(site: Site) -> None:
    """Same status, same fields; only what differs for each request differs."""
    await site.relay.stage(site.call, Sealed(9))
    line = await Line.to(site)
    status, quick = await line.ask(request(site.call, Sealed(1)))
    line.close()
    line = await Line.to(site)
    checksum = "sha1 " + base64.b64encode(bytes(20)).decode()
    wrong, _ = await line.ask(request(site.call, Sealed(2), Upload_Checksum=checksum))
    assert wrong == 460, "a checksum is the ordinary server's, and so is the connection now"
    again, ordinary = await line.ask(request(site.call, Sealed(2)))
    assert (status, again) == (201, 201)
    assert quick.keys() == ordinary.keys() - {"Content-Type"}
    for name in quick.keys() - {"Date", "Location", "Bistro-Receipt", "Bistro-Request-Id"}:
        assert quick[name] == ordinary[name], name
    line.close()


async def test_requests_follow_each_other_on_one_connection(site: Site) -> None:
    """One by one, and sent ahead; each gets its own receipt, in order."""
    await site.relay.stage(site.call, Sealed(99))
    line = await Line.to(site)
    for number in range(3):
        _, fields = await line.ask(request(site.call, Sealed(number)))
        assert receipt_of(fields).commitment == Sealed(number).commitment
    ahead = [Sealed(10 + number, size=200_000) for number in range(4)]
    line.writer.write(b"".join(request(site.call, one) for one in ahead))
    for one in ahead:
        status, fields = await line.answer()
        assert status == 201
        assert receipt_of(fields).commitment == one.commitment
    assert await fetched(site, ahead) == [one.fragment(0) for one in ahead]
    line.close()


@pytest.mark.parametrize("size", [2, 2 * 64 * 1024, 2 * MIB])
async def test_sizes_up_to_the_largest_come_back_as_they_went(site: Site, size: int) -> None:
    """One byte, the usual, and exactly the limit; byte by byte at the borders of a read."""
    sealed = Sealed(1, size=size)
    await site.relay.stage(site.call, Sealed(9))
    line = await Line.to(site)
    data = request(site.call, sealed)
    for piece in (data[:1], data[1:900], data[900:-1], data[-1:]):
        line.writer.write(piece)
        await line.writer.drain()
        await asyncio.sleep(0.01)
    status, fields = await line.answer()
    assert status == 201
    assert int(fields["Upload-Offset"]) == len(sealed.fragment(0))
    assert await fetched(site, [sealed]) == [sealed.fragment(0)]
    path = fields["Location"]
    assert (await site.relay.ask("HEAD", path)).receipt == receipt_of(fields)
    assert (await site.relay.ask("DELETE", path)).status == 403
    line.close()


async def test_a_larger_one_has_a_segment_of_its_own(site: Site) -> None:
    """And is streamed there."""
    sealed = Sealed(1, size=2 * MIB + 2)
    await site.relay.stage(site.call, Sealed(9))
    line = await Line.to(site)
    status, _ = await line.ask(request(site.call, sealed))
    assert status == 201
    root = site.relay.settings.relay.data_path / "segments"
    own = [path for path in root.rglob("*.segment") if path.parent.name != "shared"]
    assert len(own) == 1
    assert await fetched(site, [sealed]) == [sealed.fragment(0)]
    line.close()


async def test_a_held_fragment_is_answered_with_its_receipt_whatever_is_sent(site: Site) -> None:
    """Again, at the same time, with wrong bytes, after the deadline: one entry, one row."""
    sealed = Sealed(1)
    await site.relay.stage(site.call, Sealed(9))
    lines = [await Line.to(site) for _ in range(8)]
    answers = await asyncio.gather(  # noqa: TID251 - all at the same time
        *(line.ask(request(site.call, sealed)) for line in lines)
    )
    wrong = bytes(len(sealed.fragment(0)))
    answers.append(await lines[0].ask(request(site.call, sealed, body=wrong)))
    entries = {receipt_of(fields).entry for _, fields in answers}
    assert len(entries) == 1
    assert {status for status, _ in answers} == {201}
    assert len({fields["Location"] for _, fields in answers}) == 1
    assert len(await site.relay.collector(site.call).fetch_staged()) == 2
    assert site.relay.services.room.used(SPRING.server) == 2 * len(sealed.fragment(0))
    site.relay.clock.advance(site.call.terms.repair_by + 1 - site.relay.clock.now())
    status, fields = await lines[1].ask(request(site.call, sealed))
    assert (status, receipt_of(fields).entry in entries) == (201, True)
    status, _ = await lines[1].ask(request(site.call, Sealed(2)))
    assert status == 403
    for line in lines:
        line.close()


async def test_wrong_bytes_are_460_and_leave_nothing(site: Site) -> None:
    """No receipt, no room taken, no row; the right bytes are taken afterwards."""
    sealed = Sealed(1)
    await site.relay.stage(site.call, Sealed(9))
    used = site.relay.services.room.used(SPRING.server)
    line = await Line.to(site)
    status, _ = await line.ask(request(site.call, sealed, body=bytes(len(sealed.fragment(0)))))
    assert status == 460
    assert site.relay.services.room.used(SPRING.server) == used
    assert len(await site.relay.collector(site.call).fetch_staged()) == 1
    status, _ = await line.ask(request(site.call, sealed))
    assert status == 201
    line.close()


async def test_a_request_that_does_not_come_to_its_end_costs_no_memory_for_long(
    site: Site,
) -> None:
    """It goes to the ordinary server, which streams it; the rest may come slowly."""
    await site.relay.stage(site.call, Sealed(9))
    whole = site.relay.services.whole
    free = whole._memory
    line = await Line.to(site)
    data = request(site.call, Sealed(1))
    line.writer.write(data[:-1])
    await eventually(lambda: whole._memory < free)
    line.writer.write(b"")
    await eventually(lambda: site.relay.services.gate.count == 1)
    status, fields = await line.ask(data[-1:])
    assert status == 201
    assert receipt_of(fields).commitment == Sealed(1).commitment
    line.close()
    await eventually(lambda: whole._memory == free)
    assert site.relay.services.gate.count == 0


async def test_without_memory_fragments_are_streamed(site: Site) -> None:
    """Nothing is refused for it, and nothing grows."""
    await site.relay.stage(site.call, Sealed(9))
    site.relay.services.whole._memory = 0
    line = await Line.to(site)
    for number in range(2):
        status, _ = await line.ask(request(site.call, Sealed(number)))
        assert status == 201
    assert site.relay.services.whole._memory == 0
    line.close()


async def test_who_hangs_up_harms_nobody(site: Site) -> None:
    """Before, within and after a request; the others are answered, nothing stays taken."""
    await site.relay.stage(site.call, Sealed(99))
    free = site.relay.services.whole._memory
    good = await Line.to(site)
    for number in range(12):
        bad = await Line.to(site)
        data = request(site.call, Sealed(number))
        bad.writer.write(data[: number * len(data) // 11])
        await bad.writer.drain()
        bad.writer.transport.abort()
        status, _ = await good.ask(request(site.call, Sealed(100 + number)))
        assert status == 201
    good.close()
    await eventually(lambda: site.relay.services.whole._memory == free)
    await eventually(lambda: site.relay.services.gate.count == 0)
    assert not site.relay.task.done()


async def test_a_batch_of_thousands_comes_in_the_order_that_was_asked(site: Site) -> None:
    """Small, large, released and unknown ones mixed; each frame is whole."""
    sealed = [Sealed(number, size=600) for number in range(300)]
    await site.relay.stage(site.call, Sealed(1_000, size=3 * MIB))
    line = await Line.to(site)
    for one in sealed:
        assert (await line.ask(request(site.call, one)))[0] == 201
    line.close()
    client = site.relay.collector(site.call)
    gone = sealed[7]
    sha256 = gone.cut.descriptors[0].sha256
    await client.release([Release(SPRING, gone.commitment, 0, sha256)])
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


async def test_an_io_error_is_answered_and_stops_the_relay(tmp_path: Path) -> None:
    """500 for whoever waits; nothing may be promised over a disk that fails."""
    call = PaperCall()
    async with publishing(call) as server:
        settings, disk = relay_settings(tmp_path), FaultyDisk()
        allow(settings, server)
        async with serving_relay(settings, disk=disk) as relay:
            site = Site(relay, call, server)
            await relay.stage(call, Sealed(1))
            line = await Line.to(site)
            disk.fail_at(0, "not-stored")
            status, _ = await line.ask(request(call, Sealed(2)))
            assert status in {500, 503}
            await asyncio.wait({relay.task})
            line.close()
        assert isinstance(relay.task.exception(), StorageError)
        async with serving_relay(settings) as relay:
            site = Site(relay, call, server)
            assert await fetched(site, [Sealed(1)]) == [Sealed(1).fragment(0)]
            await relay.stage(call, Sealed(2))


async def test_a_full_disk_is_507_and_the_relay_stays(tmp_path: Path) -> None:
    """What can be kept is kept alone; then the answer is relay-full, until there is room."""
    call = PaperCall()
    free = 1 << 40
    async with publishing(call) as server:
        settings = relay_settings(tmp_path)
        allow(settings, server)
        async with serving_relay(settings, free_disk=lambda: free) as relay:
            site = Site(relay, call, server)
            await relay.stage(call, Sealed(99))
            line = await Line.to(site)
            free = 100
            assert (await line.ask(request(call, Sealed(1))))[0] == 507
            free = 1 << 40
            assert (await line.ask(request(call, Sealed(1))))[0] == 201
            line.close()
            assert not relay.task.done()


async def test_one_address_has_its_share_of_requests(tmp_path: Path) -> None:
    """More are refused by the ordinary server, with 503."""
    async with relay_site(tmp_path, limits={"uploads_per_address_count": 1}) as site:
        await site.relay.stage(site.call, Sealed(9))
        first, second = await Line.to(site), await Line.to(site)
        data = request(site.call, Sealed(1))
        first.writer.write(data[:-1])
        await eventually(lambda: site.relay.services.gate.count == 1)
        status, fields = await second.ask(request(site.call, Sealed(2)))
        assert (status, "Retry-After" in fields) == (503, True)
        assert (await first.ask(data[-1:]))[0] == 201
        first.close()
        second.close()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_over_tls_all_is_the_same(tmp_path: Path, loop: str) -> None:
    """Small ones here, others by the ordinary server, on one connection, on both event loops."""
    factory = asyncio.new_event_loop
    if loop == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_over_tls(tmp_path))


async def _over_tls(root: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    chain, key = root / "chain.pem", root / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(chain)
    certificate.private_key_pem.write_to_path(key)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    call = PaperCall()
    async with publishing(call) as server:
        port = free_port()
        http = {"certificate_path": chain, "key_path": key, "port": port}
        settings = relay_settings(root, http={**http, "base_url": f"https://localhost:{port}"})
        allow(settings, server)
        async with serving_relay(settings) as relay:
            await relay.services.book.require(SPRING)
            reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
            line = Line(reader, writer)
            path = ""
            for number, size in enumerate((2, 131_072, MIB)):
                one = Sealed(number, size=size)
                status, fields = await line.ask(request(call, one))
                path = fields["Location"]
                assert status == 201
                assert receipt_of(fields).commitment == one.commitment
            large = Sealed(7, size=3 * MIB)
            assert (await line.ask(request(call, large)))[0] == 201
            assert (await line.ask(request(call, Sealed(8))))[0] == 201
            head = f"HEAD {path} HTTP/1.1\r\nHost: relay\r\nTus-Resumable: 1.0.0\r\n\r\n"
            writer.write(head.encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            line.close()


async def test_a_full_relay_says_so_before_the_bytes_flow(tmp_path: Path) -> None:
    """The head alone is answered; also where the client waits to be asked for the body."""
    call = PaperCall()
    free = 1 << 40
    async with publishing(call) as server:
        settings = relay_settings(tmp_path)
        allow(settings, server)
        async with serving_relay(settings, free_disk=lambda: free) as relay:
            site = Site(relay, call, server)
            await relay.stage(call, Sealed(99))
            free = 100
            for data in (
                request(call, Sealed(1)),
                request(call, Sealed(1), Expect="100-continue"),
            ):
                line = await Line.to(site)
                head = data[: data.index(b"\r\n\r\n") + 4]
                line.writer.write(head)
                status, _ = await line.answer()
                while status == 100:
                    status, _ = await line.answer()
                assert status == 507
                line.close()


async def test_connections_beyond_the_limit_are_closed_at_once(tmp_path: Path) -> None:
    """One address may have half of them; those that are there go on."""
    async with relay_site(tmp_path, http={"connections_count": 8}) as site:
        await site.relay.stage(site.call, Sealed(99))
        lines = [await Line.to(site) for _ in range(6)]
        refused = 0
        for number, line in enumerate(lines):
            try:
                status, _ = await line.ask(request(site.call, Sealed(number)))
                assert status == 201
            except (ConnectionError, asyncio.IncompleteReadError):
                refused += 1
        assert 0 < refused < len(lines)
        for line in lines:
            line.close()
        await eventually(lambda: site.relay.services.gate.count == 0)
