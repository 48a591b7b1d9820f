"""What reading costs a real server: one read in a crowd, ten alone, and a whole look.

* ``status.cpu``: reads of 64 connections, beside a fixed answer. Each asks for another note,
  which it has not; no note is asked for twice in a row.
* ``status.ten``: ten reads of a status one after the other, and nothing else comes; beside a
  ticket that is asked for in the same way. The rule is that the ten cost less.
* ``status.look``: what a filer's program does when it looks, over a connection of its own:
  who is it, and is the status still the one that I know; beside two fixed answers.

The notes are those that the server's own key signs, in the files where it looks for them.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Final

from bistro.api import routes
from bistro.clock import SystemClock
from bistro.crypto.signing import Note, verify_note
from bistro.ids import format_commitment
from bistro.wire.status import Status
from bistro_server.services.calls import CallRegistry
from bistro_server.services.folder import ServerFolder
from bistro_server.store.status_files import StatusFiles
from tests.bench import clock_error
from tests.bench.desk import CALL, Desk, make_home, serving_home, serving_tickets
from tests.bench.loads.requests import post, write_requests
from tests.bench.loads.sending import send_alone, send_requests
from tests.bench.loads.tickets import MSGPACK, ticket_body
from tests.bench.measuring import Case, Contest, Measure, NotMeasured, Sample, Samples
from tests.bench.processes import Server, free_port, metering, python, rate_and_cpu, serving
from tests.bench.workplace import ask_raw, work_folder

CONNECTIONS: Final = 64
SECONDS: Final = 2.0
NOTES: Final = 4_000
_RATE: Final = 100_000
"""More requests a second than one core answers."""
LOOKERS: Final = 200
ALONE: Final = 20_000
"""More than one client asks for in a row in ``SECONDS``."""
TEN: Final = 10
_US: Final = 1_000_000
_WARM_UP_S: Final = 1.0


def get(commitment: bytes) -> bytes:
    """The request for one status."""
    return ask_for(routes.STATUS.path(call=CALL, commitment=format_commitment(commitment)))


def ask_for(path: str, known: bytes = b"") -> bytes:
    """A GET, by somebody who has the answer ``known`` already."""
    head = known.partition(b"\r\n\r\n")[0]
    tags = [line for line in head.split(b"\r\n") if line.lower().startswith(b"etag:")]
    fields = b"".join(b"If-None-Match:%b\r\n" % tag.partition(b":")[2] for tag in tags)
    return b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n%b\r\n" % (path.encode(), fields)


def make_notes(home: Path) -> list[bytes]:
    """Write the statuses of made-up submissions as ``serve`` does; their commitments."""
    folder = ServerFolder(home)
    call = CallRegistry(folder).load(CALL)
    now = SystemClock().now()
    commitments = [secrets.token_bytes(32) for _ in range(NOTES)]
    notes = {
        commitment: Status(
            origin=call.origin,
            commitment=commitment,
            state="staged",
            ticketed_at=now,
            index=index,
            updated_at=now,
            fragments=(0, 1, 2),
            needed=2,
        ).sign(call.status_key)
        for index, commitment in enumerate(commitments, 1)
    }
    StatusFiles(folder.status).write_all(CALL, notes)
    return commitments


def _require_signed(home: Path, answer: bytes) -> None:
    head, _, note = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise NotMeasured(f"expected a status, found {head[:80]!r}")
    key = CallRegistry(ServerFolder(home)).load(CALL).status_key.verifier
    verify_note(Note.parse(note), key)


@contextlib.contextmanager
def _open() -> Iterator[Contest]:
    with work_folder() as folder:
        port, home, requests = free_port(), folder / "server", folder / "requests"
        make_home(home, port=port)
        commitments = make_notes(home)
        count = int(_RATE * SECONDS)
        write_requests(requests, (get(commitments[at % NOTES]) for at in range(count)))

        def round_of(server: Server, seconds: float = SECONDS) -> Samples:
            with metering(server) as meter:
                done = send_requests(
                    server.port, requests, connections=CONNECTIONS, seconds=seconds
                )
            cpu = rate_and_cpu("status", done, meter)
            return {"status.cpu": cpu["status.cpu"]}

        with serving_home(home, port=port, log=folder / "server.log") as desk:
            whole = ask_raw(desk.server.port, get(commitments[0]))
            _require_signed(home, whole)
            answer = folder / "answer"
            answer.write_bytes(whole)
            round_of(desk.server, _WARM_UP_S)
            floor_port = free_port()
            command = python("floors.ticket", floor_port, answer)
            with serving(command, port=floor_port, log=folder / "floor.log") as floor:
                yield Contest(
                    lambda: round_of(desk.server), lambda: round_of(floor), clock_error.notes()
                )


@contextlib.contextmanager
def _open_alone() -> Iterator[Contest]:
    with work_folder() as folder:
        port, home = free_port(), folder / "server"
        tickets, reads = folder / "tickets", folder / "reads"
        make_home(home, port=port)
        write_requests(reads, map(get, islice(cycle(make_notes(home)), ALONE)))

        def alone(server: Server, file: Path, count: int) -> Samples:
            with metering(server) as meter:
                done = send_alone(server.port, file, seconds=SECONDS)
            return {"status.ten": Sample(count * meter.cpu_s / done.answered * _US)}

        def ticket(desk: Desk) -> Samples:
            bodies = (ticket_body(desk.terms_hash) for _ in range(ALONE))
            write_requests(tickets, (post(desk.path, MSGPACK, body) for body in bodies))
            return alone(desk.server, tickets, 1)

        # Two servers: what follows a ticket, its row and its tile, is no part of reading.
        (folder / "tickets-server").mkdir()
        with (
            serving_home(home, port=port, log=folder / "server.log") as desk,
            serving_tickets(folder / "tickets-server") as other,
        ):
            alone(desk.server, reads, TEN)
            ticket(other)
            yield Contest(
                lambda: alone(desk.server, reads, TEN), lambda: ticket(other), clock_error.notes()
            )


@contextlib.contextmanager
def _open_look() -> Iterator[Contest]:
    with work_folder() as folder:
        port, home, requests = free_port(), folder / "server", folder / "requests"
        make_home(home, port=port)
        commitments = make_notes(home)[:LOOKERS]

        def round_of(server: Server) -> Samples:
            with metering(server) as meter:
                done = send_alone(server.port, requests, seconds=SECONDS, each=2)
            return {"status.look": Sample(2 * meter.cpu_s / done.answered * _US)}

        with serving_home(home, port=port, log=folder / "server.log") as desk:
            paths = [
                routes.STATUS.path(call=CALL, commitment=format_commitment(one))
                for one in commitments
            ]
            who = ask_for(routes.DISCOVERY.path(), ask_raw(port, ask_for(routes.DISCOVERY.path())))
            looks = [[who, ask_for(path, ask_raw(port, ask_for(path)))] for path in paths]
            write_requests(requests, chain.from_iterable(islice(cycle(looks), ALONE)))
            answer, floor_port = folder / "answer", free_port()
            answer.write_bytes(ask_raw(port, get(commitments[0])))
            round_of(desk.server)
            command = python("floors.ticket", floor_port, answer)
            with serving(command, port=floor_port, log=folder / "floor.log") as floor:
                yield Contest(
                    lambda: round_of(desk.server), lambda: round_of(floor), clock_error.notes()
                )


CASES: Final = (
    Case("ticket", (Measure("status.cpu", "us/read", is_more_better=False),), _open),
    Case(
        "ticket",
        (Measure("status.ten", "us/10 reads", is_more_better=False, goal=1.0),),
        _open_alone,
    ),
    Case("ticket", (Measure("status.look", "us/look", is_more_better=False),), _open_look),
)
