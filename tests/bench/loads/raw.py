"""A client that costs little: sends requests from a file over connections that stay open.

Each connection sends its next request when the last one is answered. What is read of an
answer is its status and length. Prints the report that ``Load.parse`` reads; one answer is
kept in ``sample_file(REQUESTS)``: its receipt where it has one, else its body.

Run as ``python -m tests.bench.loads.raw PORT REQUESTS --connections 64 [--body FILE]``.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import click
import uvloop

from tests.bench.loads.requests import read_requests, sample_file
from tests.bench.proc import core_times

_PROBLEM_LENGTH = 300


class Stock:
    """The requests that are left, and what became of the others."""

    def __init__(
        self, requests: Iterator[bytes], *, body: bytes, seconds: float, core: int
    ) -> None:
        self.body = body
        self.answered = 0
        self.failed = 0
        self.problem = ""
        self.sample = b""
        self._requests = requests
        self._core = core
        self._times = core_times([core])
        self._begun_at = time.perf_counter()
        self._stop_at = self._begun_at + seconds
        self._ended_at = self._begun_at

    def take(self) -> bytes | None:
        """The next request; ``None`` when there are no more, or time is up."""
        if self.failed or time.perf_counter() > self._stop_at:
            return None
        return next(self._requests, None)

    def answer(self, status: bytes, body: bytes) -> None:
        """Count an answer."""
        if status[:1] != b"2":
            self.fail(f"HTTP {status.decode()}: {body[:_PROBLEM_LENGTH]!r}")
            return
        self.answered += 1
        self._ended_at = time.perf_counter()
        if not self.sample:
            self.sample = body

    def fail(self, problem: str) -> None:
        """Count a request that got no good answer."""
        self.failed += 1
        self.problem = self.problem or problem

    def report(self) -> str:
        """What ``Load.parse`` reads."""
        seconds = self._ended_at - self._begun_at
        busy = core_times([self._core]).busy_since(self._times)
        report = {
            "answered": self.answered,
            "seconds": seconds,
            "busy": busy,
            "failed": self.failed,
            "problem": self.problem,
        }
        return json.dumps(report)


class Connection(asyncio.Protocol):
    """One connection; ``done`` is set when it has nothing more to send."""

    def __init__(self, stock: Stock) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._stock = stock
        self._buffer = bytearray()
        self._is_waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=1 << 30)
        self._next()

    def data_received(self, data: bytes) -> None:
        """Take an answer when it is complete; answers without a length are not understood."""
        self._buffer += data
        head_size = self._buffer.find(b"\r\n\r\n") + 4
        if head_size < 4:
            return
        head = bytes(self._buffer[:head_size]).lower()
        size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if len(self._buffer) < head_size + size:
            return
        body = bytes(self._buffer[head_size:])
        if b"bistro-receipt:" in head and not self._stock.sample:
            body = self._header(b"bistro-receipt:")
        self._buffer.clear()
        self._is_waiting = False
        self._stock.answer(head[9:12], body)
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what was not answered."""
        if self._is_waiting:
            self._stock.fail(f"connection lost: {exc}")
        if not self.done.done():
            self.done.set_result(None)

    def _header(self, name: bytes) -> bytes:
        start = bytes(self._buffer).lower().find(name) + len(name)
        return bytes(self._buffer[start:]).partition(b"\r\n")[0].strip()

    def _next(self) -> None:
        request = self._stock.take()
        if request is None:
            self._transport.close()
            return
        self._is_waiting = True
        if self._stock.body:
            self._transport.writelines([request, self._stock.body])
        else:
            self._transport.write(request)


async def _load(port: int, stock: Stock, connections: int) -> None:
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(lambda: Connection(stock), "127.0.0.1", port)
        for _ in range(connections)
    ]
    for _, connection in opened:
        await connection.done


@click.command()
@click.argument("port", type=int)
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.option("--connections", type=int, default=64)
@click.option("--body", type=click.Path(path_type=Path, exists=True))
@click.option("--core", type=int, default=0, help="The server's core, to see whether it is busy.")
@click.option("--seconds", type=float, default=60.0, help="Begin no request later than that.")
def main(
    port: int, file: Path, connections: int, body: Path | None, core: int, seconds: float
) -> None:
    """Send what stands in FILE and report."""
    requests = iter(list(read_requests(file)))
    tail = body.read_bytes() if body else b""
    stock = Stock(requests, body=tail, seconds=seconds, core=core)
    uvloop.run(_load(port, stock, connections))
    sample_file(file).write_bytes(stock.sample)
    print(stock.report())  # noqa: T201 - the report


if __name__ == "__main__":
    main()
