"""The frame around handlers, over real loopback connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import TransferEncodingError
from aiohttp.test_utils import make_mocked_request
from prometheus_client import CollectorRegistry

from bistro.api import routes
from bistro.api.routes import Route
from bistro.daemon.bodies import read_body, stream_body
from bistro.daemon.caching import FOR_EVER, cacheable_response
from bistro.daemon.listening import HttpPart, bind_tcp, bind_unix
from bistro.daemon.settings import HttpSettings
from bistro.daemon.web import Endpoint, new_app, request_id
from bistro.errors import (
    BistroError,
    DeadlinePassedError,
    FormatError,
    OverloadedError,
    SettingsError,
    StorageError,
    UnavailableError,
)
from tests.support.lines import Line
from tests.support.serving import http_part, is_always_ready, running, serving

HELLO = Route("hello", "GET", "/hello/{name}")
ECHO = Route("echo", "POST", "/echo")
PIECES = Route("pieces", "GET", "/pieces")


async def hello(request: web.Request) -> web.Response:
    return web.Response(text=request.match_info["name"])


def raising(error: BistroError) -> Endpoint:
    async def handler(_: web.Request) -> web.Response:
        raise error

    return Endpoint(HELLO, handler)


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await read_body(request, limit=1_000, idle_s=5))


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_every_answer_has_an_id_and_cors_fields(http: aiohttp.ClientSession) -> None:
    """A browser page may read what it needs, and a log line can be found by its id."""
    async with serving(Endpoint(HELLO, hello)) as base, http.get(f"{base}/hello/x") as answer:
        assert (answer.status, await answer.text()) == (200, "x")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert routes.RECEIPT in answer.headers["Access-Control-Expose-Headers"]
        assert len(answer.headers[routes.REQUEST_ID]) == 16


async def test_a_handler_can_name_its_request(http: aiohttp.ClientSession) -> None:
    """The id in the handler is the one in the answer."""

    async def tell(request: web.Request) -> web.Response:
        return web.Response(text=request_id(request))

    async with serving(Endpoint(HELLO, tell)) as base, http.get(f"{base}/hello/x") as answer:
        assert await answer.text() == answer.headers[routes.REQUEST_ID]


async def test_get_routes_answer_head(http: aiohttp.ClientSession) -> None:
    """HEAD has the fields and no body."""
    async with serving(Endpoint(HELLO, hello)) as base, http.head(f"{base}/hello/x") as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, "1")
        assert await answer.read() == b""


async def test_a_deliberate_error_becomes_a_problem_document(http: aiohttp.ClientSession) -> None:
    """Code, status, hint and Retry-After tell the caller what to do."""
    error = OverloadedError("400 requests wait", hint="come back", retry_after_s=1.2)
    async with serving(raising(error)) as base, http.get(f"{base}/hello/x") as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "2"
        assert answer.content_type == "application/problem+json"
        problem = json.loads(await answer.read())
    assert (problem["code"], problem["hint"]) == ("overloaded", "come back")


async def test_unknown_paths_and_methods_are_problem_documents(
    http: aiohttp.ClientSession,
) -> None:
    """Nothing answers in another form than the rest."""
    async with serving(Endpoint(HELLO, hello)) as base:
        async with http.get(f"{base}/nothing") as answer:
            assert answer.status == 404
            assert json.loads(await answer.read())["code"] == "unknown-object"
            assert routes.REQUEST_ID in answer.headers
        async with http.delete(f"{base}/hello/x") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")
            assert json.loads(await answer.read())["code"] == "malformed"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("path", ["/hello/x", "/nothing"])
async def test_what_cannot_be_expected_is_417_wherever_it_is_asked(method: str, path: str) -> None:
    """Also where there is no such address or method, and where it is not even text."""
    async with serving(Endpoint(HELLO, hello)) as base:
        port = int(base.rpartition(":")[2])
        for expected in (b"miracles", b"\xa0\xff"):
            async with await Line.to(port) as line:
                start = f"{method} {path} HTTP/1.1\r\nHost: x\r\nExpect: ".encode()
                answer = await line.ask(start + expected + b"\r\n\r\n")
                assert (answer.status, json.loads(answer.body)["code"]) == (417, "malformed")


async def test_preflights_are_answered_for_every_path(http: aiohttp.ClientSession) -> None:
    """A browser may send any method and field that the API has."""
    asked = {"Origin": "https://agency.example", "Access-Control-Request-Method": "PATCH"}
    async with (
        serving(Endpoint(ECHO, echo)) as base,
        http.options(f"{base}/echo", headers=asked) as answer,
    ):
        assert answer.status == 204
        assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
        assert answer.headers["Access-Control-Allow-Headers"] == "*"


async def test_a_body_over_the_limit_is_refused_whether_announced_or_streamed(
    http: aiohttp.ClientSession,
) -> None:
    """A streamed body has no announced length and is limited all the same."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 500

    async with serving(Endpoint(ECHO, echo)) as base:
        async with http.post(f"{base}/echo", data=b"x" * 1_000) as answer:
            assert await answer.read() == b"x" * 1_000
        for body in (b"x" * 1_001, endless()):
            async with http.post(f"{base}/echo", data=body) as answer:
                assert answer.status == 413
                assert json.loads(await answer.read())["code"] == "limit-exceeded"


async def test_a_silent_body_is_given_up() -> None:
    """A sender that stops holds no request for ever."""
    caught: list[BistroError] = []

    async def handler(request: web.Request) -> web.Response:
        try:
            async for _ in stream_body(request, limit=1_000, idle_s=0.01):
                pass
        except UnavailableError as error:
            caught.append(error)
            raise
        return web.Response()

    async with serving(Endpoint(ECHO, handler)) as base:
        status = await send_raw(
            base, b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"
        )
    assert b" 503 " in status
    assert "no byte for" in caught[0].message


async def test_a_broken_connection_ends_the_body_with_what_came() -> None:
    """What was yielded before the break is good; the break is an error, not an end."""
    pieces: list[bytes] = []
    began = asyncio.Event()
    ended: asyncio.Queue[BistroError] = asyncio.Queue()

    async def handler(request: web.Request) -> web.Response:
        try:
            async for piece in stream_body(request, limit=1_000):
                pieces.append(piece)
                began.set()
        except UnavailableError as error:
            ended.put_nowait(error)
        return web.Response()

    async with serving(Endpoint(ECHO, handler)) as base:
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"
        await send_raw(base, head, until=began)
        error = await asyncio.wait_for(ended.get(), 5)
    assert b"".join(pieces) == b"ab"
    assert "broke" in error.message


async def test_a_broken_transfer_encoding_is_malformed() -> None:
    """Chunks that are none are the sender's fault."""
    async with serving(Endpoint(ECHO, echo)) as base:
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        assert b" 400 " in await send_raw(base, head)


@pytest.mark.parametrize("error", [TransferEncodingError("no chunk"), web.RequestPayloadError()])
async def test_a_body_that_breaks_while_it_is_read_is_malformed(error: Exception) -> None:
    """Which of aiohttp's parsers found out makes no difference."""
    loop = asyncio.get_running_loop()
    payload = aiohttp.StreamReader(BaseProtocol(loop), limit=1_000, loop=loop)
    payload.feed_data(b"ab")
    request = make_mocked_request("POST", "/echo", payload=payload)
    pieces = stream_body(request, limit=1_000)
    assert await anext(pieces) == b"ab"
    payload.set_exception(error)
    with pytest.raises(FormatError, match="transfer encoding"):
        await anext(pieces)


async def test_a_request_that_takes_too_long_is_unavailable(http: aiohttp.ClientSession) -> None:
    """The caller may repeat it; streams are bounded by silence instead."""

    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(0.05)
        return web.Response(text="late")

    limited, stream = Endpoint(HELLO, slow), Endpoint(PIECES, slow, is_stream=True)
    async with serving(limited, stream, request_timeout_s=0.01) as base:
        async with http.get(f"{base}/hello/x") as answer:
            assert (answer.status, json.loads(await answer.read())["code"]) == (503, "unavailable")
        async with http.get(f"{base}/pieces") as answer:
            assert await answer.text() == "late"


async def test_an_error_after_the_head_breaks_the_answer(http: aiohttp.ClientSession) -> None:
    """A reader sees a broken answer, never one that looks complete."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        raise DeadlinePassedError("too late")

    async with serving(Endpoint(PIECES, handler)) as base, http.get(f"{base}/pieces") as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        with pytest.raises(aiohttp.ClientError):
            await answer.read()


async def test_a_storage_error_is_answered_and_stops_the_part(http: aiohttp.ClientSession) -> None:
    """Over a store that failed nothing may be promised any more."""
    part = http_part([raising(StorageError("disk: no space left"))])

    async def ask() -> None:
        async with http.get(f"http://127.0.0.1:{part.port}/hello/x") as answer:
            assert (answer.status, json.loads(await answer.read())["code"]) == (500, "storage")

    asking = asyncio.get_running_loop().create_task(ask())
    with pytest.raises(StorageError, match="no space left"):
        await asyncio.wait_for(part.run(), 5)
    await asking


async def test_probes_tell_life_readiness_and_metrics(http: aiohttp.ClientSession) -> None:
    """A balancer and an operator learn what they need."""
    problems: list[BistroError] = []

    async def is_ready() -> None:
        if problems:
            raise problems[0]

    app = new_app([Endpoint(HELLO, hello)], registry=CollectorRegistry(), is_ready=is_ready)
    part = HttpPart(app, bind_tcp(host="127.0.0.1", port=0))
    base = f"http://127.0.0.1:{part.port}"
    async with running(part):
        for path in ("/healthz", "/readyz", "/hello/someone", "/nothing"):
            async with http.get(base + path) as answer:
                assert answer.status == (404 if path == "/nothing" else 200)
        problems.append(UnavailableError("the clock's error is unknown"))
        async with http.get(f"{base}/readyz") as answer:
            assert answer.status == 503
        async with http.get(f"{base}/metrics") as answer:
            text = await answer.text()
    assert 'bistro_http_requests_total{method="GET",route="hello",status="200"} 1.0' in text
    assert 'bistro_http_requests_total{method="GET",route="unmatched",status="404"} 1.0' in text
    assert 'bistro_http_errors_total{code="unavailable",route="readiness"} 1.0' in text
    assert "someone" not in text


async def test_what_is_known_is_not_sent_again(http: aiohttp.ClientSession) -> None:
    """An entity tag is the body's own, so it survives a restart."""

    async def handler(request: web.Request) -> web.Response:
        return cacheable_response(
            request, b"terms", content_type="text/plain", cache_control=FOR_EVER
        )

    async with serving(Endpoint(HELLO, handler)) as base:
        async with http.get(f"{base}/hello/x") as answer:
            assert await answer.text() == "terms"
            tag = answer.headers["ETag"]
        for known in (tag, f'"other", W/{tag}', "*"):
            async with http.get(f"{base}/hello/x", headers={"If-None-Match": known}) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
                assert answer.headers["ETag"] == tag
        async with http.get(f"{base}/hello/x", headers={"If-None-Match": '"other"'}) as answer:
            assert answer.status == 200


async def test_long_header_fields_pass_and_longer_ones_do_not(http: aiohttp.ClientSession) -> None:
    """A claim fits into one field; memory stays bounded."""
    async with serving(Endpoint(HELLO, hello)) as base:
        async with http.get(f"{base}/hello/x", headers={"Upload-Metadata": "c" * 8_200}) as answer:
            assert answer.status == 200
        async with http.get(f"{base}/hello/x", headers={"Upload-Metadata": "c" * 17_000}) as answer:
            assert answer.status == 400


async def test_open_requests_are_finished_when_the_part_stops(http: aiohttp.ClientSession) -> None:
    """Whoever asked before the stop gets an answer."""
    entered, leave = asyncio.Event(), asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        entered.set()
        await leave.wait()
        return web.Response(text="finished")

    part = http_part([Endpoint(HELLO, handler)])
    async with asyncio.TaskGroup() as group:
        serving_task = group.create_task(part.run())
        asked = group.create_task(http.get(f"http://127.0.0.1:{part.port}/hello/x"))
        await entered.wait()
        serving_task.cancel()
        await asyncio.sleep(0)
        leave.set()
        async with await asked as answer:
            assert await answer.text() == "finished"


async def test_a_unix_socket_is_private_and_replaces_a_dead_one(tmp_path: Path) -> None:
    """The control socket of a killed daemon is no obstacle to the next."""
    path = tmp_path / "control.sock"
    bind_unix(path).close()
    app = new_app([Endpoint(HELLO, hello)], registry=CollectorRegistry(), is_ready=is_always_ready)
    part = HttpPart(app, bind_unix(path))
    assert path.stat().st_mode & 0o777 == 0o600
    async with (
        running(part),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as http,
        http.get("http://control/hello/x") as answer,
    ):
        assert await answer.text() == "x"


def test_a_port_in_use_is_a_settings_error() -> None:
    """The daemon does not start, and says which address is taken."""
    with (
        bind_tcp(host="127.0.0.1", port=0) as first,
        pytest.raises(SettingsError, match="in use"),
    ):
        bind_tcp(host="127.0.0.1", port=first.getsockname()[1])


def test_a_unix_socket_in_no_folder_is_a_settings_error(tmp_path: Path) -> None:
    """The path is named."""
    with pytest.raises(SettingsError, match="nowhere"):
        bind_unix(tmp_path / "nowhere" / "control.sock")


def test_an_unreadable_certificate_is_a_settings_error(tmp_path: Path) -> None:
    """TLS that was asked for is never left out silently."""
    settings = HttpSettings(
        port=0,
        base_url="https://relay.example.org",
        certificate_path=tmp_path / "none.pem",
        key_path=tmp_path / "none.key",
    )
    with pytest.raises(SettingsError, match="TLS certificate"):
        HttpPart.bind(web.Application(), settings)


async def send_raw(base: str, data: bytes, *, until: asyncio.Event | None = None) -> bytes:
    """Send ``data`` on a connection of its own, give the answer's first line, and break off.

    With ``until`` the connection is broken as soon as that happens, without an answer.
    """
    port = int(base.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        async with asyncio.timeout(5):
            if until is None:
                return await reader.readline()
            await until.wait()
            return b""
    finally:
        writer.transport.abort()
