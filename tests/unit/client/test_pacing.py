"""A total rate for all uploads, and small steps that show that they move."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bistro.protocol.submission import SubmissionState
from bistro_client.pacing import Pace
from tests.unit.client.worlds import sealed_of, world


async def test_all_who_send_share_one_rate() -> None:
    """Four times 1,000 bytes at 80,000 bits a second are sent over at least 0.3 s."""
    pace, loop = Pace(80_000), asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(pace.take(1_000))
    assert loop.time() - began >= 0.29


async def test_a_submission_keeps_to_its_rate(tmp_path: Path) -> None:
    """Fragments of all relays together."""
    async with world(tmp_path) as w:
        loop = asyncio.get_running_loop()
        began = loop.time()
        done = await w.submitter(pace=Pace(2_400_000)).submit(w.wish(w.files(150_000)))
        assert done.state is SubmissionState.STAGED
        size = 3 * sealed_of(done).cut.layout.fragment_size
        # The last step of 32 KiB goes without waiting for its own time to pass.
        assert loop.time() - began >= (size - 32_768) * 8 / 2_400_000
