"""``status.cpu``: what a read of a signed status costs a real server, beside a fixed answer.

The notes are those that the server's own key signs, in the files where it looks for them; each
request asks for another one. Filers ask seldom and everybody for his own, so no answer is known
to whoever asks, and none is asked for twice in a row.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
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
from tests.bench.desk import CALL, make_home, serving_home
from tests.bench.loads.requests import write_requests
from tests.bench.loads.sending import send_requests
from tests.bench.measuring import Case, Contest, Measure, NotMeasured, Samples
from tests.bench.processes import Server, free_port, metering, python, rate_and_cpu, serving
from tests.bench.workplace import ask_raw, work_folder

CONNECTIONS: Final = 64
SECONDS: Final = 2.0
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


CASES: Final = (Case("ticket", (Measure("status.cpu", "us/read", is_more_better=False),), _open),)
