"""What an HTTP part logs of its peers: nothing that anybody could make it write at will."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiohttp import web

from bistro.api.routes import Route
from bistro.daemon.web import Endpoint
from tests.support.serving import http_part, running


async def ask(port: int, request: bytes) -> bytes:
    """The answer to bytes on a connection of their own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await reader.read(4_000)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 100 + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["no-host", "long-field", "many-fields", "negative-length", "two-lengths"],
)
async def test_bytes_that_are_no_http_are_answered_and_not_logged(
    request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A traceback for each would let anybody fill the disk."""
    part = http_part()
    async with running(part):
        assert b" 400 " in await ask(part.port, request_bytes)
    assert not caplog.records


async def test_a_fault_of_ours_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Only what peers do is passed over."""

    async def fail(_: web.Request) -> web.Response:
        raise ValueError("a bug")

    part = http_part([Endpoint(Route("bug", "GET", "/bug"), fail)])
    async with running(part):
        answer = await ask(part.port, b"GET /bug HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 500 " in answer
    assert any(record.levelno == logging.ERROR for record in caplog.records)


async def test_whoever_hangs_up_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A collector that was killed in the middle of a batch, for example."""
    is_over = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65_536)
        finally:
            is_over.set()

    part = http_part([Endpoint(Route("stream", "GET", "/stream"), stream, is_stream=True)])
    async with running(part):
        reader, writer = await asyncio.open_connection("127.0.0.1", part.port)
        writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readexactly(100)
        writer.transport.abort()
        await is_over.wait()
    assert not caplog.records
