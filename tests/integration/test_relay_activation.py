"""A relay under a service manager: a socket that outlives it, ready, alive, stopping."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from tests.support.relay_processes import Command, new_relay
from tests.support.relays import eventually

pytestmark = pytest.mark.timeout(120)

PROGRAM = """
import os, sys
os.dup2(int(sys.argv.pop(1)), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
from bistro_relay.cli import main
main()
"""


class Manager:
    """Does what systemd does with ``bistro-relay.socket`` and ``bistro-relay.service``."""

    def __init__(self, command: Command):
        self.command = command
        self.listener = socket.create_server(("127.0.0.1", command.port), backlog=1_024)
        self.words: list[str] = []
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.bind(str(command.folder.parent / "notify"))
        self._channel.setblocking(False)

    async def start(self) -> asyncio.subprocess.Process:
        """A process that has the socket as descriptor 3, and is told so."""
        number = self.listener.fileno()
        with (self.command.folder.parent / "log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", PROGRAM, str(number)),
                *("serve", "--dir", str(self.command.folder)),
                env={
                    **self.command.environ,
                    "NOTIFY_SOCKET": str(self.command.folder.parent / "notify"),
                },
                pass_fds=[number],
                stdout=log,
                stderr=log,
            )

    async def hear(self, word: str) -> None:
        """Wait until the daemon has said ``word``."""
        loop = asyncio.get_running_loop()
        while word not in self.words:
            said = await loop.sock_recv(self._channel, 4_096)
            self.words += said.decode().split("\n")
        self.words.clear()

    def close(self) -> None:
        self.listener.close()
        self._channel.close()


@contextlib.asynccontextmanager
async def managed(tmp_path: Path) -> AsyncIterator[Manager]:
    async with new_relay(tmp_path) as (command, _, _):
        manager = Manager(command)
        with contextlib.closing(manager):
            yield manager


async def knock(url: str, answered: list[int], stop: asyncio.Event) -> None:
    """Ask over new connections, one after the other; whatever is not an answer raises."""
    while not stop.is_set():
        connector = aiohttp.TCPConnector(force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"{url}/healthz") as response,
        ):
            answered.append(response.status)


def has(answered: list[int], count: int) -> bool:
    return len(answered) >= count


async def test_no_connection_is_refused_while_the_relay_is_restarted(tmp_path: Path) -> None:
    """Two restarts beside four that knock without a pause: each is answered."""
    async with managed(tmp_path) as manager:
        process = await manager.start()
        await manager.hear("READY=1")
        answered: list[int] = []
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(knock(manager.command.url, answered, stop))
            for _ in range(2):
                enough = len(answered) + 20
                process.terminate()
                assert await process.wait() == 0, manager.command.log()
                process = await manager.start()
                await manager.hear("READY=1")
                await eventually(partial(has, answered, enough))
            stop.set()
        assert set(answered) == {200}
        process.terminate()
        assert await process.wait() == 0


async def test_the_manager_hears_that_the_relay_is_ready_alive_and_stopping(
    tmp_path: Path,
) -> None:
    """In this order; without them it would be restarted or waited for in vain."""
    async with managed(tmp_path) as manager:
        process = await manager.start()
        await manager.hear("READY=1")
        await manager.hear("WATCHDOG=1")
        process.terminate()
        await manager.hear("STOPPING=1")
        assert await process.wait() == 0


async def test_what_is_no_listening_socket_is_refused(tmp_path: Path) -> None:
    """Exit 2, and what the unit of the socket should say."""
    async with managed(tmp_path) as manager:
        manager.listener.close()
        manager.listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        process = await manager.start()
        assert await process.wait() == 2
        assert "expected a listening TCP socket" in manager.command.log()


async def test_variables_meant_for_another_process_mean_nothing(tmp_path: Path) -> None:
    """A child of a managed process binds its own port."""
    async with new_relay(tmp_path) as (command, _, _):
        strange = {**command.environ, "LISTEN_PID": "1", "LISTEN_FDS": "1"}
        async with Command(command.folder, command.port, strange).serving() as process:
            assert process.returncode is None
