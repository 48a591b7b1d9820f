"""A part whose one route is quick and ordinary, and raw connections to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from bistro.api import routes
from bistro.daemon.bodies import UNFINISHED, read_body
from bistro.daemon.bursts import Bodies, Burst
from bistro.daemon.connection import Connection
from bistro.daemon.listening import HttpPart, bind_tcp
from bistro.daemon.quick import Exchange, Gathering, Heads, Pending, QuickEndpoint
from bistro.daemon.web import Endpoint, new_app
from bistro.errors import BistroError
from tests.support.clocks import ManualClock
from tests.support.lines import Answer, Line
from tests.support.serving import is_always_ready, running

MSGPACK = "application/msgpack"
PATH = "/calls/spring/tickets"


def request(body: bytes = b"abc", *, line: str = f"POST {PATH} HTTP/1.1", **fields: str) -> bytes:
    """A quick request; a field given here replaces that of the same name or is added."""
    every = {"Host": "h", "Content-Type": MSGPACK, "Content-Length": str(len(body))}
    every |= {name.replace("_", "-"): value for name, value in fields.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in every.items())
    return f"{line}\r\n{lines}\r\n".encode() + body


class Desk:
    """Answers with the body backwards, at once, never, or with an error."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes, Exchange]] = []
        self.left = 0
        self.error: BistroError | None = None
        self.is_silent = False

    def begin(self, call: str, body: bytes, exchange: Exchange) -> Pending:
        self.asked.append((call, body, exchange))
        if self.error is not None:
            raise self.error
        if not self.is_silent:
            exchange.tell(b"quick " + body[::-1])
        return self

    def leave(self) -> None:
        self.left += 1


GATHERED = 7
"""Bytes of requests that are answered together."""


class Hall:
    """Remembers bursts, and answers them backwards when it is told."""

    def __init__(self) -> None:
        self.bursts: list[tuple[str, Burst]] = []
        self.error: BistroError | None = None
        self.is_silent = False

    def begin(self, call: str, burst: Burst) -> None:
        self.bursts.append((call, burst))
        if self.error is not None:
            raise self.error
        if not self.is_silent:
            self.answer(burst)

    def answer(self, burst: Burst) -> None:
        places = range(len(burst.bodies))
        burst.tell_all(places, Bodies([b"together " + body[::-1] for body in burst.bodies]))


async def ordinary(request: web.Request) -> web.Response:
    """What the ordinary server says to the same route."""
    body = await read_body(request, limit=1_000)
    return web.Response(body=b"ordinary " + body[::-1])


class Site:
    """A running part with one route that is quick and ordinary."""

    def __init__(self, part: HttpPart, desk: Desk, hall: Hall, registry: CollectorRegistry) -> None:
        self.desk = desk
        self.hall = hall
        self.port = part.port
        self.registry = registry
        self.unfinished = part.app[UNFINISHED]

    async def connect(self) -> Line:
        return await Line.to(self.port)

    async def ask(self, data: bytes) -> Answer:
        """One answer over a connection of its own."""
        async with await self.connect() as line:
            return await line.ask(data)


@contextlib.asynccontextmanager
async def quick_site(*, unfinished_limit: int = 1 << 20, **more: Any) -> AsyncIterator[Site]:
    """Serve the route on loopback beside the body."""
    desk, hall, registry = Desk(), Hall(), CollectorRegistry()
    gathering = Gathering(GATHERED, hall.begin)
    endpoint = QuickEndpoint(routes.TICKETS, MSGPACK, 10_000, desk.begin, gathering=gathering)
    app = new_app(
        [Endpoint(routes.TICKETS, ordinary)],
        registry=registry,
        is_ready=is_always_ready,
        unfinished_limit=unfinished_limit,
    )
    quick = Heads([endpoint], ManualClock())
    part = HttpPart(app, bind_tcp(host="127.0.0.1", port=0), quick=quick, grace_s=0.5, **more)
    async with running(part):
        yield Site(part, desk, hall, registry)


def break_answers(monkeypatch: pytest.MonkeyPatch, mark: bytes) -> list[dict[str, Any]]:
    """No answer with ``mark`` can be sent; returns what the event loop hears of it."""
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    send = Connection.send

    def broken(self: Connection, data: bytes, **more: Any) -> None:
        if mark in data:
            raise RuntimeError("the handler is closed")
        send(self, data, **more)

    monkeypatch.setattr(Connection, "send", broken)
    return heard


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop work until something has happened."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a poll is all there is
            await asyncio.sleep(0.001)
