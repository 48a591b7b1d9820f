"""``relay.batch``: 50,000 fragments of 8 KiB in batches, beside one ``GET`` each.

The floor is a bare ``aiohttp`` + ``uvloop`` server that answers each ``GET`` with a file, 64
connections, a client that costs little. A relay shows a fragment to its destination only, so
each ``GET`` is signed: the floor verifies one signature, and remembers no nonce.
``relay.batch.bare`` has a floor that verifies nothing, and no goal: no relay could be that one.

Ours is asked by the client that destinations have. After every round it is told to delete what
it holds, and the next round's fragments are staged in what that left; only pulling is timed.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import uvloop

from bistro.net.session import Session
from bistro.wire.batches import MAX_ITEMS
from tests.bench import clock_error
from tests.bench.destination import Fragment
from tests.bench.loads.requests import write_requests
from tests.bench.loads.sending import send_requests
from tests.bench.measuring import Case, Contest, Measure, NotMeasured, Sample, Samples
from tests.bench.processes import CORES, Server, metering, pinned
from tests.bench.relaying import (
    RelayUnderTest,
    pull_batch,
    serving_floor,
    serving_relay,
    upload,
)
from tests.bench.workplace import work_folder

NAME: Final = "relay.batch"
BARE: Final = "relay.batch.bare"
COUNT: Final = 50_000
SIZE: Final = 8_192
CONNECTIONS: Final = 64
TIMES: Final = 5.0
_AT_ONCE: Final = 5_000
_SECONDS: Final = 600.0


def _stage(relay: RelayUnderTest, folder: Path, body: bytes) -> list[Fragment]:
    """Have the relay hold them all."""
    file, data = folder / "requests", folder / "body"
    data.write_bytes(body)
    staged: list[Fragment] = []
    while len(staged) < COUNT:
        # The first claim alone makes the relay fetch the terms.
        count = min(_AT_ONCE, COUNT - len(staged)) if staged else 1
        fragments = relay.destination.fragments(body, count, share_checkpoint=True)
        write_requests(file, map(upload, fragments))
        port, seconds = relay.server.port, _SECONDS
        load = send_requests(port, file, connections=CONNECTIONS, seconds=seconds, body=data)
        if load.answered != count:
            raise NotMeasured(f"the relay took {load.answered} of {count} fragments")
        staged += fragments
    return staged


async def _pull_all(relay: RelayUnderTest, fragments: Sequence[Fragment]) -> float:
    """Seconds that all of them take, batch after batch."""
    async with Session() as session:
        collector = relay.collector(session)
        left, size, begun_at = iter(fragments), 0, time.perf_counter()
        while part := list(islice(left, MAX_ITEMS)):
            size += await pull_batch(collector, part)
        seconds = time.perf_counter() - begun_at
    if size != COUNT * SIZE:
        raise NotMeasured(f"expected {COUNT * SIZE} bytes, found {size}")
    return seconds


def _get_all(floor: Server, folder: Path, route: str) -> Sample:
    file = folder / "gets"
    write_requests(
        file, (f"GET /{route}/{n} HTTP/1.1\r\nHost: h\r\n\r\n".encode() for n in range(COUNT))
    )
    load = send_requests(floor.port, file, connections=CONNECTIONS, seconds=_SECONDS)
    if load.answered != COUNT:
        raise NotMeasured(f"the floor answered {load.answered} of {COUNT}")
    return Sample(load.rate, load.busy)


@contextlib.contextmanager
def _open_batch() -> Iterator[Contest]:
    with (
        work_folder() as folder,
        serving_relay(folder) as relay,
        serving_floor(folder) as floor,
    ):
        body = secrets.token_bytes(SIZE)
        for number in range(COUNT):
            (folder / "written" / str(number)).write_bytes(body)

        def batch_round() -> Samples:
            fragments = _stage(relay, folder, body)
            with pinned(CORES.load), metering(relay.server) as meter:
                seconds = uvloop.run(_pull_all(relay, fragments))
            relay.release(fragments)
            return dict.fromkeys((NAME, BARE), Sample(COUNT / seconds, meter.busy))

        def floor_round() -> Samples:
            return {
                NAME: _get_all(floor, folder, "signed"),
                BARE: _get_all(floor, folder, "fragments"),
            }

        yield Contest(batch_round, floor_round, clock_error.notes())


_MEASURES: Final = (
    Measure(NAME, "fragments/s", goal=TIMES),
    Measure(BARE, "fragments/s"),
)
CASES: Final = (Case("relay", _MEASURES, _open_batch),)
