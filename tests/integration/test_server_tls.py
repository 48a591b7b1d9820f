"""A destination over TLS: by the daemon itself, and by workers that end it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trustme

from bistro.api import routes
from bistro.errors import SettingsError, UnavailableError
from bistro.net.server_client import ServerClient
from bistro.net.session import Session
from bistro.wire.ticket import Ticket
from bistro.wire.ticketing import Ticketed, TicketRequest
from bistro_server.app import Server
from bistro_server.services.calls import Call
from tests.support.clocks import ManualClock
from tests.support.destinations import commitment, make_call, make_server, serving_folder
from tests.support.tls import issue, workers_of_this_process

_WAIT_S = 20


@dataclass
class Site:
    """A destination that is served over TLS."""

    server: Server
    call: Call
    session: Session
    base_url: str

    async def ticket(self, number: int) -> Ticket:
        """A ticket over HTTPS, on whatever connection the session has."""
        request = TicketRequest(commitment(number), self.call.terms.hash)
        answer = await ServerClient(self.session, self.base_url).request_ticket("spring", request)
        assert isinstance(answer, Ticketed)
        ticket = Ticket.parse(answer.ticket)
        ticket.verify(self.call.terms.keys.log, self.call.terms.origin, commitment(number))
        return ticket


@asynccontextmanager
async def site(root: Path, *, workers_count: int) -> AsyncIterator[Site]:
    root.mkdir()  # noqa: ASYNC240 - nothing else runs yet
    chain, key, ca = issue(trustme.CA(), root)
    http = {
        "port": 0,
        "base_url": "https://localhost",
        "grace_s": 2.0,
        "certificate_path": chain,
        "key_path": key,
        "workers_count": workers_count,
    }
    folder, settings = make_server(root / "d", http=http)
    clock = ManualClock()
    call = await make_call(folder, clock)
    async with (
        serving_folder(folder, settings, clock, ca_path=ca) as (server, _),
        Session(ca_path=ca) as session,
    ):
        yield Site(server, call, session, f"https://localhost:{server.http.port}")


@pytest.mark.parametrize("workers_count", [0, 1])
async def test_a_renewed_certificate_is_shown_without_a_restart(
    tmp_path: Path, workers_count: int
) -> None:
    """By the daemon and by its workers; whoever is connected already notices nothing."""
    root = tmp_path / "s"
    async with (
        asyncio.timeout(_WAIT_S),
        site(root, workers_count=workers_count) as where,
    ):
        await where.ticket(1)
        authority = trustme.CA()
        issue(authority, root)
        async with Session(ca_path=root / "ca.pem") as session:
            await _persistently(replace(where, session=session), 2)
        await where.ticket(3)


@pytest.mark.parametrize("workers_count", [0, 2])
async def test_tickets_and_all_other_routes_are_answered_over_tls(
    tmp_path: Path, workers_count: int
) -> None:
    """A ticket by the quick way, then discovery by the ordinary one, on one connection."""
    async with asyncio.timeout(_WAIT_S), site(tmp_path / "s", workers_count=workers_count) as where:
        ticket = await where.ticket(1)
        discovery = await ServerClient(where.session, where.base_url).fetch_discovery()
        again = await where.ticket(1)

        assert discovery.calls[0].id == "spring"
        assert (again.index, again.time) == (ticket.index, ticket.time)


async def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    """Connections of the others go on, and those that come later are answered."""
    async with asyncio.timeout(_WAIT_S), site(tmp_path / "s", workers_count=2) as where:
        await where.ticket(1)
        before = workers_of_this_process()
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        for number in range(2, 12):
            await _persistently(where, number)
        while len(set(workers_of_this_process()) - {before[0]}) < 2:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


async def _persistently(where: Site, number: int) -> None:
    """Ask until there is an answer, as clients do."""
    while True:
        try:
            await where.ticket(number)
        except UnavailableError:
            continue
        return


async def test_workers_end_with_the_daemon(tmp_path: Path) -> None:
    """When the daemon stops no worker is left, and it takes no longer than the grace."""
    async with asyncio.timeout(_WAIT_S):
        async with site(tmp_path / "s", workers_count=2) as where:
            await where.ticket(1)
            before = workers_of_this_process()
            assert len(before) == 2
        assert workers_of_this_process() == []


async def test_the_client_s_address_is_known_behind_a_worker(tmp_path: Path) -> None:
    """What is counted per address is counted for the client, not for the worker."""
    async with asyncio.timeout(_WAIT_S), site(tmp_path / "s", workers_count=1) as where:
        reader, writer = await asyncio.open_unix_connection(
            str(where.server.http.relayed.getsockname())  # type: ignore[union-attr]
        )
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")

        assert await reader.read() == b""  # no preface, no answer
        writer.close()
        route = routes.HEALTH.url(where.base_url)
        assert (await where.session.ask("GET", route, limit=1_000)).status == 200


def test_workers_without_a_certificate_are_refused(tmp_path: Path) -> None:
    """They would cost and help nobody: the error says what to set."""
    http = {"port": 0, "base_url": "http://127.0.0.1", "workers_count": 2}
    folder, settings = make_server(tmp_path / "d", http=http)

    with pytest.raises(SettingsError, match="2 are wanted, and there is no certificate"):
        asyncio.run(Server.open(folder, settings, ManualClock()))
