"""Loads a ticket endpoint: with ``wrk`` where there is one, else with the raw client."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bistro.wire.ticketing import MAX_REQUESTS, TicketRequest, TicketRequests
from tests.bench.loads import Load
from tests.bench.loads.requests import post, write_requests
from tests.bench.loads.sending import send_requests
from tests.bench.processes import run

MSGPACK: Final = {"Content-Type": "application/msgpack"}
_SCRIPT: Final = Path(__file__).with_name("ticket.lua")
_RAW_RATE: Final = 120_000
"""More requests a second than the raw client can send."""


@dataclass(frozen=True, slots=True)
class TicketLoad:
    """Requests of single tickets, all for different commitments.

    Attributes:
        path: Of the endpoint.
        folder: For files of requests.
    """

    path: str
    terms_hash: bytes
    connections: int
    seconds: float
    folder: Path

    @property
    def tool(self) -> str:
        """What sends them."""
        return "wrk" if shutil.which("wrk") else "our raw client (install wrk for more load)"

    def send(self, port: int) -> Load:
        """Load the server on ``port``.

        Raises:
            NotMeasured: A request failed.
        """
        if wrk := shutil.which("wrk"):
            return Load.parse(run(self._wrk(wrk, port)))
        file = self.folder / "tickets"
        write_requests(file, self._requests(int(_RAW_RATE * self.seconds)))
        return send_requests(port, file, connections=self.connections, seconds=self.seconds)

    def _wrk(self, wrk: str, port: int) -> list[str]:
        options = ["-t1", f"-c{self.connections}", f"-d{self.seconds:.0f}s", "-s", str(_SCRIPT)]
        seed = str(secrets.randbits(31))
        url = f"http://127.0.0.1:{port}"
        return [wrk, *options, url, "--", self.path, self.terms_hash.hex(), seed]

    def _requests(self, count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield post(self.path, MSGPACK, ticket_body(self.terms_hash))


def ticket_body(terms_hash: bytes) -> bytes:
    """The request of one ticket for a new commitment."""
    return TicketRequests((TicketRequest(secrets.token_bytes(32), terms_hash),)).encode()


def bulk_body(terms_hash: bytes, count: int = MAX_REQUESTS) -> bytes:
    """The request of ``count`` tickets for new commitments."""
    items = [TicketRequest(secrets.token_bytes(32), terms_hash) for _ in range(count)]
    return TicketRequests(tuple(items), is_bulk=True).encode()
