"""A process that appends to a ledger and says on standard output what was acknowledged.

Run as ``python -m tests.support.ledger_worker DIRECTORY KEY FIRST COUNT WIDTH``: drafts FIRST
to FIRST + COUNT, WIDTH at a time; one line ``ack <number> <index> <time>`` for each.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from bistro.clock import SystemClock
from bistro.crypto.digest import sha256
from bistro.crypto.signing import LocalSigner, SigningKey
from bistro.ledger.ledger import Ledger
from bistro.ledger.sequencer import Draft, Sequencer
from bistro.wire.entry import TicketEntry


def commitment(number: int) -> bytes:
    return sha256(b"worker %d" % number)


def draft(number: int, clock: SystemClock, origin: str) -> Draft:
    digest = commitment(number)
    return Draft(
        digest,
        clock.now(),
        lambda time: TicketEntry(origin=origin, time=time, digest=digest).encode(),
    )


async def work(directory: Path, key: SigningKey, *, first: int, count: int, width: int) -> None:
    clock = SystemClock(assumed_error_ms=50)
    ledger = await Ledger.open(directory, signer=LocalSigner(key), publish_after=256)
    sequencer = Sequencer(ledger, clock)
    numbers = iter(range(first, first + count))

    async def client() -> None:
        for number in numbers:
            one = await sequencer.submit(draft(number, clock, ledger.origin))
            os.write(1, f"ack {number} {one.index} {one.time}\n".encode())

    async with asyncio.TaskGroup() as parts:
        part = parts.create_task(sequencer.run())
        async with asyncio.TaskGroup() as clients:
            for _ in range(width):
                clients.create_task(client())
        part.cancel()
    await ledger.close()


if __name__ == "__main__":
    directory_text, key_text, first_text, count_text, width_text = sys.argv[1:]
    asyncio.run(
        work(
            Path(directory_text),
            SigningKey.parse(key_text),
            first=int(first_text),
            count=int(count_text),
            width=int(width_text),
        )
    )
