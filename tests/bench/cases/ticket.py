"""``ticket.*``: a real ``bistro-server serve`` with one call, beside what anybody must do.

| measure | floor |
|---|---|
| ``ticket.rate``, ``ticket.cpu`` | the same requests, a fixed answer of the same size |
| ``ticket.bulk`` | the same batches in memory: decode, entries, leaf hashes, paths, encode |
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bistro.api import routes
from bistro.crypto.signing import VerifierKey
from bistro.wire.served_terms import ServedTerms
from bistro.wire.ticket import Ticket
from bistro.wire.ticketing import MAX_REQUESTS, TicketAnswers, Ticketed
from tests.bench import clock_error
from tests.bench.loads import Load
from tests.bench.loads.requests import post, sample_file, write_requests
from tests.bench.loads.sending import send_requests
from tests.bench.loads.tickets import MSGPACK, TicketLoad, bulk_body, ticket_body
from tests.bench.measuring import Case, Contest, Measure, NotMeasured, Sample, Samples
from tests.bench.processes import (
    CORES,
    Server,
    free_port,
    metering,
    program,
    python,
    rate_and_cpu,
    run,
    serving,
)
from tests.bench.workplace import ask, work_folder

CALL: Final = "spring"
ORIGIN: Final = f"bench.example/{CALL}"
CONNECTIONS: Final = 64
SECONDS: Final = 4.0
BULK_CONNECTIONS: Final = 4
BULK_BODIES: Final = 80
BULK_SECONDS: Final = 3.0
_WARM_UP_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Desk:
    """The ticket endpoint of a running server."""

    server: Server
    terms_hash: bytes
    log_key: VerifierKey

    @property
    def path(self) -> str:
        """Of the endpoint."""
        return routes.TICKETS.path(call=CALL)

    def request_ticket(self) -> tuple[int, bytes]:
        """The log's size with a new ticket, which is verified, and the answer's body."""
        url = self.server.url + self.path
        body = ask(url, method="POST", body=ticket_body(self.terms_hash), headers=MSGPACK)
        return self.verify(body), body

    def verify(self, answers: bytes) -> int:
        """The index after the last of these tickets; all are verified."""
        index = 0
        for answer in TicketAnswers.decode(answers).items:
            if not isinstance(answer, Ticketed):
                raise NotMeasured(f"expected tickets, found {answer}")
            ticket = Ticket.parse(answer.ticket)
            ticket.verify(self.log_key, ORIGIN)
            index = max(index, ticket.index + 1)
        return index


@contextlib.contextmanager
def serving_tickets(folder: Path) -> Iterator[Desk]:
    """A new server with one open call, in its own process."""
    port, home = free_port(), folder / "server"
    environment = clock_error.environment("BISTRO_SERVER")

    def bistro_server(*arguments: str | Path | int) -> None:
        run(program("bistro-server", *arguments), environment=environment)

    bistro_server("init", home, "--name", "bench.example", "--port", port)
    times = ("--closes", "+30d")
    bistro_server("call", "create", CALL, "--title", "Benchmark", *times, "--dir", home)
    command = program("bistro-server", "serve", "--dir", home)
    log = folder / "server.log"
    with serving(command, port=port, log=log, environment=environment) as server:
        served = ServedTerms.decode(ask(server.url + routes.TERMS.path(call=CALL)))
        terms = served.signed.terms
        yield Desk(server, terms.hash, terms.keys.log)


@contextlib.contextmanager
def _open_single() -> Iterator[Contest]:
    with work_folder() as folder, serving_tickets(folder) as desk:
        load = TicketLoad(desk.path, desk.terms_hash, CONNECTIONS, SECONDS, folder)
        TicketLoad(desk.path, desk.terms_hash, CONNECTIONS, _WARM_UP_S, folder).send(
            desk.server.port
        )
        # As large as what ours answers, by then with paths of a log that is not empty.
        answer = folder / "answer"
        answer.write_bytes(desk.request_ticket()[1])
        port = free_port()
        command = python("floors.ticket", port, answer)
        with serving(command, port=port, log=folder / "floor.log") as floor:

            def floor_round() -> Samples:
                with metering(floor) as meter:
                    done = load.send(floor.port)
                return rate_and_cpu("ticket", done, meter)

            def our_round() -> Samples:
                before, _ = desk.request_ticket()
                with metering(desk.server) as meter:
                    done = load.send(desk.server.port)
                after, _ = desk.request_ticket()
                if after - before - 1 < done.answered:
                    raise NotMeasured(
                        f"{done.answered} answers, but the log grew by {after - before - 1}"
                    )
                return rate_and_cpu("ticket", done, meter)

            notes = (f"ticket.rate, ticket.cpu: sent by {load.tool}", *clock_error.notes())
            yield Contest(our_round, floor_round, notes)


@contextlib.contextmanager
def _open_bulk() -> Iterator[Contest]:
    with work_folder() as folder, serving_tickets(folder) as desk:
        requests = folder / "bulk"

        def floor_round() -> Samples:
            load = Load.parse(run(python("floors.bulk", BULK_SECONDS), cores=CORES.server))
            # Its own CPU time, so that nobody else's can be in it.
            return {"ticket.bulk": Sample(load.rate, load.busy, load.busy)}

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


CASES: Final = (
    Case(
        "ticket",
        (
            Measure("ticket.rate", "tickets/s", needs_busy_core=True),
            Measure("ticket.cpu", "us/ticket", is_more_better=False),
        ),
        _open_single,
    ),
    Case("ticket", (Measure("ticket.bulk", "tickets/s", needs_busy_core=True),), _open_bulk),
)
