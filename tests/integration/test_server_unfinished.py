"""A real ``serve`` under thousands of requests that never end: its memory stays bounded."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from bistro.net.server_client import ServerClient
from bistro.net.session import Session
from bistro.wire.ticketing import Ticketed, TicketRequest
from tests.integration.test_server_killed import ENVIRONMENT, command, free_port, process
from tests.support.destinations import commitment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

COUNT = 600
SIZE = 500_000
LIMIT = 16_777_216


def resident_bytes(pid: int) -> int:
    """What the process holds in memory."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1_024


async def begin(port: int, target: str) -> asyncio.StreamWriter:
    """A connection with a request that lacks its last byte."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Type: application/msgpack\r\n"
        f"Content-Length: {SIZE}\r\n\r\n"
    )
    writer.write(head.encode() + bytes(SIZE - 1))
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(2):
            await writer.drain()
    return writer


@pytest.mark.parametrize("target", ["/calls/spring/tickets", "/calls/spring/receipts", "/nothing"])
async def test_requests_that_never_end_take_no_more_memory_than_their_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """600 bodies of half a megabyte, whoever answers them; a ticket is given all the same."""
    folder, port = tmp_path / "server", free_port()
    command("init", str(folder), "--name", "tenders.example", "--port", str(port))
    command("call", "create", "spring", "--title", "S", "--closes", "+1d", "--dir", str(folder))
    monkeypatch.setitem(ENVIRONMENT, "BISTRO_SERVER_HTTP__UNFINISHED_BYTES", str(LIMIT))
    async with Session() as session:
        api = ServerClient(session, f"http://127.0.0.1:{port}")
        async with process(folder, api) as serve:
            before = resident_bytes(serve.pid)
            async with asyncio.TaskGroup() as group:
                begun = [group.create_task(begin(port, target)) for _ in range(COUNT)]
            # Twice the budget for pieces being joined and what the allocator keeps; unbounded
            # it would be eighteen times as much.
            assert resident_bytes(serve.pid) - before < 3 * LIMIT
            terms = (await api.fetch_terms("spring")).signed
            request = TicketRequest(commitment(1), terms.hash)
            (answer,) = await api.request_tickets("spring", [request])
            assert isinstance(answer, Ticketed)
            for one in begun:
                one.result().transport.abort()
