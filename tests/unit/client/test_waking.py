"""A machine that slept, or is in another network: connections that are dead are let go of."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from bistro.errors import UnavailableError
from bistro.net.session import Session
from bistro.net.sockets import Sockets
from bistro_client.waking import SLEPT_MS, Waking
from tests.support.clocks import ManualClock
from tests.unit.client.relays import served


@asynccontextmanager
async def waiting() -> AsyncIterator[tuple[Session, asyncio.Task[object]]]:
    """A request that is under way, and that is never answered."""
    asked = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        asked.set()
        await asyncio.Event().wait()
        return web.Response()

    app = web.Application()
    app.router.add_post("/", handler)
    async with served(app) as url, Session() as session:
        task = asyncio.ensure_future(session.ask("POST", url))  # noqa: TID251 - awaited below
        await asked.wait()
        yield session, task
        task.cancel()
        await asyncio.wait([task])


async def test_after_sleep_nothing_is_waited_for() -> None:
    """What was under way fails at once, and may be asked again."""
    clock = ManualClock()
    async with waiting() as (session, task):
        waking = Waking(session, clock)
        clock.step(SLEPT_MS)
        assert waking.look() == 1
        with pytest.raises(UnavailableError, match="broke"):
            await task
        assert waking.look() == 0


async def test_time_that_only_passes_ends_nothing() -> None:
    """Hours without sleep, and the address still here."""
    clock = ManualClock()
    async with waiting() as (session, task):
        waking = Waking(session, clock)
        clock.advance(10 * 3_600_000)
        clock.step(SLEPT_MS - 1)
        assert waking.look() == 0
        assert not task.done()


def test_sockets_that_are_closed_or_not_connected_are_left_alone() -> None:
    """There is nothing to be ended."""
    sockets = Sockets()
    info = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 9))
    fresh, closed = sockets.make(info), sockets.make(info)
    closed.close()
    assert sockets.let_go(only_lost=False) == 0
    assert sockets.let_go(only_lost=True) == 0
    fresh.close()
