<<<<<<< ours
"""``status.cpu``: what a read of a signed status costs a real server, beside a fixed answer.

The notes are those that the server's own key signs, in the files where it looks for them; each
request asks for another one. Filers ask seldom and everybody for his own, so no answer is known
to whoever asks, and none is asked for twice in a row.
"""
=======
"""``ticket.status``: what ten reads of a status cost, beside the ticket of the filing."""
>>>>>>> theirs

from __future__ import annotations

import contextlib
import secrets
<<<<<<< ours
=======
import shutil
>>>>>>> theirs
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bistro.api import routes
from bistro.clock import SystemClock
<<<<<<< ours
from bistro.crypto.signing import Note, verify_note
from bistro.ids import format_commitment
from bistro.wire.status import Status
=======
from bistro.wire.status import Status, verify_status
>>>>>>> theirs
from bistro_server.services.calls import CallRegistry
from bistro_server.services.folder import ServerFolder
from bistro_server.store.status_files import StatusFiles
from tests.bench import clock_error
<<<<<<< ours
from tests.bench.desk import CALL, make_home, serving_home
from tests.bench.loads.requests import write_requests
from tests.bench.loads.sending import send_requests
from tests.bench.measuring import Case, Contest, Measure, NotMeasured, Samples
from tests.bench.processes import Server, free_port, metering, python, rate_and_cpu, serving
from tests.bench.workplace import ask_raw, work_folder

CONNECTIONS: Final = 64
SECONDS: Final = 3.0
NOTES: Final = 4_000
_RATE: Final = 100_000
"""More requests a second than one core answers."""
_WARM_UP_S: Final = 1.0


def get(commitment: bytes) -> bytes:
    """The request for one status."""
    path = routes.STATUS.path(call=CALL, commitment=format_commitment(commitment))
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


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
=======
from tests.bench.desk import CALL, serving_tickets
from tests.bench.loads import Load
from tests.bench.loads.requests import post, write_requests
from tests.bench.loads.sending import send_requests
from tests.bench.loads.tickets import TicketLoad
from tests.bench.measuring import Case, Contest, Measure, Sample, Samples
from tests.bench.processes import Server, metering, rate_and_cpu, run
from tests.bench.workplace import ask, work_folder

READS: Final = 10
"""Of a filing, at most: from statistics."""
NOTES: Final = 256
CONNECTIONS: Final = 64
SECONDS: Final = 2.0
_SCRIPT: Final = Path(__file__).parents[1] / "loads" / "status.lua"
_RATE: Final = 100_000
"""More reads a second than the raw client can send."""


def write_statuses(home: Path, count: int) -> list[str]:
    """Signed statuses as the server publishes them; where they are read."""
    folder = ServerFolder(home)
    call = CallRegistry(folder).load(CALL)
    now = SystemClock().now()
    notes = {}
    for index in range(count):
        status = Status(
            origin=call.origin,
            commitment=secrets.token_bytes(32),
>>>>>>> theirs
            state="staged",
            ticketed_at=now,
            index=index,
            updated_at=now,
            fragments=(0, 1, 2),
            needed=2,
<<<<<<< ours
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
=======
        )
        notes[status.commitment] = status.sign(call.status_key)
    StatusFiles(folder.status).write_all(CALL, notes)
    return [routes.STATUS.path(call=CALL, commitment=one.hex()) for one in notes]


def _read(server: Server, paths: list[str], folder: Path) -> Load:
    if wrk := shutil.which("wrk"):
        options = ["-t1", f"-c{CONNECTIONS}", f"-d{SECONDS:.0f}s", "-s", str(_SCRIPT)]
        return Load.parse(run([wrk, *options, server.url, "--", *paths]))
    file = folder / "reads"
    requests = [post(path, {}).replace(b"POST", b"GET", 1) for path in paths]
    write_requests(file, (requests[at % NOTES] for at in range(int(_RATE * SECONDS))))
    return send_requests(server.port, file, connections=CONNECTIONS, seconds=SECONDS)
>>>>>>> theirs


@contextlib.contextmanager
def _open() -> Iterator[Contest]:
<<<<<<< ours
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


CASES: Final = (Case("ticket", (Measure("status.cpu", "us/read", is_more_better=False),), _open),)
=======
    with work_folder() as folder, serving_tickets(folder) as desk:
        home = folder / "server"
        paths = write_statuses(home, NOTES)
        key = CallRegistry(ServerFolder(home)).load(CALL).terms.keys.status
        verify_status(ask(desk.server.url + paths[0]), key)
        tickets = TicketLoad(desk.path, desk.terms_hash, CONNECTIONS, SECONDS, folder)

        def floor_round() -> Samples:
            loads: list[Load] = []
            with desk.counting(loads), metering(desk.server) as meter:
                loads.append(tickets.send(desk.server.port))
            cost = rate_and_cpu("ticket", loads[0], meter)["ticket.cpu"].value
            return {"ticket.status": Sample(cost)}

        def our_round() -> Samples:
            with metering(desk.server) as meter:
                done = _read(desk.server, paths, folder)
            cost = rate_and_cpu("ticket", done, meter)["ticket.cpu"].value
            return {"ticket.status": Sample(READS * cost)}

        yield Contest(our_round, floor_round, clock_error.notes())


CASES: Final = (
    Case(
        "ticket",
        (Measure("ticket.status", "us/filing", goal=1.0, is_more_better=False),),
        _open,
    ),
)
>>>>>>> theirs
