"""Ctrl-C, memory, and what else a terminal's user may notice."""

from __future__ import annotations

import asyncio
import signal
import sys
import tracemalloc
from pathlib import Path

import pytest

from bistro.clock import SystemClock
from bistro.protocol.submission import Request, SubmissionState
from bistro_client.gathering import gather
from bistro_client.home import Folder, Home
from bistro_client.journal import read_journal
from bistro_client.keyring import create
from bistro_client.sealing import Order, seal
from tests.support.destinations import SPRING
from tests.unit.client.commands import running_bistro
from tests.unit.client.worlds import world

START = "from bistro_client.cli import main; main()"


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
async def test_ctrl_c_says_where_the_filer_stands(tmp_path: Path) -> None:
    """Exit 130 in two lines; the ticket is safe, and resume goes on."""
    async with world(tmp_path, SystemClock(assumed_error_ms=10)) as w:
        for relay in w.relays:
            relay.how = "silent"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            START,
            "submit",
            str(w.files()),
            "--to",
            w.url,
            "--home",
            str(w.home.root),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert b"YOU ARE ON TIME" in await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        assert process.returncode == 130, err.decode()
        lines = err.decode().strip().splitlines()
        assert lines[-2] == "error: interrupted"
        assert "you ARE on time" in lines[-1]
        assert "bistro resume" in lines[-1]
        for relay in w.relays:
            relay.how = "good"
        assert (await running_bistro("resume", "--home", w.home.root)).code == 0
        assert read_journal(w.only_folder()).state is SubmissionState.STAGED


async def test_sealing_needs_the_same_memory_for_every_size(tmp_path: Path) -> None:
    """A file of 48 MB is read, sealed and cut in far less memory than it has."""
    async with world(tmp_path) as w:
        path = tmp_path / "big.bin"
        with path.open("wb") as file:
            file.truncate(48_000_000)
        folder = Folder(tmp_path / "work")
        folder.path.mkdir()
        request = Request((str(path),), w.url, "", SPRING, "main")
        key = create(Home(tmp_path / "h").key_file)
        order = Order.new(request, gather([path]), w.destination.call.latest, key)
        tracemalloc.start()
        try:
            sealed = await asyncio.to_thread(seal, order, folder)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert sealed.cut.layout.envelope_size > 48_000_000
        assert peak < 24_000_000, peak
