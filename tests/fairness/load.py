"""An open-loop client: many connections from many addresses, each asking at its own pace.

When a request is to be sent does not depend on answers: one whose connection still waits is
sent later, and its time counts from when it was due. Prints one JSON object.

Run as ``python -m tests.fairness.load PLAN.json``.
"""

from __future__ import annotations

import asyncio
import json
import random  # noqa: TID251 - seeded, and passed in
import secrets
import socket
import sys
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import click
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bistro.api import media
from bistro.wire.admission import Admission
from bistro.wire.ticketing import TicketRequest, TicketRequests
from tests.bench.loads.priority import preempt

START_S: Final = 0.3
"""After everybody is connected, until the first may ask."""

DRAIN_S: Final = 2.0
"""After the last was due, until who has no answer is counted as lost."""

_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length: "
GOOD: Final = 200
_ANSWERS: Final = (b"\x92", b"\x93")
"""How a single answer begins; an array of many begins otherwise."""


@dataclass(frozen=True)
class Plan:
    """Who asks what, and how often.

    Attributes:
        port: Of the server.
        call: Which call.
        terms_hash: Of its terms, hexadecimal.
        addresses: Loopback addresses to ask from.
        connections: From each address.
        rate_per_s: Requests a second of each connection, as a Poisson process.
        seconds: How long.
        filers: Seeds of private keys, one for each address in turn; none: no admissions.
        items: Tickets that a request asks for, as an array if it is more than one.
        is_forged: Whether admissions are for other commitments than they were signed for.
        is_watched: Whether this client's times count: then it comes before others on its core.
        seed: Of the times.
    """

    port: int
    call: str
    terms_hash: str
    addresses: list[str]
    connections: int
    rate_per_s: float
    seconds: float
    filers: list[str] = field(default_factory=list)
    items: int = 1
    is_forged: bool = False
    is_watched: bool = False
    seed: int = 1

    def encode(self) -> str:
        """The text of a file."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Self:
        """The plan in a file."""
        return cls(**json.loads(text))


@dataclass
class Found:
    """What came of it.

    Attributes:
        asked: Requests that were due.
        by_status: Answers by HTTP status.
        by_code: Single answers that were no ticket, by their code.
        took_ms: Of each ticket, from when its request was due.
        late_ms: By how much the slowest request was sent later than due, its connection free.
    """

    asked: int = 0
    by_status: Counter[int] = field(default_factory=Counter)
    by_code: Counter[str] = field(default_factory=Counter)
    took_ms: list[float] = field(default_factory=list)
    late_ms: float = 0.0


class Line(asyncio.Protocol):
    """One connection with its requests, in the order in which they are due."""

    def __init__(self, found: Found, requests: list[tuple[float, bytes]]) -> None:
        self._found = found
        self._loop = asyncio.get_running_loop()
        self._requests = deque(requests)
        self._due: deque[tuple[float, bytes]] = deque()
        self._asked_at: float | None = None
        self._buffer = b""
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the way."""
        self._transport: Any = transport

    def begin(self, at: float) -> None:
        """Ask from this moment on."""
        self._began = at
        self._wait()

    def _wait(self) -> None:
        if self._requests:
            self._loop.call_at(self._began + self._requests[0][0], self._ask)

    def _ask(self) -> None:
        after, data = self._requests.popleft()
        due = self._began + after
        self._found.asked += 1
        if self._asked_at is None:
            self._found.late_ms = max(self._found.late_ms, 1_000 * (self._loop.time() - due))
            self._send(due, data)
        else:
            self._due.append((due, data))
        self._wait()

    def _send(self, due: float, data: bytes) -> None:
        self._asked_at = due
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Count an answer, and send what is due."""
        self._buffer += data
        end = self._buffer.find(_END)
        if end < 0:
            return
        head = self._buffer[:end].lower()
        length = int(head.partition(_LENGTH)[2].partition(b"\r\n")[0])
        if len(self._buffer) < end + len(_END) + length:
            return
        body = self._buffer[end + len(_END) :]
        self._buffer = b""
        self._count(int(head[9:12]), body)
        self._asked_at = None
        if self._due:
            self._send(*self._due.popleft())

    def _count(self, status: int, body: bytes) -> None:
        self._found.by_status[status] += 1
        if status == GOOD and body[1:2] == b"\x00":
            assert self._asked_at is not None
            self._found.took_ms.append(1_000 * (self._loop.time() - self._asked_at))
        elif status == GOOD and body[:1] in _ANSWERS:
            self._found.by_code["refused" if body[1:2] == b"\x01" else _code(body)] += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing that was due is answered any more."""
        del exc
        self._requests.clear()
        self._due.clear()


def _code(body: bytes) -> str:
    """The code in ``[2, code, retry_ms]``."""
    size = body[2] & 0x1F
    return body[3 : 3 + size].decode()


def _times(plan: Plan, chance: random.Random) -> list[float]:
    found, at = [], 0.0
    while (at := at + chance.expovariate(plan.rate_per_s)) < plan.seconds:
        found.append(at)
    return found


def _body(plan: Plan, key: Ed25519PrivateKey | None) -> bytes:
    commitment, terms_hash = secrets.token_bytes(32), bytes.fromhex(plan.terms_hash)
    admission = None
    if key is not None:
        admission = Admission.sign(key, commitment=commitment, terms_hash=terms_hash, slot="main")
    if plan.is_forged:
        commitment = secrets.token_bytes(32)
    if plan.items == 1:
        return TicketRequests((TicketRequest(commitment, terms_hash, admission),)).encode()
    items = tuple(TicketRequest(secrets.token_bytes(32), terms_hash) for _ in range(plan.items))
    return TicketRequests(items, is_bulk=True).encode()


def _request(plan: Plan, key: Ed25519PrivateKey | None) -> bytes:
    body = _body(plan, key)
    return (
        f"POST /calls/{plan.call}/tickets HTTP/1.1\r\nHost: bench\r\n"
        f"Content-Type: {media.MSGPACK}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def key_of(seed: str) -> Ed25519PrivateKey:
    """The private key of a filer who exists for this measurement only."""
    return Ed25519PrivateKey.from_private_bytes(seed.encode().ljust(32, b"."))


async def run(plan: Plan) -> Found:
    """Do it."""
    loop, found, lines = asyncio.get_running_loop(), Found(), []
    chance = random.Random(plan.seed)
    for number, address in enumerate(plan.addresses):
        key = key_of(plan.filers[number % len(plan.filers)]) if plan.filers else None
        for _ in range(plan.connections):
            requests = [(at, _request(plan, key)) for at in _times(plan, chance)]
            made = Line(found, requests)
            socket_ = socket.create_connection(
                ("127.0.0.1", plan.port), source_address=(address, 0)
            )
            socket_.setblocking(False)
            await loop.create_connection(lambda made=made: made, sock=socket_)  # type: ignore[misc]
            lines.append(made)
    click.echo("connected")
    await loop.run_in_executor(None, sys.stdin.readline)  # all begin together
    began = loop.time() + START_S
    for line in lines:
        line.begin(began)
    await asyncio.sleep(START_S + plan.seconds + DRAIN_S)
    return found


if __name__ == "__main__":
    wanted = Plan.decode(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if wanted.is_watched:
        preempt()
    click.echo(json.dumps(vars(uvloop.run(run(wanted)))))
