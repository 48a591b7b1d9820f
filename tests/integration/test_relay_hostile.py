"""What nobody sends in good faith: floods, monsters, crawlers; the relay answers and goes on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from bistro.wire.claim import MAX_CLAIM_SIZE
from bistro_relay.http import feeding, listening
from bistro_relay.http.upload_connection import UploadConnection
from tests.support.lines import Line, written
from tests.support.paper import SPRING, Sealed
from tests.support.relays import TUS, Site, eventually, metadata, relay_site
from tests.support.small_fragments import fetched, line_to, staging
from tests.support.ways import Way, asked

PATHS = (
    "/uploads/..",
    "/uploads/../../etc/passwd",
    "/uploads/..%2f..%2fetc%2fpasswd",
    "/uploads/%2e%2e/%2e%2e/relay.key",
    "/uploads/%00",
    "/uploads/%ff%fe",
    "/uploads/" + "a" * 4_000,
    "/uploads/" + "0" * 31,
    "/uploads/" + "A" * 32,
    "/uploads/0000'; DROP TABLE upload; --",
    "/uploads//",
    "//uploads/" + "0" * 32,
)


@pytest.fixture(params=Way)
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    async with relay_site(tmp_path) as found:
        yield await asked(found, request.param)


async def still_good(site: Site, number: int = 99) -> None:
    """A usual request gets its usual answer."""
    await site.relay.stage(site.call, Sealed(number))
    assert not site.relay.task.done()


def flooded(count: int, size: int) -> bytes:
    """A creation with so many fields of that size."""
    fields = {f"X-Flood-{number}": "x" * size for number in range(count)}
    return written("POST /uploads", {"Host": "relay", **TUS, **fields, "Content-Length": "0"})


@pytest.mark.parametrize(
    "head",
    [
        flooded(100, 10),
        flooded(2_000, 100),
        flooded(1, 20_000),
        flooded(1, 2_000_000),
        b"POST /uploads HTTP/1.1\r\n" + b"x" * 200_000,
        b"POST /" + b"u" * 200_000,
        b"POST /uploads HTTP/1.1\r\n" + b"a: b\r\n" * 100_000,
        b"\x00" * 100_000,
        b"POST /uploads HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
        b"POST /uploads HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0",
        b"POST /uploads HTTP/1.1\r\nExpect: \xa0\r\nContent-Length: 5\r\n\r\nabcde",
        b"POST /uploads HTTP/1.1\r\nExpect: miracles\r\nContent-Length: 5\r\n\r\nabcde",
    ],
    ids=lambda head: f"{head[:12]!r} {len(head)}",
)
async def test_a_flood_in_a_head_is_refused_and_the_line_closed(
    relay_of_all: Site, head: bytes
) -> None:
    """With a 4xx, or without a word; nothing of it is kept, and others are served."""
    line = await line_to(relay_of_all.relay)
    line.send(head)
    try:
        answer = await line.answer()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # closed at once, or while the rest of it was on its way
    else:
        assert 400 <= answer.status < 500
    line.close()
    await still_good(relay_of_all)


@pytest.fixture
async def relay_of_all(tmp_path: Path) -> AsyncIterator[Site]:
    async with relay_site(tmp_path) as found:
        yield found


@pytest.mark.parametrize("size", [MAX_CLAIM_SIZE, MAX_CLAIM_SIZE + 3, 11_000, 200_000])
async def test_huge_metadata_are_malformed(site: Site, size: int) -> None:
    """As large as a claim may be, and larger; also with bytes behind them."""
    sealed = Sealed(1)
    claim = site.call.claim(sealed)
    huge = "claim " + "A" * (4 * size // 3)
    for body in (None, sealed.fragment(0)):
        reply = await site.relay.create(claim, body=body, Upload_Metadata=huge)
        assert reply.status == 400
    assert site.relay.services.room.used(SPRING.server) == 0
    await still_good(site)


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE", "GET"])
async def test_identifiers_that_look_like_paths_are_unknown(
    relay_of_all: Site, method: str
) -> None:
    """404 or 405, for every method; no file is looked for by them."""
    fields = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    for path in PATHS:
        for end in ("", "/receipt", "/custody"):
            line = await line_to(relay_of_all.relay)
            request = {"Host": "relay", **TUS, **fields, "Content-Length": "0"}
            start = f"{method} {path.replace(' ', '%20')}{end}"
            line.send(written(start, request))
            head = await line.head()
            assert head.split()[1] in {b"400", b"404", b"405"}, path
            line.close()
    await still_good(relay_of_all)


async def test_no_fragment_has_no_bytes(site: Site) -> None:
    """An upload of nothing is not what any claim says; one byte is the least."""
    claim = site.call.claim(Sealed(1))
    for body in (None, b"x"):
        assert (await site.relay.create(claim, body=body, Upload_Length="0")).status == 400
    smallest = Sealed(2, size=1)
    reply = await site.relay.create(site.call.claim(smallest), body=smallest.fragment(0))
    assert (reply.status, reply.offset) == (201, 1)
    assert reply.receipt is not None


@pytest.mark.parametrize("way", Way)
async def test_a_fragment_is_as_large_as_the_operator_lets_it(tmp_path: Path, way: Way) -> None:
    """To the byte; one more is 413 before any is read, whatever the claim says."""
    async with relay_site(tmp_path, limits={"fragment_bytes": 40_000}) as found:
        site = await asked(found, way)
        largest, larger = Sealed(1, size=80_000), Sealed(2, size=80_002)
        good = await site.relay.create(site.call.claim(largest), body=largest.fragment(0))
        assert (good.status, good.offset) == (201, 40_000)
        claim = site.call.claim(larger)
        assert (await site.relay.create(claim)).status == 413
        assert (await site.relay.create(claim, body=larger.fragment(0)[:9])).status == 413
        assert await fetched(site.relay, site.call, [largest]) == [largest.fragment(0)]


async def test_a_writer_that_falls_silent_is_cut_off_and_keeps_its_bytes(tmp_path: Path) -> None:
    """After the idle time; the place among the open requests is free again."""
    async with relay_site(tmp_path, limits={"idle_s": 0.2}) as site:
        sealed = Sealed(1)
        path = (await site.relay.create(site.call.claim(sealed))).path
        fields = {
            "Host": "relay",
            **TUS,
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": "0",
            "Content-Length": "5000",
        }
        line = await line_to(site.relay)
        answer = await line.ask(written(f"PATCH {path}", fields, sealed.fragment(0)[:100]))
        assert (answer.status, answer.fields["Tus-Resumable"]) == (503, "1.0.0")
        assert site.relay.services.gate.count == 0
        assert (await site.relay.ask("HEAD", path)).offset == 100
        line.close()


async def test_a_head_that_crawls_holds_no_place(relay_of_all: Site) -> None:
    """Byte by byte it is not a request; others are served all the while."""
    site = relay_of_all
    await site.relay.services.book.require(SPRING)
    data = staging(site.call, Sealed(1))
    line = await line_to(site.relay)
    for at in range(0, 200, 8):
        line.send(data[at : at + 8])
        await line.drain()
        await asyncio.sleep(0)
    assert site.relay.services.gate.count == 0
    await still_good(site)
    assert (await line.ask(data[200:])).status == 201
    line.close()


async def test_who_does_not_read_answers_gets_no_more_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand requests sent ahead cost no memory for a thousand answers; then all are read."""
    made: list[UploadConnection] = []

    class Seen(UploadConnection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            made.append(self)

    monkeypatch.setattr(listening, "UploadConnection", Seen)
    async with relay_site(tmp_path) as site:
        await site.relay.stage(site.call, Sealed(1))
        made.clear()
        line = await Line.to(site.relay.settings.http.port, limit=2_048)
        await eventually(lambda: bool(made))
        (seen,) = made
        transport = seen._transport
        behind = cast("socket.socket", transport.get_extra_info("socket"))
        behind.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        one = staging(site.call, Sealed(1))
        count = 1_000
        line.send(one * count)
        await eventually(lambda: seen._is_clogged)
        assert transport.get_write_buffer_size() < 100_000
        answered = 0
        while answered < count:
            assert (await line.answer()).status == 201
            answered += 1
            assert transport.get_write_buffer_size() < 100_000
        line.close()


async def test_metadata_of_a_claim_are_never_in_the_log(
    relay_of_all: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither good nor bad ones: whoever reads logs learns no claim."""
    site = relay_of_all
    claim = site.call.claim(Sealed(1))
    value = metadata(claim).removeprefix("claim ")
    await site.relay.create(claim, body=Sealed(1).fragment(0))
    await site.relay.create(claim, Upload_Metadata=f"claim {value[:-8]}AAAAAAA=")
    said = capsys.readouterr()
    assert value[:64] not in said.out + said.err


@pytest.mark.parametrize("is_draft", [False, True], ids=["tus", "draft"])
async def test_a_silent_writer_gives_way_to_who_asks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_draft: bool
) -> None:
    """Long before its time is over; a writer that was heard just now is left alone with 423."""
    protocols = {"resumable_upload_draft": True}
    async with relay_site(tmp_path, limits={"idle_s": 600}, protocols=protocols) as site:
        sealed = Sealed(1)
        path = (await site.relay.create(site.call.claim(sealed))).path
        fields = {
            "Host": "relay",
            **TUS,
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": "0",
            "Content-Length": "5000",
        }
        line = await line_to(site.relay)
        line.send(written(f"PATCH {path}", fields, sealed.fragment(0)[:100]))
        await eventually(lambda: site.relay.services.gate.count == 1)
        draft = {"Tus-Resumable": "", "Upload-Draft-Interop-Version": "6"}
        more = draft if is_draft else {}
        assert (await site.relay.ask("HEAD", path, fields=more)).status == 423
        monkeypatch.setattr(feeding, "SILENT_S", 0.0)
        reply = await site.relay.ask("HEAD", path, fields=more)
        while reply.status == 423:
            reply = await site.relay.ask("HEAD", path, fields=more)
        assert reply.offset == 100
        assert await line.ended()
        line.close()
        assert (await site.relay.patch(path, sealed.fragment(0)[100:], at=100)).receipt is not None
