"""Sends one large body over one connection, straight from a file, and reports.

Run as ``python -m tests.bench.loads.large PORT HEAD FILE CORE [--ca PEM]``; HEAD holds the
request without its body, CORE is the server's; with an authority to trust it speaks TLS.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from pathlib import Path

import click

from tests.bench.proc import core_times

_ANSWER_SIZE = 65_536


def _connect(port: int, ca: Path | None) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    if ca is None:
        return connection
    context = ssl.create_default_context(cafile=ca)
    return context.wrap_socket(connection, server_hostname="localhost")


def send(port: int, head: bytes, file: Path, *, ca: Path | None = None) -> bytes:
    """The answer to the request."""
    with _connect(port, ca) as connection, file.open("rb") as body:
        connection.sendall(head)
        connection.sendfile(body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = connection.recv(_ANSWER_SIZE)
            if not piece:
                break
            answer += piece
        return answer


@click.command()
@click.argument("port", type=int)
@click.argument("head", type=click.Path(path_type=Path, exists=True))
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.argument("core", type=int)
@click.option("--ca", type=click.Path(path_type=Path, exists=True))
def main(port: int, head: Path, file: Path, core: int, ca: Path | None) -> None:
    """Send and report."""
    request = head.read_bytes()
    begun_at, times = time.perf_counter(), core_times([core])
    answer = send(port, request, file, ca=ca)
    seconds = time.perf_counter() - begun_at
    is_good = answer[9:10] == b"2"
    report = {
        "answered": int(is_good),
        "busy": core_times([core]).busy_since(times),
        "failed": int(not is_good),
        "problem": answer[-300:].decode(errors="replace"),
        "seconds": seconds,
    }
    print(json.dumps(report))  # noqa: T201 - the report


if __name__ == "__main__":
    main()
