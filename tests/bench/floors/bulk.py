"""The floor of ``ticket.bulk``: the same batches in memory, nothing signed, sent or durable.

Decoding, entries, leaf hashes, paths and encoding; prints how many tickets in how many seconds.

Run as ``python -m tests.bench.floors.bulk SECONDS``.
"""

from __future__ import annotations

import json
import secrets
import time

import click
import msgpack

from bistro.wire.ticketing import MAX_REQUESTS
from tests.bench.floors.stamping import MemoryLog, unsigned
from tests.bench.loads.tickets import bulk_body

ORIGIN = "bench.example/spring"
_BODIES = 20


def answer(log: MemoryLog, body: bytes, now: int) -> bytes:
    """The answer to a body of ticket requests."""
    commitments = [item[1] for item in msgpack.unpackb(body, use_list=False)]
    tickets = log.stamp(commitments, now)
    return bytes(msgpack.packb([(0, ticket) for ticket in tickets]))


@click.command()
@click.argument("seconds", type=float)
def main(seconds: float) -> None:
    """Answer batches for a while."""
    bodies = [bulk_body(secrets.token_bytes(32)) for _ in range(_BODIES)]
    log = MemoryLog(ORIGIN, unsigned(ORIGIN))
    begun_at, cpu = time.perf_counter(), time.process_time()
    count = 0
    while time.perf_counter() - begun_at < seconds:
        answer(log, bodies[count % _BODIES], 1_790_000_000_000 + count)
        count += 1
    seconds = time.perf_counter() - begun_at
    busy = (time.process_time() - cpu) / seconds
    report = {"answered": count * MAX_REQUESTS, "seconds": seconds, "busy": busy, "failed": 0}
    print(json.dumps(report))  # noqa: T201 - the report


if __name__ == "__main__":
    main()
