"""``ticket.rfc3161``: time stamps of a real ``bistro-server serve``, beside bare signatures."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import rfc3161_client
from cryptography import x509

from bistro.api import media, routes
from tests.bench import clock_error
from tests.bench.loads import Load
from tests.bench.loads.requests import post, write_requests
from tests.bench.loads.sending import send_requests
from tests.bench.measuring import Case, Contest, Measure, NotMeasured, Sample, Samples
from tests.bench.processes import (
    Meter,
    Server,
    free_port,
    metering,
    program,
    python,
    run,
    scaled,
    serving,
)
from tests.bench.workplace import ask, ask_raw, work_folder

CONNECTIONS: Final = 64
SECONDS: Final = 2.5
_RATE: Final = 60_000
"""More requests a second than one core signs."""
_WARM_UP_S: Final = 1.0
_HEADERS: Final = {"Content-Type": media.TIMESTAMP_QUERY}
_GRANTED: Final = re.compile(
    rb'^bistro_server_timestamps_total\{result="granted"\} ([\d.e+]+)$', re.MULTILINE
)
# SHA-256 without parameters and a nonce of eight bytes: what usual clients send.
_IMPRINT: Final = bytes.fromhex("302f300b0609608648016503040201") + b"\x04\x20"


@dataclass(frozen=True, slots=True)
class Authority:
    """The endpoint of a running server, and the certificate that one trusts."""

    server: Server
    certificate: x509.Certificate

    def stamp(self) -> None:
        """Ask for a token, which a foreign verifier must accept."""
        data = secrets.token_bytes(32)
        request = (
            rfc3161_client.TimestampRequestBuilder().data(data).cert_request(cert_request=False)
        ).build()
        url = self.server.url + routes.TIMESTAMPS.path()
        body = ask(url, method="POST", body=request.as_bytes(), headers=_HEADERS)
        verifier = (
            rfc3161_client.VerifierBuilder.from_request(request)
            .add_root_certificate(self.certificate)
            .tsa_certificate(self.certificate)
            .build()
        )
        verifier.verify_message(rfc3161_client.decode_timestamp_response(body), data)

    def granted_count(self) -> int:
        """Tokens so far: a refusal has status 200, too."""
        found = _GRANTED.search(ask(self.server.url + routes.METRICS.path()))
        return 0 if found is None else int(float(found[1]))


@contextlib.contextmanager
def serving_time_stamps(folder: Path) -> Iterator[Authority]:
    """A new server without calls, in its own process."""
    port, home = free_port(), folder / "server"
    environment = clock_error.environment("BISTRO_SERVER")
    run(program("bistro-server", "init", home, "--name", "bench.example", "--port", port))
    command = program("bistro-server", "serve", "--dir", home)
    log = folder / "server.log"
    with serving(command, port=port, log=log, environment=environment) as server:
        certificate = x509.load_pem_x509_certificate((home / "tsa.crt").read_bytes())
        yield Authority(server, certificate)


def _request() -> bytes:
    nonce = b"\x02\x08" + bytes([0x40 | secrets.randbelow(64)]) + secrets.token_bytes(7)
    content = b"\x02\x01\x01" + _IMPRINT + secrets.token_bytes(32) + nonce
    return post(routes.TIMESTAMPS.path(), _HEADERS, bytes((0x30, len(content))) + content)


def _send(server: Server, requests: Path, *, seconds: float = SECONDS) -> tuple[Load, Meter]:
    with metering(server) as meter:
        done = send_requests(server.port, requests, connections=CONNECTIONS, seconds=seconds)
    return done, meter


def _samples(done: Load, meter: Meter) -> Samples:
    busy = meter.busy if done.busy is None else done.busy
    return {"ticket.rfc3161": Sample(done.rate, busy, own=meter.cpu_s / done.seconds)}


@contextlib.contextmanager
def _open() -> Iterator[Contest]:
    with work_folder() as folder, serving_time_stamps(folder) as authority:
        answer, requests = folder / "answer", folder / "requests"
        answer.write_bytes(ask_raw(authority.server.port, _request()))
        write_requests(requests, (_request() for _ in range(int(_RATE * SECONDS))))
        port = free_port()
        command = python("floors.timestamp", port, answer)
        with serving(command, port=port, log=folder / "floor.log") as floor:

            def floor_round() -> Samples:
                found = _samples(*_send(floor, requests))
                return {name: scaled(sample) for name, sample in found.items()}

            def our_round() -> Samples:
                before = authority.granted_count()
                done, meter = _send(authority.server, requests)
                granted = authority.granted_count() - before
                if granted < done.answered:
                    raise NotMeasured(f"{done.answered} answers, but only {granted} tokens")
                authority.stamp()
                return _samples(done, meter)

            _send(authority.server, requests, seconds=_WARM_UP_S)
            yield Contest(our_round, floor_round, clock_error.notes())


CASES: Final = (
    Case(
        "ticket",
        (Measure("ticket.rfc3161", "tokens/s", goal=0.6, needs_busy_core=True),),
        _open,
    ),
)
