"""Folders with thousands of files, and addresses of IPv6."""

from __future__ import annotations

import contextlib
from pathlib import Path

from aiohttp import web

from bistro.net.session import Session
from bistro.protocol.submission import SubmissionState
from bistro.wire.manifest import Manifest
from bistro_client.patience import Patience
from bistro_client.submitting import Submitter, Wish
from tests.unit.client.worlds import Wire, world

COUNT = 5_000


async def test_a_folder_with_thousands_of_files(tmp_path: Path) -> None:
    """All of them are in the manifest, in order; limits and sizes are told before."""
    async with world(tmp_path, files_limit=COUNT) as w:
        folder = tmp_path / "archive"
        for number in range(COUNT):
            path = folder / f"{number % 50:02}" / f"page-{number:05}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(number), encoding="ascii")
        done = await w.submitter().submit(w.wish(folder))
        assert done.state is SubmissionState.STAGED
        data = w.only_folder().manifest.read_bytes()
        manifest = Manifest.decode(data)
        assert len(manifest.files) == COUNT
        assert f"{COUNT:,} of at most {COUNT:,} files" in w.listener.text("limits")


async def test_a_destination_at_an_ipv6_address(tmp_path: Path) -> None:
    """Brackets in the URL and all; relays at IPv4 addresses go with it."""
    async with world(tmp_path) as w, contextlib.AsyncExitStack() as stack:
        wire = Wire(w.destination.base_url, w.clock)
        runner = web.AppRunner(wire.app(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "::1", 0).start()
        wire.url = f"http://[::1]:{runner.addresses[0][1]}"
        session = await stack.enter_async_context(Session())
        submitter = Submitter(
            w.home, session, clock=w.clock, patience=Patience(w.clock, limit_ms=5_000)
        )
        done = await submitter.submit(Wish(paths=(w.files(),), url=wire.url))
        assert done.state is SubmissionState.STAGED
        assert done.request.server_url == wire.url
        assert any(path.endswith("/tickets") for path in wire.asked)
