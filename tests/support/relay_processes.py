"""The real command ``bistro-relay`` in processes of its own: started, killed, started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bistro.clock import SystemClock
from bistro.crypto.keyfile import decode_note_key
from bistro.crypto.signing import VerifierKey
from tests.support.paper import RELAY, PaperCall, PaperServer, publishing
from tests.support.relays import NO_FIELDS, free_port


@dataclass
class Command:
    """A relay's folder and the commands on it."""

    folder: Path
    port: int
    environ: Mapping[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def run(self, *arguments: str, under: Sequence[str] = ()) -> tuple[int, str]:
        """Run a command to its end, perhaps under another; its exit code and what it said."""
        process = await self._start(*arguments, out=asyncio.subprocess.PIPE, under=under)
        out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode()

    async def _start(
        self, *arguments: str, out: int, under: Sequence[str] = ()
    ) -> asyncio.subprocess.Process:
        program = (*under, sys.executable, "-c", "from bistro_relay.cli import main; main()")
        return await asyncio.create_subprocess_exec(
            *program,
            *arguments,
            stdout=out,
            stderr=asyncio.subprocess.STDOUT,
            env=self.environ,
        )

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """A serving relay; killed at the end if the block did not stop it."""
        log = os.open(self.folder.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        process = await self._start("serve", "--dir", str(self.folder), out=log)
        os.close(log)
        try:
            async with aiohttp.ClientSession() as session:
                while not await answers(session, self.url):
                    assert process.returncode is None, self.log()
                    await asyncio.sleep(0.05)
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    def log(self) -> str:
        return (self.folder.parent / "log").read_text()


async def answers(session: aiohttp.ClientSession, url: str) -> bool:
    """Whether a relay is ready."""
    try:
        async with session.get(f"{url}/readyz") as response:
            return response.ok
    except aiohttp.ClientError:
        return False


@contextlib.asynccontextmanager
async def new_relay(
    tmp_path: Path, settings: Mapping[str, str] = NO_FIELDS
) -> AsyncIterator[tuple[Command, PaperCall, PaperServer]]:
    """An initialised relay that allows a paper destination, in real time.

    Args:
        tmp_path: Holds its folder and its log.
        settings: Further ones, by the names of their environment variables without prefix.
    """
    port = free_port()
    environ = {
        **os.environ,  # noqa: TID251 - a process needs its surroundings
        "BISTRO_RELAY_CLOCK__ASSUMED_ERROR_MS": "10",
        "BISTRO_RELAY_LIMITS__RESERVE_BYTES": "0",
        "BISTRO_RELAY_LOG__OUTPUT_FORMAT": "json",
        "BISTRO_RELAY_LOG__LEVEL": "debug",
        **{f"BISTRO_RELAY_{name}": value for name, value in settings.items()},
    }
    command = Command(tmp_path / "relay", port, environ)
    code, said = await command.run(
        "init", str(command.folder), "--name", RELAY, "--operator", "Example", "--port", str(port)
    )
    assert code == 0, said
    call = PaperCall(now=SystemClock().now())
    async with publishing(call) as server:
        code, said = await command.run("allow", server.url, "--dir", str(command.folder))
        assert code == 0, said
        yield command, call, server


def key_of(command: Command) -> VerifierKey:
    """The vkey that the relay's key file is of."""
    return decode_note_key((command.folder / "keys" / "relay.key").read_bytes()).verifier
