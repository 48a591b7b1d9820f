"""``ticket.*``: a real ``bistro-server serve`` with one call, beside what anybody must do.

| measure | floor |
|---|---|
| ``ticket.rate``, ``ticket.cpu`` | the same requests, a fixed answer, byte for byte as long |
| ``ticket.bulk`` | the same batches in memory: decode, entries, leaf hashes, paths, encode |

``ticket.rate.512`` and ``ticket.cpu.512`` are the first two at 512 connections instead of 64.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Final

from bistro.wire.ticketing import MAX_REQUESTS
from tests.bench import clock_error
from tests.bench.desk import serving_tickets
from tests.bench.loads import Load
from tests.bench.loads.requests import post, sample_file, write_requests
from tests.bench.loads.sending import send_requests
from tests.bench.loads.tickets import MSGPACK, TicketLoad, bulk_body
from tests.bench.measuring import Case, Contest, Measure, Sample, Samples
from tests.bench.processes import (
    CORES,
    free_port,
    metering,
    python,
    rate_and_cpu,
    run,
    scaled,
    serving,
)
from tests.bench.workplace import work_folder

FEW: Final = 64
MANY: Final = 512
SECONDS: Final = 3.0
BULK_CONNECTIONS: Final = 4
BULK_BODIES: Final = 80
BULK_SECONDS: Final = 2.0
_WARM_UP_S: Final = 1.0


@contextlib.contextmanager
def _open_single(connections: int, suffix: str) -> Iterator[Contest]:
    with work_folder() as folder, serving_tickets(folder) as desk:
        load = TicketLoad(desk.path, desk.terms_hash, connections, SECONDS, folder)
        TicketLoad(desk.path, desk.terms_hash, connections, _WARM_UP_S, folder).send(
            desk.server.port
        )
        # Byte for byte what ours answers, by then with paths of a log that is not empty.
        answer = folder / "answer"
        answer.write_bytes(desk.whole_answer())
        port = free_port()
        command = python("floors.ticket", port, answer)
        with serving(command, port=port, log=folder / "floor.log") as floor:

            def floor_round() -> Samples:
                with metering(floor) as meter:
                    done = load.send(floor.port)
                found = rate_and_cpu("ticket", done, meter, suffix=suffix)
                rate = f"ticket.rate{suffix}"
                return {**found, rate: scaled(found[rate])}

            def our_round() -> Samples:
                loads: list[Load] = []
                with desk.counting(loads), metering(desk.server) as meter:
                    loads.append(load.send(desk.server.port))
                return rate_and_cpu("ticket", loads[0], meter, suffix=suffix)

            notes = (f"ticket.rate, ticket.cpu: sent by {load.tool}", *clock_error.notes())
            yield Contest(our_round, floor_round, notes)


@contextlib.contextmanager
def _open_bulk() -> Iterator[Contest]:
    with work_folder() as folder, serving_tickets(folder) as desk:
        requests = folder / "bulk"

        def floor_round() -> Samples:
            load = Load.parse(run(python("floors.bulk", BULK_SECONDS), cores=CORES.server))
            # Its own CPU time, so that nobody else's can be in it.
            return {"ticket.bulk": scaled(Sample(load.rate, load.busy, load.busy))}

        def our_round() -> Samples:
            bodies = (bulk_body(desk.terms_hash) for _ in range(BULK_BODIES))
            write_requests(requests, (post(desk.path, MSGPACK, body) for body in bodies))
            with metering(desk.server) as meter:
                load = send_requests(
                    desk.server.port, requests, connections=BULK_CONNECTIONS, seconds=BULK_SECONDS
                )
            desk.verify(sample_file(requests).read_bytes())
            own = meter.cpu_s / load.seconds
            return {"ticket.bulk": Sample(load.rate * MAX_REQUESTS, load.busy, own)}

        yield Contest(our_round, floor_round, clock_error.notes())


def _single(connections: int, suffix: str = "") -> Case:
    return Case(
        "ticket",
        (
            Measure(f"ticket.rate{suffix}", "tickets/s", goal=0.4, needs_busy_core=True),
            Measure(f"ticket.cpu{suffix}", "us/ticket", goal=0.4, is_more_better=False),
        ),
        partial(_open_single, connections, suffix),
    )


CASES: Final = (
    _single(FEW),
    _single(MANY, f".{MANY}"),
    Case(
        "ticket",
        (Measure("ticket.bulk", "tickets/s", goal=0.6, needs_busy_core=True),),
        _open_bulk,
    ),
)
