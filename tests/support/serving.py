"""Serves an app on a loopback port of its own, through the HTTP part that daemons use."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

from aiohttp import web
from prometheus_client import CollectorRegistry

from bistro.daemon.listening import HttpPart, bind_tcp
from bistro.daemon.web import Endpoint, new_app


async def is_always_ready() -> None:
    """Nothing prevents this daemon from serving."""


@contextlib.asynccontextmanager
async def running(part: HttpPart) -> AsyncIterator[asyncio.Task[None]]:
    """Run ``part`` beside the body; what it raises is raised here."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(part.run())
        try:
            yield task
        finally:
            task.cancel()


@contextlib.asynccontextmanager
async def serving(*endpoints: Endpoint, request_timeout_s: float = 10.0) -> AsyncIterator[str]:
    """The base URL under which ``endpoints`` answer."""
    part = http_part(endpoints, request_timeout_s=request_timeout_s)
    async with running(part):
        yield f"http://127.0.0.1:{part.port}"


def http_part(endpoints: Iterable[Endpoint] = (), *, request_timeout_s: float = 10.0) -> HttpPart:
    """A part on a free port that answers ``endpoints`` once it runs."""
    app = web_app(*endpoints, request_timeout_s=request_timeout_s)
    return HttpPart(app, bind_tcp(host="127.0.0.1", port=0), grace_s=0.5)


def web_app(*endpoints: Endpoint, request_timeout_s: float = 10.0) -> web.Application:
    """An app that answers ``endpoints`` and is always ready."""
    return new_app(
        endpoints,
        registry=CollectorRegistry(),
        is_ready=is_always_ready,
        request_timeout_s=request_timeout_s,
    )
