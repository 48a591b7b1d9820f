"""Takedowns and orders in real processes that are killed, or whose system calls fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from bistro.api import routes
from bistro.clock import SystemClock
from bistro.ids import format_commitment
from bistro.net.collector_client import CollectorClient
from bistro.net.relay_client import Piece, RelayClient
from bistro.net.session import Session
from bistro.wire.batches import BatchItem, FrameHead
from bistro.wire.entry import ReleasedEntry, decode_entry
from bistro.wire.proof import Proof
from bistro.wire.relay_notes import Takedown
from tests.support.paper import SPRING, PaperCall, Sealed
from tests.support.relay_processes import Command, key_of, new_relay
from tests.support.relays import eventually, pieces
from tests.support.tools import require_tool

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

KILLED = -9
GONE, KEPT = Sealed(1, size=3_000_000), Sealed(2, size=3_000_000)
FAIL, KILL = "error=EIO", "signal=KILL"


def failing(call: str, end: str, *, when: int = 1) -> list[str]:
    """What strace is told: one system call is not executed, and fails or kills."""
    tracer = [require_tool("strace"), "-f", "-qqq", "-o", "/dev/null", "-e", "signal=none"]
    return [*tracer, "-e", f"trace={call}", "-e", f"inject={call}:{end}:when={when}"]


def takedown_of(sealed: Sealed, command: Command) -> list[str]:
    commitment = format_commitment(sealed.commitment)
    where = ("--reason", "an order", "--dir", str(command.folder))
    return ["takedown", str(SPRING), commitment, *where]


async def stage(session: Session, command: Command, call: PaperCall, sealed: Sealed) -> str:
    """Stage one fragment; its upload's id."""
    data = sealed.fragment(0)
    done = await RelayClient(session, command.url).create_upload(
        call.claim(sealed).encode(), size=len(data), first=Piece(pieces(data), len(data))
    )
    assert done.receipt is not None
    return done.id


async def codes_of(
    session: Session, command: Command, call: PaperCall, *asked: Sealed
) -> list[str | None]:
    """What a batch says about fragments."""
    clock = SystemClock()
    collector = CollectorClient(session, command.url, key=call.collect_key, clock=clock)
    items = [BatchItem(one.commitment, 0, 0) for one in asked]
    async with collector.fetch_batch(items) as frames:
        return [frame.code async for frame in frames if isinstance(frame, FrameHead)]


async def require_taken_down(
    session: Session, command: Command, call: PaperCall, upload: str
) -> None:
    """One is gone, for the order that its ledger names; the other is there."""
    while await codes_of(session, command, call, GONE, KEPT) != ["unknown-object", None]:  # noqa: ASYNC110 - in another process
        await asyncio.sleep(0.1)  # a fresh signature each time; the test's time limit bounds it
    async with aiohttp.ClientSession() as http:
        found = json.loads(await read(http, routes.UPLOAD_CUSTODY.url(command.url, upload=upload)))
        await require_named(http, command, found["released"])
    # The row goes before the bytes.
    await eventually(lambda: not lies_in(command.folder / "segments"))


def lies_in(folder: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
        return any(GONE.fragment(0) in path.read_bytes() for path in folder.rglob("*.segment"))
    return True


async def read(http: aiohttp.ClientSession, url: str) -> bytes:
    async with http.get(url) as answer:
        assert answer.ok
        return await answer.read()


async def require_named(http: aiohttp.ClientSession, command: Command, released: str) -> None:
    """The end of a hold names an order of the relay's, which can be read."""
    entry = decode_entry(Proof.parse(released).entry or b"")
    assert isinstance(entry, ReleasedEntry)
    assert entry.takedown is not None
    note = await read(http, routes.TAKEDOWN.url(command.url, takedown=entry.takedown.hex()))
    assert Takedown.verify(note, key_of(command)).commitment == GONE.commitment


@pytest.mark.parametrize(("call", "end"), [("fdatasync", FAIL), ("rename", KILL), ("fsync", KILL)])
async def test_a_command_that_dies_has_ordered_all_or_nothing(
    tmp_path: Path, call: str, end: str
) -> None:
    """And given again it is carried out, once."""
    async with (
        new_relay(tmp_path) as (command, paper, _),
        Session() as session,
        command.serving(),
    ):
        upload = await stage(session, command, paper, GONE)
        await stage(session, command, paper, KEPT)
        orders: Sequence[Sequence[str]] = (
            ["drain", "--dir", str(command.folder)],
            takedown_of(GONE, command),
        )
        for order in orders:
            code, said = await command.run(*order, under=failing(call, end))
            assert code == (KILLED if end == KILL else 1), said
        code, said = await command.run("status", "--json", "--dir", str(command.folder))
        assert code == 0, said
        for order in orders:
            code, said = await command.run(*order)
            assert code == 0, said
        await require_taken_down(session, command, paper, upload)


@asynccontextmanager
async def sabotaged(pid: int, call: str, end: str, when: int) -> AsyncIterator[None]:
    """A running process whose next call of a kind fails, or kills it."""
    tracer, *options = failing(call, end, when=when)
    process = await asyncio.create_subprocess_exec(
        *(tracer, *(one for one in options if one != "-qqq"), "-p", str(pid)),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    while b"attached" not in (said := await process.stderr.readline()):
        assert said, "strace could not attach"
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


@pytest.mark.parametrize(
    ("call", "when", "end"),
    [
        ("pwrite64", 1, FAIL),
        ("fdatasync", 1, KILL),
        ("fdatasync", 2, FAIL),
        ("fdatasync", 2, KILL),
        ("unlink,unlinkat", 1, FAIL),
        ("unlink,unlinkat", 1, KILL),
    ],
)
async def test_a_relay_that_dies_of_a_takedown_goes_on_with_it(
    tmp_path: Path, call: str, when: int, end: str
) -> None:
    """Stopped by its disk or killed, at the ledger, at rows or at bytes."""
    async with new_relay(tmp_path) as (command, paper, _), Session() as session:
        async with command.serving() as process:
            upload = await stage(session, command, paper, GONE)
            await stage(session, command, paper, KEPT)
            async with sabotaged(process.pid, call, end, when):
                code, said = await command.run(*takedown_of(GONE, command))
                assert code == 0, said
                code = await process.wait()
            assert code == (KILLED if end == KILL else 1), command.log()
        async with command.serving():
            await require_taken_down(session, command, paper, upload)
