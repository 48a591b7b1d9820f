"""tus-js-client, in Node and in Chromium, uploads to a relay in every protocol that it speaks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.e2e.uploads.watched import LARGE, SMALL, Bench, Client, Program, Work, new_bench
from tests.support.npm import require_packages
from tests.support.tools import require_tool

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

PROTOCOLS = ("tus-v1", "ietf-draft-03", "ietf-draft-05")
SCRIPTS = Path(__file__).parent


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with new_bench(tmp_path) as found:
        yield found


def node(script: str) -> Program:
    """A script for Node."""
    text = (SCRIPTS / script).read_text(encoding="utf-8")
    command = (require_tool("node"), "--input-type=module", "--eval", text)
    return Program(command, require_packages())


def in_node(script: Program, protocol: str) -> Client:
    """Uploads from a file, and writes down where, beside it."""

    async def upload(work: Work) -> None:
        storage = str(work.file.with_suffix(".urls"))
        await script.run(work, str(work.file), work.endpoint, work.metadata, protocol, storage)

    return upload


def in_chromium(script: Program, protocol: str) -> Client:
    """Uploads from a page of another origin than the relay's."""

    async def upload(work: Work) -> None:
        async with page_of(work) as url:
            browser = require_tool("chromium")
            await script.run(work, browser, url, work.endpoint, work.metadata, protocol)

    return upload


@contextlib.asynccontextmanager
async def page_of(work: Work) -> AsyncIterator[str]:
    """A page that has the client and the fragment."""
    client = require_packages() / "node_modules" / "tus-js-client" / "dist" / "tus.min.js"
    page = '<!doctype html><title>upload</title><script src="/tus.js"></script>'

    async def start(_: web.Request) -> web.StreamResponse:
        return web.Response(text=page, content_type="text/html")

    async def script(_: web.Request) -> web.StreamResponse:
        return web.FileResponse(client, headers={"Content-Type": "text/javascript"})

    async def fragment(_: web.Request) -> web.StreamResponse:
        return web.FileResponse(work.file)

    app = web.Application()
    app.router.add_get("/", start)
    app.router.add_get("/tus.js", script)
    app.router.add_get("/fragment", fragment)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        yield f"http://localhost:{port}/"
    finally:
        await runner.cleanup()


async def test_node_uploads_and_sees_the_receipts(bench: Bench) -> None:
    """The client as it comes, in each protocol: one header field more, a receipt at the end."""
    async with bench.command.serving():
        for protocol, sealed in zip(PROTOCOLS, SMALL, strict=True):
            script = node("node.mjs")
            await bench.upload(in_node(script, protocol), sealed)
            bench.verify(script.receipt, sealed)


@pytest.mark.parametrize("protocol", ["tus-v1", "ietf-draft-05"])
async def test_node_goes_on_after_the_relay_was_killed(bench: Bench, protocol: str) -> None:
    """By itself: it asks where it was, and sends the rest."""
    script = node("node.mjs")
    await bench.upload_through_a_kill(in_node(script, protocol), LARGE)
    bench.verify(script.receipt, LARGE)


async def test_a_page_of_another_origin_uploads(bench: Bench) -> None:
    """The browser asks first, is let, and may read offset and receipt, in each protocol."""
    async with bench.command.serving():
        for protocol, sealed in zip(PROTOCOLS, SMALL, strict=True):
            script = node("browser.mjs")
            await bench.upload(in_chromium(script, protocol), sealed)
            bench.verify(script.receipt, sealed)


async def test_a_page_goes_on_after_the_relay_was_killed(bench: Bench) -> None:
    """As Node does."""
    script = node("browser.mjs")
    await bench.upload_through_a_kill(in_chromium(script, "tus-v1"), LARGE)
    bench.verify(script.receipt, LARGE)
