"""A sequencer whose disk is about to fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bistro.ledger.ledger import Ledger
from bistro.ledger.sequencer import Sequencer
from tests.support.clocks import ManualClock
from tests.support.disks import FaultyDisk, How
from tests.support.running import running
from tests.unit.ledger.drafts import draft, open_ledger


@asynccontextmanager
async def failing_append(
    path: Path, step: int, how: How, *, batch_limit: int
) -> AsyncIterator[tuple[Ledger, Sequencer, asyncio.Task[None]]]:
    """A sequencer that has appended draft 0, and whose disk fails at a step of what comes next."""
    disk = FaultyDisk()
    ledger = await open_ledger(path, disk=disk)
    sequencer = Sequencer(ledger, ManualClock(), batch_limit=batch_limit)
    async with running(sequencer.run()) as part:
        await sequencer.submit(draft(0))
        disk.fail_at(step, how)
        yield ledger, sequencer, part
