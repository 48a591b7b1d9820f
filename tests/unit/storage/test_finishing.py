"""Work that must come to its end does so although its waiter is cancelled."""

import asyncio

import pytest

from bistro.errors import StorageError
from bistro.storage.finishing import finish


async def test_a_result_passes_through() -> None:
    """Without cancellation it is a plain await."""
    assert await finish(asyncio.sleep(0, result=3)) == 3


@pytest.mark.parametrize("fails", [False, True])
async def test_cancellation_waits_for_the_end(*, fails: bool) -> None:
    """Even repeated; an error of the work goes before the cancellation."""
    gate, ended = asyncio.Event(), []

    async def work() -> None:
        await gate.wait()
        ended.append(True)
        if fails:
            raise StorageError("the disk failed")

    outer = asyncio.ensure_future(finish(work()))  # noqa: TID251 - its end is what is tested
    for _ in range(3):
        await asyncio.sleep(0)
        outer.cancel()
    await asyncio.sleep(0)
    assert not outer.done()
    gate.set()
    with pytest.raises(StorageError if fails else asyncio.CancelledError):
        await outer
    assert ended == [True]
