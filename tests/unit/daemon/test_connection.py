"""Quick requests over real loopback connections, and their way to the ordinary server."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from prometheus_client import generate_latest

from bistro.api import routes
from bistro.daemon import front
from bistro.errors import OverloadedError, StorageError
from tests.support.clocks import NOON
from tests.support.lines import Answer
from tests.support.quick_site import (
    MSGPACK,
    PATH,
    Site,
    break_answers,
    quick_site,
    request,
    until,
)

pytestmark = pytest.mark.usefixtures("reading")


async def test_a_quick_answer_has_the_fields_of_every_answer() -> None:
    """A reader cannot tell the ways apart, but for what was asked."""
    async with quick_site() as site:
        status, quick, body = await site.ask(request())
        assert (status, body) == (200, b"quick cba")
        (call, asked, exchange) = site.desk.asked[0]
        assert (call, asked, exchange.address) == ("spring", b"abc", "127.0.0.1")
        assert exchange.received_at == NOON
        _, other, body = await site.ask(request(X="é"))
        assert body == b"ordinary cba"
    assert quick.pop("Content-Type") == MSGPACK
    assert quick.pop("Cache-Control") == "no-store"
    assert other.pop("Content-Type") == "application/octet-stream"
    assert quick.keys() == other.keys()
    assert quick[routes.REQUEST_ID] != other[routes.REQUEST_ID]
    same = quick.keys() - {routes.REQUEST_ID, "Date", "Content-Length"}
    assert {name: quick[name] for name in same} == {name: other[name] for name in same}


async def test_bytes_may_come_one_by_one_or_all_at_once() -> None:
    """Where the network cuts makes no difference, nor what was sent ahead."""
    async with quick_site() as site, await site.connect() as line:
        for at in range(len(request())):
            line.send(request()[at : at + 1])
            await asyncio.sleep(0)
        assert (await line.answer())[2] == b"quick cba"
        line.send(b"".join(request(b"%d" % number) for number in range(10, 60)))
        answers = [(await line.answer())[2] for _ in range(50)]
        assert answers == [b"quick " + str(number)[::-1].encode() for number in range(10, 60)]


@pytest.mark.parametrize(
    "data",
    [
        request(line=f"PUT {PATH} HTTP/1.1"),
        request(line=f"POST {PATH}?x=1 HTTP/1.1"),
        request(line="POST /calls/%73pring/tickets HTTP/1.1"),
        request(line="POST /calls/spring/receipts HTTP/1.1"),
        request(line=f"POST {PATH} HTTP/1.0", Connection="keep-alive"),
        request(Content_Type="application/json"),
        request(Content_Length="0", body=b""),
        request(Content_Length="03"),
        request(bytes(10_001)),
        request(Connection="close"),
        request(Expect="100-continue"),
        request(Content_Encoding="gzip"),
        request(Upgrade="h2c"),
        request(b"3\r\nabc\r\n0\r\n\r\n", Transfer_Encoding="chunked").replace(
            b"Content-Length: 13\r\n", b""
        ),
        request().replace(b"Host", b"Content-Length: 3\r\nHost"),
        request().replace(b"Host: h\r\n", b""),
        request().replace(b"Host", b"Host :x\r\nHost"),
        request(X="a\x01"),
        request(X="é"),
        b"no HTTP at all\r\n\r\n",
        request().replace(b"Host", b"X: y\r\n" * 70 + b"Host"),
    ],
    ids=range(21),
)
async def test_what_is_not_exactly_a_quick_request_is_left_to_the_ordinary_server(
    data: bytes,
) -> None:
    """It answers, or refuses, as if there were no quick way."""
    async with quick_site() as site, await site.connect() as line:
        line.send(data)
        status, _, body = await line.answer()
        if status == 100:
            status, _, body = await line.answer()
        assert not body.startswith(b"quick")
        assert site.desk.asked == []


async def test_a_connection_goes_over_with_every_byte_and_stays() -> None:
    """Also those that were sent ahead."""
    async with quick_site() as site, await site.connect() as line:
        line.send(request(b"1") + request(b"2") + request(b"3", Accept="é") + request(b"4"))
        assert [(await line.answer())[2] for _ in range(4)] == [
            b"quick 1",
            b"quick 2",
            b"ordinary 3",
            b"ordinary 4",
        ]


async def test_a_head_without_end_goes_over_at_64_kib() -> None:
    """The ordinary server knows how to refuse it."""
    async with quick_site() as site:
        status, _, _ = await site.ask(b"POST /" + b"x" * 70_000)
        assert status == 400


async def test_errors_are_problem_documents_with_a_time_to_come_back() -> None:
    """As those of the ordinary server, and the connection goes on."""
    async with quick_site() as site, await site.connect() as line:
        site.desk.error = OverloadedError("full", retry_after_s=1.5)
        line.send(request())
        status, fields, body = await line.answer()
        assert (status, fields["Retry-After"]) == (503, "2")
        assert json.loads(body)["retry_after_ms"] == 1_500
        assert len(fields[routes.REQUEST_ID]) == 16
        site.desk.error = None
        line.send(request())
        assert (await line.answer())[0] == 200
        text = generate_latest(site.registry).decode()
    assert 'bistro_http_requests_total{method="POST",route="tickets",status="200"} 1.0' in text
    assert 'bistro_http_requests_total{method="POST",route="tickets",status="503"} 1.0' in text
    assert 'bistro_http_errors_total{code="overloaded",route="tickets"} 1.0' in text
    assert 'bistro_http_request_duration_seconds_count{route="tickets"} 2.0' in text


async def test_a_storage_error_is_answered_and_stops_the_part() -> None:
    """Over a store that failed nothing may be promised any more."""

    async def serve() -> None:
        async with quick_site() as site:
            site.desk.error = StorageError("disk: no space left")
            assert (await site.ask(request()))[0] == 500
            await asyncio.Event().wait()

    with pytest.raises(BaseExceptionGroup) as caught:
        await serve()
    assert caught.group_contains(StorageError, match="no space left")


async def test_whoever_goes_away_takes_the_request_along() -> None:
    """What is told to nobody harms nobody."""
    async with quick_site() as site:
        site.desk.is_silent = True
        line = await site.connect()
        line.send(request())
        await until(lambda: len(site.desk.asked) == 1)
        line.break_off()
        await until(lambda: site.desk.left == 1)
        site.desk.asked[0][2].tell(b"late")
        site.desk.is_silent = False
        assert (await site.ask(request()))[0] == 200


async def test_an_answer_that_cannot_be_sent_harms_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The event loop hears of it; all others of their answers."""
    heard = break_answers(monkeypatch, b"kcorb")
    async with quick_site() as site:
        site.desk.is_silent = True
        lines = [await site.connect() for _ in range(3)]
        for line, body in zip(lines, (b"1", b"brock", b"3"), strict=True):
            line.send(request(body))
        await until(lambda: len(site.desk.asked) == 3)
        for _, body, exchange in site.desk.asked:
            exchange.tell(body[::-1])
        assert [(await line.answer())[2] for line in lines[::2]] == [b"1", b"3"]
        assert [type(one["exception"]) for one in heard] == [RuntimeError]
        for line in lines:
            line.break_off()


async def test_silence_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections without a request, without a head's end, and requests without an answer."""
    monkeypatch.setattr(front, "SWEEP_S", 0.01)
    async with quick_site(idle_timeout_s=0.05, request_timeout_s=0.05) as site:
        for data in (b"", b"POST /", request()[:-1]):
            async with await site.connect() as line:
                line.send(data)
                assert await line.ended()
        site.desk.is_silent = True
        async with await site.connect() as line:
            line.send(request())
            status, _, body = await line.answer()
            assert (status, json.loads(body)["code"]) == (503, "unavailable")
        assert site.desk.left == 1


async def test_open_requests_are_answered_when_the_part_stops() -> None:
    """And told that the connection ends; idle ones are closed at once."""
    async with contextlib.AsyncExitStack() as stack:
        site = await stack.enter_async_context(quick_site())
        idle, asking = await site.connect(), await site.connect()
        site.desk.is_silent = True
        asking.send(request())
        await until(lambda: len(site.desk.asked) == 1)
        asyncio.get_running_loop().call_later(0.05, site.desk.asked[0][2].tell, b"good bye")
        await stack.aclose()
        assert (await asking.answer())[2] == b"good bye"
        assert await asking.ended()
        assert await idle.ended()
        asking.break_off()
        idle.break_off()


@pytest.mark.parametrize("accept", ["x", "é"], ids=["quick", "ordinary"])
async def test_unfinished_requests_share_a_budget(accept: str) -> None:
    """The oldest goes first, told so where it asked the quick way; the newest are answered."""
    async with contextlib.AsyncExitStack() as stack:
        site = await stack.enter_async_context(quick_site(unfinished_limit=2_500))
        lines = [await stack.enter_async_context(await site.connect()) for _ in range(4)]
        whole = request(bytes(900), Accept=accept)
        for count, line in enumerate(lines[:2], 1):
            line.send(whole[:-1])
            await until(lambda count=count: site.unfinished.size >= 899 * count)  # type: ignore[misc]
        lines[2].send(whole[:-1])
        if accept == "x":
            status, fields, body = await lines[0].answer()
            assert (status, json.loads(body)["code"]) == (503, "overloaded")
            assert (fields["Connection"], fields["Retry-After"]) == ("close", "1")
        assert await lines[0].ended()
        for line in lines[1:3]:
            line.send(whole[-1:])
            assert (await line.answer())[0] == 200
        lines[3].send(whole)
        assert (await lines[3].answer())[0] == 200


async def answered(site: Site, data: bytes) -> Answer:
    """The answer, once there is room: the server hears later who has left."""
    async with asyncio.timeout(5):
        while True:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                return await site.ask(data)


async def test_a_connection_without_room_is_closed_at_once() -> None:
    """Also where the others went to the ordinary server; whoever leaves makes room."""
    async with quick_site(connections_limit=4) as site:
        quick, ordinary = await site.connect(), await site.connect()
        quick.send(request())
        ordinary.send(request(Accept="é"))
        assert (await quick.answer())[2] == b"quick cba"
        assert (await ordinary.answer())[2] == b"ordinary cba"
        async with await site.connect() as third:
            assert await third.ended()
        ordinary.break_off()
        assert (await answered(site, request()))[0] == 200
        quick.break_off()
