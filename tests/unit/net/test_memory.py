"""What was answered is believed while it is fresh, and asked for by its tag afterwards."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from bistro.api import media, routes
from bistro.daemon.caching import cacheable_response
from bistro.daemon.web import Endpoint
from bistro.errors import UnknownObjectError
from bistro.net import memory
from bistro.net.memory import Memory
from bistro.net.session import Answer, Session
from tests.support.serving import serving


@dataclass
class Page:
    """What a server answers, and how it was asked."""

    body: bytes = b"one"
    caching: str = "public, max-age=60"
    age: str = "0"
    asked: list[str | None] = field(default_factory=list)

    async def show(self, request: web.Request) -> web.Response:
        self.asked.append(request.headers.get("If-None-Match"))
        if not self.body:
            raise UnknownObjectError("there is none")
        response = cacheable_response(
            request, self.body, content_type=media.TEXT, cache_control=self.caching
        )
        response.headers["Age"] = self.age
        return response


@dataclass
class Reader:
    """Somebody who remembers, before a page."""

    url: str
    session: Session
    memory: Memory = field(default_factory=Memory)

    async def ask(self) -> Answer:
        return await self.memory.ask(self.session, self.url, limit=1_000)

    @property
    def is_fresh(self) -> bool:
        return self.memory.fresh(self.url) is not None


@contextlib.asynccontextmanager
async def reading(page: Page) -> AsyncIterator[Reader]:
    async with serving(Endpoint(routes.DISCOVERY, page.show)) as base, Session() as session:
        yield Reader(routes.DISCOVERY.url(base), session)


async def test_what_has_not_changed_is_not_sent_again() -> None:
    """The tag goes out, 304 comes back, and the reader has the whole answer."""
    page = Page()
    async with reading(page) as reader:
        answers = [await reader.ask() for _ in range(3)]
        assert [(one.status, one.body) for one in answers] == [(200, b"one")] * 3
        first, *others = page.asked
        assert first is None
        assert others == [answers[0].headers["ETag"]] * 2
        page.body = b"two"
        assert (await reader.ask()).body == b"two"


async def test_an_answer_is_fresh_for_as_long_as_it_says() -> None:
    """Not longer, and not at all where it says nothing, or was old when it came."""
    for caching, age, is_fresh in (
        ("public, max-age=60", "0", True),
        ("public, max-age=60", "59", True),
        ("public, max-age=60", "60", False),
        ("public, max-age=60", "soon", True),
        ("max-age=0", "0", False),
        ("public", "0", False),
    ):
        async with reading(Page(caching=caching, age=age)) as reader:
            assert not reader.is_fresh
            await reader.ask()
            assert reader.is_fresh == is_fresh, (caching, age)
    loop = asyncio.get_running_loop()
    async with reading(Page()) as reader:
        await reader.ask()
        known = reader.memory._known[reader.url]
        assert loop.time() + 50 < known.until_s <= loop.time() + 60


async def test_what_may_not_be_kept_is_not() -> None:
    """It is asked for as if it never had been."""
    for caching in ("no-store", "public, no-cache", "private, No-Store"):
        page = Page(caching=caching)
        async with reading(page) as reader:
            await reader.ask()
            await reader.ask()
            assert not reader.is_fresh
            assert page.asked == [None, None]


async def test_what_is_gone_is_forgotten() -> None:
    """An answer that is no longer given is not believed any more, and not taken for news."""
    page = Page()
    async with reading(page) as reader:
        await reader.ask()
        page.body = b""
        with pytest.raises(UnknownObjectError):
            await reader.ask()
        assert not reader.is_fresh
        page.body = b"one"
        await reader.ask()
        assert page.asked[-1] is None


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the number of answers, the oldest going first, and by the size of one."""
    monkeypatch.setattr(memory, "MAX_REMEMBERED", 2)
    page = Page()
    async with reading(page) as reader:
        urls = [f"{reader.url}?{number}" for number in range(3)]
        for url in urls:
            await reader.memory.ask(reader.session, url, limit=1_000)
        assert [reader.memory.fresh(url) is not None for url in urls] == [False, True, True]
        page.body = bytes(memory.MAX_REMEMBERED_SIZE + 1)
        await reader.memory.ask(reader.session, urls[2], limit=1_000_000)
        assert reader.memory.fresh(urls[2]) is None
