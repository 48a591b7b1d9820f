"""A client that is alone: one request at a time, each when the one before is answered.

Nothing comes together with anything else at the server, as it is most of the time. Prints the
report that ``Load.parse`` reads; 304 is a good answer as well.

Run as ``python -m tests.bench.loads.alone PORT REQUESTS [--each 2] [--seconds 2]``: with
``--each`` so many requests go over one connection, and the next over a new one.
"""

from __future__ import annotations

import json
import socket
import time
from itertools import islice
from pathlib import Path

import click

from tests.bench.loads.requests import read_requests

_GOOD = (b"HTTP/1.1 200 ", b"HTTP/1.1 304 ")


class Alone:
    """Talks with a server.

    Attributes:
        answered: Requests that got a good answer.
    """

    def __init__(self, port: int) -> None:
        self.answered = 0
        self._port = port

    def visit(self, requests: list[bytes], until_s: float) -> bool:
        """Send requests over a new connection; whether there was time for all.

        Raises:
            OSError: One was not answered.
        """
        with socket.create_connection(("127.0.0.1", self._port), 30) as line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for request in requests:
                if time.perf_counter() > until_s:
                    return False
                line.sendall(request)
                head = _answer(line)
                if not head.startswith(_GOOD):
                    raise ConnectionError(f"expected 200 or 304, found {head[:60]!r}")
                self.answered += 1
        return True


def _answer(line: socket.socket) -> bytes:
    """The head of the next answer, which is read to its end."""
    data = bytearray()
    while (head_size := data.find(b"\r\n\r\n") + 4) < 4:
        data += _piece(line)
    head = bytes(data[:head_size])
    size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
    while len(data) < head_size + size:
        data += _piece(line)
    return head


def _piece(line: socket.socket) -> bytes:
    piece = line.recv(65_536)
    if not piece:
        raise ConnectionError("the server closed the connection")
    return piece


@click.command()
@click.argument("port", type=int)
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.option("--each", type=int, help="Requests of one connection; all, if not given.")
@click.option("--seconds", type=float, default=60.0, help="Begin no request later than that.")
def main(port: int, file: Path, each: int | None, seconds: float) -> None:
    """Send what stands in FILE and report."""
    requests = iter(list(read_requests(file)))
    alone, problem = Alone(port), ""
    began_s = time.perf_counter()
    until_s = began_s + seconds
    try:
        while part := list(islice(requests, each)):
            if not alone.visit(part, until_s):
                break
    except OSError as exc:
        problem = str(exc)
    took_s = time.perf_counter() - began_s
    report = {
        "answered": alone.answered,
        "seconds": took_s,
        "failed": int(bool(problem)),
        "problem": problem,
    }
    print(json.dumps(report))  # noqa: T201 - the report


if __name__ == "__main__":
    main()
