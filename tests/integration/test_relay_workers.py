"""A relay whose workers end TLS: every way in works as without them, and they come and go."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from bistro.api import routes
from bistro.daemon.preface import encode_preface
from bistro.errors import SettingsError
from bistro_relay.app.composition import Surroundings
from bistro_relay.app.serving import INNER_SOCKET, Relay, open_services
from tests.support.clocks import ManualClock
from tests.support.lines import Line, written
from tests.support.paper import SPRING, Sealed
from tests.support.relays import TUS, Site, allowed_relay, free_port, relay_site
from tests.support.small_fragments import receipt_of, staging
from tests.support.tls import issue, workers_of_this_process

_WAIT_S = 30
_MIB = 1_048_576


@dataclass
class Secured:
    """A relay behind two workers, and how a client trusts it."""

    site: Site
    port: int
    context: ssl.SSLContext

    async def line(self) -> Line:
        """A new TLS connection."""
        return await Line.to(self.port, "localhost", ssl=self.context)


@asynccontextmanager
async def secured(root: Path) -> AsyncIterator[Secured]:
    issued = issue(trustme.CA(), root)
    port = free_port()
    http = {
        "certificate_path": issued.chain,
        "key_path": issued.key,
        "port": port,
        "workers_count": 2,
    }
    http["base_url"] = f"https://localhost:{port}"
    async with relay_site(root / "relay", http=http) as site:
        await site.relay.services.book.require(SPRING)
        yield Secured(site, port, issued.context())


async def test_small_large_and_plain_requests_pass_a_worker(tmp_path: Path) -> None:
    """One connection: small ones by the quick way, a large one streamed, then a HEAD."""
    async with asyncio.timeout(_WAIT_S), secured(tmp_path) as where:
        call = where.site.call
        line = await where.line()
        path = ""
        for number, size in enumerate((2, 131_072, _MIB)):
            one = Sealed(number, size=size)
            status, fields, _ = await line.ask(staging(call, one))
            assert status == 201
            assert receipt_of(fields).commitment == one.commitment
            path = urlsplit(fields["Location"]).path
        assert (await line.ask(staging(call, Sealed(7, size=3 * _MIB)))).status == 201
        line.send(written(f"HEAD {path}", {"Host": "relay", **TUS}))
        assert (await line.head()).startswith(b"HTTP/1.1 200")
        line.close()


async def test_bytes_that_come_with_the_preface_are_a_request(tmp_path: Path) -> None:
    """Whole, halved, and two at once: whatever a worker's first write brought along."""
    async with asyncio.timeout(_WAIT_S), secured(tmp_path) as where:
        call = where.site.call
        inner = where.site.relay.settings.relay.data_path / INNER_SOCKET
        preface = encode_preface(("192.0.2.7", 4_000), ("192.0.2.1", 443))
        first, second = (staging(call, Sealed(number, size=80_000)) for number in (1, 2))
        for pieces in ((first,), (first[:300], first[300:]), (first + second,)):
            reader, writer = await asyncio.open_unix_connection(str(inner))
            line = Line(reader, writer)
            line.send(preface + pieces[0])
            await line.drain()
            for piece in pieces[1:]:
                line.send(piece)
            status, fields, _ = await line.answer()
            assert status == 201
            assert receipt_of(fields).commitment == Sealed(1, size=80_000).commitment
            if len(pieces[0]) > len(first):
                status, fields, _ = await line.answer()
                assert receipt_of(fields).commitment == Sealed(2, size=80_000).commitment
            line.close()


async def test_a_killed_worker_is_replaced_and_none_outlives_the_relay(tmp_path: Path) -> None:
    """What was promised before stays; who comes meanwhile asks again and is answered."""
    async with asyncio.timeout(_WAIT_S):
        async with secured(tmp_path) as where:
            await _persistently(where, 1)
            before = workers_of_this_process()
            assert len(before) == 2
            os.kill(before[0], signal.SIGKILL)
            for number in range(2, 8):
                await _persistently(where, number)
            while len(set(workers_of_this_process()) - {before[0]}) < 2:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)
        assert workers_of_this_process() == []


async def _persistently(where: Secured, number: int) -> None:
    """Stage until there is an answer, as clients do."""
    while True:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            line = await where.line()
            try:
                answer = await line.ask(staging(where.site.call, Sealed(number)))
            finally:
                line.close()
            assert answer.status == 201
            return


async def test_workers_without_a_certificate_are_refused(tmp_path: Path) -> None:
    """They would cost and help nobody: the error says what to set."""
    async with (
        allowed_relay(tmp_path, http={"workers_count": 2}) as (settings, _),
        open_services(settings, Surroundings(ManualClock())) as services,
    ):
        with pytest.raises(SettingsError, match="2 are wanted, and there is no certificate"):
            Relay.bind(services)


async def test_addresses_are_those_of_clients(tmp_path: Path) -> None:
    """What is counted per address is counted for the client, not for the worker."""
    async with asyncio.timeout(_WAIT_S), secured(tmp_path) as where:
        inner = where.site.relay.settings.relay.data_path / INNER_SOCKET
        gate = where.site.relay.services.gate
        seen: list[str] = []
        enter = gate.enter

        def note(name: str) -> bool:
            seen.append(name)
            return enter(name)

        gate.enter = note  # type: ignore[method-assign]
        line = Line(*await asyncio.open_unix_connection(str(inner)))
        line.send(encode_preface(("192.0.2.7", 4_000), ("192.0.2.1", 443)))
        assert (await line.ask(staging(where.site.call, Sealed(1)))).status == 201
        line.send(written(f"GET {routes.HEALTH.path()}", {"Host": "relay"}))
        assert (await line.answer()).status == 200
        assert seen == ["192.0.2.7"]
        line.close()
