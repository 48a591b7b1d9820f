"""``serve`` killed with SIGKILL under load: every ticket that anybody received is in the log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bistro.clock import SystemClock
from bistro.errors import BistroError, UnavailableError
from bistro.net.server_client import ServerClient
from bistro.net.session import Session
from bistro.wire.ticket import Ticket
from bistro.wire.ticketing import Ticketed, TicketRequest
from bistro_server.services.calls import CallRegistry
from bistro_server.services.control import open_log
from bistro_server.services.folder import ServerFolder
from tests.support.destinations import commitment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SERVER = [sys.executable, "-c", "from bistro_server.cli import main; main()"]
ENVIRONMENT = {**os.environ, "BISTRO_SERVER_CLOCK__ASSUMED_ERROR_MS": "50"}  # noqa: TID251
WRITERS = 8


def command(*arguments: str) -> None:
    """Run ``bistro-server`` to its end."""
    subprocess.run([*SERVER, *arguments], env=ENVIRONMENT, check=True, timeout=60)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextlib.asynccontextmanager
async def process(folder: Path, api: ServerClient) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A real ``serve``, once it answers; killed at the end of the block."""
    serve = subprocess.Popen(  # noqa: ASYNC220 - it only starts
        [*SERVER, "serve", "--dir", str(folder)],
        env=ENVIRONMENT,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(30):
            while True:
                assert serve.poll() is None
                try:
                    await api.fetch_terms("spring")
                    break
                except UnavailableError:
                    await asyncio.sleep(0.05)
        yield serve
    finally:
        serve.send_signal(signal.SIGKILL)
        await asyncio.to_thread(serve.wait)


async def ask_for_ever(
    api: ServerClient, terms_hash: bytes, *, first: int, received: dict[bytes, Ticket]
) -> None:
    """Ask for tickets until the server is gone, and keep what it answered."""
    number = first
    with contextlib.suppress(BistroError):
        while True:
            bulk = [TicketRequest(commitment(number + at), terms_hash) for at in range(20)]
            number += 20
            for answer in await api.request_tickets("spring", bulk):
                assert isinstance(answer, Ticketed)
                ticket = Ticket.parse(answer.ticket)
                received[ticket.commitment] = ticket


async def test_every_received_ticket_is_in_the_recovered_log(tmp_path: Path) -> None:
    """Three times killed in the middle of answering, nothing that was answered is missing."""
    root, port = tmp_path / "d", free_port()
    command("init", str(root), "--name", "permits.example", "--port", str(port))
    command("call", "create", "spring", "--dir", str(root), "--title", "T", "--closes", "+2h")
    call = CallRegistry(ServerFolder(root)).load("spring")
    received: dict[bytes, Ticket] = {}
    async with Session() as session:
        api = ServerClient(session, f"http://127.0.0.1:{port}")
        for round_number in range(3):
            enough = len(received) + 2_000
            async with process(root, api) as serve, asyncio.TaskGroup() as writers:
                for writer in range(WRITERS):
                    first = (round_number * WRITERS + writer) * 1_000_000
                    writers.create_task(
                        ask_for_ever(api, call.terms.hash, first=first, received=received)
                    )
                while len(received) < enough:  # noqa: ASYNC110 - a poll is all there is
                    await asyncio.sleep(0.01)
                serve.send_signal(signal.SIGKILL)
    clock = SystemClock(50)
    async with open_log(ServerFolder(root), call, clock, error_limit_ms=100) as log:
        entries = {index: entry async for index, entry in log.entries()}
    assert len(received) >= 6_000
    for ticket in received.values():
        ticket.verify(call.log_key, call.origin)
        assert entries[ticket.index] == ticket.entry
    times = [entries[index].time for index in sorted(entries)]
    assert times == sorted(times)
