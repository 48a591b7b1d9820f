"""A real ``bistro-server serve`` with one open call, for benchmarks of tickets."""

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
from bistro.wire.ticketing import TicketAnswers, Ticketed
from tests.bench import clock_error
from tests.bench.loads import Load
from tests.bench.loads.requests import post
from tests.bench.loads.tickets import MSGPACK, ticket_body
from tests.bench.measuring import NotMeasured
from tests.bench.processes import Server, free_port, program, run, serving
from tests.bench.workplace import ask, ask_raw

CALL: Final = "spring"
ORIGIN: Final = f"bench.example/{CALL}"


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

    def size(self) -> int:
        """The log's size with a new ticket, which is verified."""
        url = self.server.url + self.path
        return self.verify(
            ask(url, method="POST", body=ticket_body(self.terms_hash), headers=MSGPACK)
        )

    def whole_answer(self) -> bytes:
        """An answer to a request as load sends it, with its head."""
        request = post(self.path, MSGPACK, ticket_body(self.terms_hash))
        return ask_raw(self.server.port, request)

    @contextlib.contextmanager
    def counting(self, loads: list[Load]) -> Iterator[None]:
        """Require that every answer to ``loads``, filled by the block, is in the log.

        Raises:
            NotMeasured: The log grew by less than was acknowledged.
        """
        before = self.size()
        yield
        grown, answered = self.size() - before - 1, sum(load.answered for load in loads)
        if grown < answered:
            raise NotMeasured(f"{answered} answers, but the log grew by {grown}")

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


def make_home(home: Path, *, port: int, closes: str = "+30d") -> None:
    """A server's folder with one call that is open."""
    environment = clock_error.environment("BISTRO_SERVER")

    def bistro_server(*arguments: str | Path | int) -> None:
        run(program("bistro-server", *arguments), environment=environment)

    bistro_server("init", home, "--name", "bench.example", "--port", port)
    call = ("--title", "Benchmark", "--closes", closes, "--dir", home)
    bistro_server("call", "create", CALL, *call)


@contextlib.contextmanager
def serving_home(home: Path, *, port: int, log: Path) -> Iterator[Desk]:
    """The server of a folder, in its own process, from when it answers."""
    command = program("bistro-server", "serve", "--dir", home)
    environment = clock_error.environment("BISTRO_SERVER")
    environment["BISTRO_SERVER_HTTP__PORT"] = str(port)
    with serving(command, port=port, log=log, environment=environment) as server:
        served = ServedTerms.decode(ask(server.url + routes.TERMS.path(call=CALL)))
        terms = served.signed.terms
        yield Desk(server, terms.hash, terms.keys.log)


@contextlib.contextmanager
def serving_tickets(folder: Path) -> Iterator[Desk]:
    """A new server with one open call, in its own process."""
    port, home = free_port(), folder / "server"
    make_home(home, port=port)
    with serving_home(home, port=port, log=folder / "server.log") as desk:
        yield desk
