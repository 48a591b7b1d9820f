"""A daemon's part that runs for as long as a test's block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager


@asynccontextmanager
async def running(part: Coroutine[object, object, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run ``part`` until the block ends; if it fails first, the block may look at the task."""
    task = asyncio.ensure_future(part)  # noqa: TID251 - ended below
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
