"""Work that must come to its end although the one who waits for it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

_T = TypeVar("_T")


async def finish(work: Coroutine[object, object, _T]) -> _T:
    """Run ``work`` to its end; a cancellation that came meanwhile is raised after it.

    A cancelled ``await`` does not stop the thread that commits or syncs, and nobody would know
    how that ended. An error of ``work`` goes before the cancellation.
    """
    task = asyncio.ensure_future(work)  # noqa: TID251 - its parent waits for it right here
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None and not task.cancelled() and task.exception() is None:
        raise cancelled
    return task.result()
