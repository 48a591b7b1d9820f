"""Fills the log of a call with tickets that nobody asked for, the way tickets get there.

A ``Ledger`` writes, signs, indexes and publishes them; only HTTP and the queue before it are
left out. Nobody may serve the folder meanwhile.

Run as ``python -m tests.bench.filling HOME CALL ENTRIES``; prints the size of the log in the end.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import uvloop

from bistro.clock import Clock, SystemClock
from bistro.instant import UnixMillis
from bistro.wire.entry import TicketEntry
from bistro_server.services.calls import CallRegistry
from bistro_server.services.folder import ServerFolder
from bistro_server.services.ledgers import CallLedgers, ticket_key
from tests.bench.clock_error import ASSUMED_MS

BATCH: Final = 10_000


def spell_entries(origin: str, time: UnixMillis, commitments: Sequence[bytes]) -> list[bytes]:
    """The entries of tickets of one moment."""
    first = TicketEntry(origin=origin, time=time, digest=commitments[0]).encode()
    head, _, tail = first.partition(commitments[0].hex().encode())
    return [head + commitment.hex().encode() + tail for commitment in commitments]


async def fill(ledgers: CallLedgers, clock: Clock, count: int) -> None:
    """Append tickets until the log has ``count`` entries."""
    log, origin = ledgers.log, str(ledgers.call.origin)
    async with asyncio.TaskGroup() as group:
        publisher = group.create_task(log.run_publisher())
        while (missing := count - log.size) > 0:
            commitments = [os.urandom(32) for _ in range(min(BATCH, missing))]
            time = UnixMillis(max(log.last_time, clock.now()))
            entries = spell_entries(origin, time, commitments)
            await log.append(list(map(ticket_key, commitments)), entries, last_time=time)
        publisher.cancel()
    await log.publish()


async def _main(home: Path, call: str, count: int) -> int:
    clock = SystemClock(ASSUMED_MS)
    found = CallRegistry(ServerFolder(home)).load(call)
    ledgers = await CallLedgers.open(found, clock, error_limit_ms=ASSUMED_MS)
    try:
        await fill(ledgers, clock, count)
        return ledgers.log.size
    finally:
        await ledgers.close()


@click.command()
@click.argument("home", type=click.Path(path_type=Path, exists=True))
@click.argument("call")
@click.argument("count", type=int)
def main(home: Path, call: str, count: int) -> None:
    """Fill a log."""
    sys.stdout.write(f"{uvloop.run(_main(home, call, count))}\n")


if __name__ == "__main__":
    main()
