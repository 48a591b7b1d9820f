"""A world around the client: a real destination behind a wire that can be tampered with.

The destination is the real server in this process; between it and the client stands a proxy
that a test tells what to change. Relays are ``FakeRelay``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from bistro.api import routes
from bistro.clock import Clock, SystemClock
from bistro.errors import UnavailableError
from bistro.net.session import Session
from bistro.protocol.backoff import Backoff
from bistro.protocol.submission import Sealed, Submission
from bistro.wire.discovery import ServerDiscovery
from bistro_client.home import Folder, Home
from bistro_client.listening import Notice, Task
from bistro_client.patience import Patience
from bistro_client.submitting import Submitter, Wish
from tests.support.clocks import ManualClock
from tests.support.destinations import Destination, destination
from tests.unit.client.relays import FakeRelay, hang_up, served

RELAY_NAMES = ("anna.example", "bert.example", "cora.example")
Change = Callable[[bytes], bytes]


@dataclass
class Recorder:
    """A listener that remembers."""

    notices: list[Notice] = field(default_factory=list)
    done: dict[Task, int] = field(default_factory=dict)

    def tell(self, notice: Notice) -> None:
        self.notices.append(notice)

    def begin(self, task: Task, total: int) -> None:
        self.done[task] = 0

    def advance(self, task: Task, size: int) -> None:
        self.done[task] = self.done.get(task, 0) + size

    def end(self, task: Task) -> None:
        pass

    @property
    def keys(self) -> list[str]:
        return [notice.key for notice in self.notices]

    def text(self, key: str) -> str:
        return next(notice.text for notice in self.notices if notice.key == key)


def sealed_of(submission: Submission) -> Sealed:
    """What was sealed; it must have been."""
    assert submission.sealed is not None
    return submission.sealed


def ticket_of(submission: Submission) -> str:
    """The ticket; there must be one."""
    assert submission.ticket is not None
    return submission.ticket


@dataclass
class Wire:
    """The proxy before the destination.

    Attributes:
        target: Where the real one answers.
        clock: For the ``Date`` of answers.
        url: Where the proxy answers.
        changes: What to make of the body of an answer, by the end of its path.
        answers: Bodies to answer with, whatever the destination says, by the end of the path.
        down: Whether to close every connection.
        asked: Method and path of every request.
        queries: Query of every request.
        has_date: Whether answers say what time it is.
        skew_ms: By how much the destination's clock seems to be ahead.
        caching: ``Cache-Control`` of all answers that have a tag, which then passes both ways.
    """

    target: str
    clock: Clock
    url: str = ""
    changes: dict[str, Change] = field(default_factory=dict)
    down: bool = False
    asked: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    answers: dict[str, bytes] = field(default_factory=dict)
    skew_ms: int = 0
    has_date: bool = True
    caching: str = ""

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._forward)
        return app

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        self.queries.append(request.query_string)
        if self.down:
            hang_up(request)
            raise asyncio.CancelledError
        asked = {"Content-Type": request.headers.get("Content-Type", "")}
        if self.caching and "If-None-Match" in request.headers:
            asked["If-None-Match"] = request.headers["If-None-Match"]
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            answer = await session.request(
                request.method,
                self.target + request.raw_path,
                data=await request.read(),
                headers=asked,
            )
            body = await answer.read()
        for ending, wanted in self.answers.items():
            if request.path.endswith(ending):
                return web.Response(body=wanted)
        body = self._changed(request.path, body) if answer.status == 200 else body
        now_s = (self.clock.now() + self.skew_ms) / 1_000
        date = formatdate(now_s, usegmt=True) if self.has_date else "unknown"
        kind = answer.headers.get("Content-Type", "")
        headers = {"Content-Type": kind, "Date": date}
        if self.caching and "ETag" in answer.headers:
            headers |= {"ETag": answer.headers["ETag"], "Cache-Control": self.caching}
        return web.Response(body=body, status=answer.status, headers=headers)

    def _changed(self, path: str, body: bytes) -> bytes:
        if path == routes.DISCOVERY.template:
            # The real one does not know that it stands behind a proxy.
            body = replace(ServerDiscovery.decode(body), base_url=self.url).encode()
        for ending, change in self.changes.items():
            if path.endswith(ending):
                body = change(body)
        return body


@dataclass
class World:
    """Everything that a test of the client may touch."""

    root: Path
    clock: ManualClock
    destination: Destination
    wire: Wire
    relays: list[FakeRelay]
    session: Session
    listener: Recorder = field(default_factory=Recorder)

    @property
    def home(self) -> Home:
        return Home(self.root / "home")

    @property
    def url(self) -> str:
        return self.wire.url

    @property
    def held(self) -> dict[tuple[bytes, int], list[str]]:
        """Names of the relays that hold each fragment."""
        found: dict[tuple[bytes, int], list[str]] = {}
        for relay in self.relays:
            for key in relay.held:
                found.setdefault(key, []).append(relay.name)
        return found

    def submitter(self, *, limit_ms: int | None = 60_000, **options: Any) -> Submitter:
        """A client whose waiting moves the clock instead of taking time."""

        async def sleep(seconds: float) -> None:
            self.clock.advance(int(seconds * 1_000))
            await asyncio.sleep(0)

        patience = Patience(
            self.clock,
            limit_ms=limit_ms,
            backoff=Backoff(first_ms=500, cap_ms=15_000),
            sleep=sleep,
            listener=self.listener,
        )
        return Submitter(
            self.home,
            self.session,
            clock=options.pop("clock", self.clock),
            listener=options.pop("listener", self.listener),
            patience=patience,
            **options,
        )

    def files(self, *sizes: int) -> Path:
        """A folder with a file of each size."""
        folder = self.root / "filing"
        folder.mkdir(exist_ok=True)
        for number, size in enumerate(sizes or (2_000,)):
            (folder / f"report-{number}.pdf").write_bytes(bytes(range(256)) * (size // 256 + 1))
        return folder

    def wish(self, *paths: Path, **changes: Any) -> Wish:
        return Wish(paths=paths or (self.files(),), url=self.url, **changes)

    def only_folder(self) -> Folder:
        (folder,) = self.home.folders()
        return folder


@contextlib.asynccontextmanager
async def world(root: Path, clock: Clock | None = None, **changes: Any) -> AsyncIterator[World]:
    """A destination with the call ``spring``, and three relays of three operators."""
    clock = clock or ManualClock()
    async with contextlib.AsyncExitStack() as stack:
        relays = [FakeRelay(name, clock) for name in RELAY_NAMES]
        for relay in relays:
            relay.url = await stack.enter_async_context(served(relay.app()))
        plan = {"relays": tuple(relay.in_terms for relay in relays), **changes}
        (root / "server").mkdir()
        found = await stack.enter_async_context(
            destination(root / "server", clock, **plan)  # type: ignore[arg-type]
        )
        wire = Wire(found.base_url, clock)
        wire.url = await stack.enter_async_context(served(wire.app()))
        session = await stack.enter_async_context(Session())
        yield World(root, clock, found, wire, relays, session)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def real_time(root: Path, **changes: object) -> AsyncIterator[World]:
    """A world whose clock is this machine's, as the command line's is."""
    async with world(root, SystemClock(assumed_error_ms=10), **changes) as w:
        yield w


async def ticketed(w: World) -> None:
    """A submission that has a ticket and no receipt, since no relay answered."""
    for relay in w.relays:
        relay.how = "silent"
    with pytest.raises(UnavailableError):
        await w.submitter(limit_ms=0).submit(w.wish())
    for relay in w.relays:
        relay.how = "good"
