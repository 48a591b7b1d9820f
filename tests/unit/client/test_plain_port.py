"""The plain port of a destination: taken where it helps, believed in nothing but signatures."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bistro.api import routes
from bistro.errors import SettingsError, UnavailableError
from bistro.net.session import Session
from bistro.protocol.submission import SubmissionState
from bistro.wire.discovery import ServerDiscovery
from bistro.wire.ticketing import Postponed
from bistro_client import ticketing
from tests.unit.client.relays import served
from tests.unit.client.test_ticketing import answering, tampered
from tests.unit.client.worlds import Change, Wire, World, world

TICKETS = "POST /calls/spring/tickets"


@contextlib.asynccontextmanager
async def with_plain_port(root: Path) -> AsyncIterator[tuple[World, Wire]]:
    """A world whose destination offers a plain port, which is a wire of its own."""
    async with contextlib.AsyncExitStack() as stack:
        w = await stack.enter_async_context(world(root))
        plain = Wire(w.wire.target, w.clock)
        plain.url = await stack.enter_async_context(served(plain.app()))

        def offer(body: bytes) -> bytes:
            return replace(ServerDiscovery.decode(body), tickets_url=plain.url).encode()

        w.wire.changes[routes.DISCOVERY.template] = offer
        yield w, plain


async def test_a_ticket_is_asked_for_at_the_plain_port_first(tmp_path: Path) -> None:
    """Its ticket is verified as any other, and the destination spares a handshake."""
    async with with_plain_port(tmp_path) as (w, plain):
        done = await w.submitter().submit(w.wish())

        assert done.state is SubmissionState.STAGED
        assert plain.asked == [TICKETS]
        assert TICKETS not in w.wire.asked


@pytest.mark.parametrize(
    "change", [tampered, answering(Postponed("overloaded", 60_000)), lambda _: b"<html>"]
)
async def test_another_word_from_the_plain_port_does_not_count(
    tmp_path: Path, change: Change
) -> None:
    """Whatever stands between can neither refuse nor delay: HTTPS is asked at once."""
    async with with_plain_port(tmp_path) as (w, plain):
        began = w.clock.now()
        plain.changes["/tickets"] = change
        done = await w.submitter().submit(w.wish())

        assert done.state is SubmissionState.STAGED
        assert (plain.asked, w.wire.asked.count(TICKETS)) == ([TICKETS], 1)
        assert "waiting" not in w.listener.keys
        assert w.clock.now() == began
        assert not done.attempts


async def test_a_plain_port_that_is_blocked_costs_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither silence nor a closed door keeps the filer from the ticket."""
    monkeypatch.setattr(ticketing, "_PLAIN_S", 0.0)
    async with with_plain_port(tmp_path) as (w, _):
        assert (await w.submitter().submit(w.wish())).state is SubmissionState.STAGED
        assert w.wire.asked.count(TICKETS) == 1
    monkeypatch.undo()
    (tmp_path / "two").mkdir()
    async with with_plain_port(tmp_path / "two") as (w, plain):
        plain.down = True
        assert (await w.submitter().submit(w.wish())).state is SubmissionState.STAGED
        assert w.wire.asked.count(TICKETS) == 1


async def test_plain_http_is_taken_for_that_request_alone() -> None:
    """The session goes on refusing it for all others."""
    async with Session() as session:
        with pytest.raises(SettingsError, match="http"):
            await session.ask("GET", "http://0.0.0.0:1/")
        with pytest.raises(UnavailableError):
            await session.ask("GET", "http://0.0.0.0:1/", allow_http=True)
