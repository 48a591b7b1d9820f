"""GETs that are answered the quick way, over real loopback connections."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from bistro.api import media, routes
from bistro.daemon.caching import MINUTE, cacheable_response
from bistro.daemon.listening import HttpPart, bind_tcp
from bistro.daemon.quick import Exchange, Heads, Page, QuickEndpoint
from bistro.daemon.web import Endpoint, new_app
from bistro.errors import UnknownObjectError
from tests.support.clocks import ManualClock
from tests.support.lines import Answer, Line, written
from tests.support.serving import is_always_ready, running

pytestmark = pytest.mark.usefixtures("reading")

COMMITMENT = "5a" * 32
PATH = f"/calls/spring/status/{COMMITMENT}"
NOTE = b"bistro/status/v1\nwhatever\n"
TAG = Page.of(NOTE, "").tag


class Desk:
    """Has one note; remembers what was asked for the quick way."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def begin(self, field: str, body: bytes, exchange: Exchange) -> None:
        assert body == b""
        self.asked.append(field)
        if field != f"spring/{COMMITMENT}":
            raise UnknownObjectError("there is no status of this commitment here")
        exchange.tell(Page.of(NOTE, exchange.known_tags, MINUTE))


async def ordinary(request: web.Request) -> web.Response:
    """The same from the ordinary server, which says so."""
    response = cacheable_response(request, NOTE, content_type=media.TEXT, cache_control=MINUTE)
    response.headers["X-Ordinary"] = "yes"
    return response


@contextlib.asynccontextmanager
async def site() -> AsyncIterator[tuple[Desk, int, CollectorRegistry]]:
    desk, registry = Desk(), CollectorRegistry()
    endpoint = Endpoint(routes.STATUS, ordinary)
    app = new_app([endpoint], registry=registry, is_ready=is_always_ready, request_timeout_s=10.0)
    quick = QuickEndpoint(routes.STATUS, "", 0, desk.begin, answer_type=media.TEXT)
    listener = bind_tcp(host="127.0.0.1", port=0)
    part = HttpPart(app, listener, quick=Heads([quick], ManualClock()))
    async with running(part):
        yield desk, int(listener.getsockname()[1]), registry


async def ask(port: int, *requests: bytes) -> list[Answer]:
    """The answers to requests that are sent at once over one connection."""
    async with await Line.to(port) as line:
        line.send(b"".join(requests))
        return [await line.answer() for _ in requests]


def get(path: str = PATH, **fields: str) -> bytes:
    return written(
        f"GET {path}",
        {"Host": "h"} | {name.replace("_", "-"): value for name, value in fields.items()},
    )


async def test_a_page_is_what_the_ordinary_server_would_have_sent() -> None:
    """But for its id, and for what the ordinary server says of itself here."""
    async with site() as (desk, port, _):
        quick, later = await ask(port, get(), get(Connection="close"))
    assert desk.asked == [f"spring/{COMMITMENT}"]
    assert "X-Ordinary" not in quick[1]
    assert later[1].pop("X-Ordinary") == "yes"
    assert quick[1].pop("Bistro-Request-Id") != later[1].pop("Bistro-Request-Id")
    later[1].pop("Connection", None)
    for answer in (quick, later):
        answer[1].pop("Date")
    assert quick == later
    assert quick[0] == 200
    assert quick[2] == NOTE


@pytest.mark.parametrize("tags", [TAG, f"W/{TAG}", f'"other", {TAG}', "*"])
async def test_who_has_it_already_gets_nothing_again(tags: str) -> None:
    """And the connection goes on."""
    async with site() as (desk, port, registry):
        known, again, other = await ask(
            port, get(If_None_Match=tags), get(), get(If_None_Match='"other"')
        )
        text = generate_latest(registry).decode()
    assert (known[0], again[0], other[0]) == (304, 200, 200)
    assert known[1]["ETag"] == again[1]["ETag"] == TAG
    assert "Content-Length" not in known[1]
    assert len(desk.asked) == 3
    counted = r'bistro_http_requests_total{method="GET",route="status",status="%d"} (\d)\.0'
    found = [
        re.search(counted.replace("{", r"\{").replace("}", r"\}") % x, text) for x in (200, 304)
    ]
    assert [one and one[1] for one in found] == ["2", "1"]


async def test_what_is_not_there_is_a_problem_of_its_own() -> None:
    """Its neighbours on the connection are answered."""
    async with site() as (_, port, registry):
        missing, there = await ask(port, get(f"/calls/spring/status/{'00' * 32}"), get())
        text = generate_latest(registry).decode()
    assert (missing[0], there[0]) == (404, 200)
    assert missing[1]["Content-Type"] == "application/problem+json"
    assert 'bistro_http_errors_total{code="unknown-object",route="status"} 1.0' in text


@pytest.mark.parametrize(
    "request_text",
    [
        get(f"{PATH}?x=1"),
        get(PATH.upper().replace("/CALLS/SPRING/STATUS", "/calls/spring/status")),
        get(Connection="close"),
        get(Content_Length="0"),
        get(Upgrade="h2c"),
        get().replace(b"Host: h\r\n", b"Host: h\r\nIf-None-Match: x\r\nif-none-match: y\r\n"),
        get().replace(b" HTTP/1.1", b" HTTP/1.0"),
        get().replace(b"Host: h\r\n", b"Host: h\r\nX: \xff\r\n"),
    ],
)
async def test_whatever_is_unusual_goes_to_the_ordinary_server(request_text: bytes) -> None:
    """By a single byte; also when the same comes again."""
    async with site() as (desk, port, _):
        for _ in range(2):
            (answer,) = await ask(port, request_text)
            assert answer.fields.get("X-Ordinary") == "yes"
        assert desk.asked == []
