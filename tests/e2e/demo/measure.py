"""Measures bytes: a counting TCP proxy in front of each daemon, as a network's meter would be.

A gate forwards bytes as they are and counts them in tenths of a second. It reads request heads
in passing, to tell a filer's connection from the collector's, and to know what is under way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from bistro.clock import Clock
from bistro.instant import UnixMillis
from tests.e2e.demo.following import Request, RequestReader

BIN_MS: Final = 100
_PIECE: Final = 131_072
_COLLECTOR_PATHS: Final = ("/staged", "/batches", "/releases")


class Meter:
    """Bytes of each channel in bins of ``BIN_MS``."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._bins: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def count(self, channel: str, size: int) -> None:
        """Count bytes that pass now."""
        self._bins[channel][self._clock.now() // BIN_MS] += size

    def total(self, channel: str, *, until: UnixMillis | None = None) -> int:
        """All bytes of a channel, or those up to a moment, good to one bin."""
        bins = self._bins[channel]
        if until is None:
            return bins.total()
        return sum(size for place, size in bins.items() if place <= until // BIN_MS)

    def rates(self, *channels: str, begin: UnixMillis, end: UnixMillis, step_ms: int) -> list[int]:
        """Bytes a second of all ``channels`` together, for each step from ``begin``."""
        steps = [0] * -(-(end - begin) // step_ms)
        for channel in channels:
            for place, size in self._bins[channel].items():
                step = (place * BIN_MS - begin) // step_ms
                if 0 <= step < len(steps):
                    steps[step] += size
        return [size * 1_000 // step_ms for size in steps]


Watch = Callable[[Request], None]


@dataclass(slots=True)
class Gate:
    """The proxy in front of one daemon.

    Attributes:
        name: Of the daemon; bytes towards it are counted on this channel.
        meter: Where they are counted.
        port: Where others reach the daemon, once it is open.
        target: The daemon's own port; connections are dropped while it is None.
        requests: Every request that passed, in order.
        watch: Called with a request whenever bytes of it were forwarded.
        collected_on: The channel of bytes from it to the collector, ``<name>/collected``.
    """

    name: str
    meter: Meter
    port: int = 0
    target: int | None = None
    requests: list[Request] = field(default_factory=list)
    watch: Watch | None = None
    collected_on: str = ""
    _served: set[asyncio.Task[None] | None] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.collected_on = self.collected_on or f"{self.name}/collected"

    @property
    def url(self) -> str:
        """The base URL that others use."""
        return f"http://127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Gate]:
        """Listen for as long as the block lasts."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_PIECE)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            served = [task for task in self._served if task is not None]
            for task in served:
                task.cancel()
            if served:
                await asyncio.wait(served)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._served.add(task)
        # Cancelled only when the gate closes: then nobody is to hear of it.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            try:
                if self.target is not None:
                    there = await asyncio.open_connection("127.0.0.1", self.target, limit=_PIECE)
                    await self._join(reader, writer, *there)
            finally:
                self._served.discard(task)
                await _drop(writer)

    async def _join(
        self,
        near_in: asyncio.StreamReader,
        near_out: asyncio.StreamWriter,
        far_in: asyncio.StreamReader,
        far_out: asyncio.StreamWriter,
    ) -> None:
        """Forward both ways until either side ends."""
        reader = RequestReader()
        ways = {
            asyncio.ensure_future(self._up(near_in, far_out, reader)),  # noqa: TID251 - ended below
            asyncio.ensure_future(self._down(far_in, near_out, reader)),  # noqa: TID251
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            await _drop(far_out)
        for way in ways:
            if not way.cancelled() and isinstance(way.exception(), ValueError):
                way.result()

    async def _up(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, reader: RequestReader
    ) -> None:
        while piece := await source.read(_PIECE):
            self.requests += reader.feed(piece)
            sink.write(piece)
            self.meter.count(self.name, len(piece))
            await sink.drain()
            if self.watch is not None and reader.current is not None:
                self.watch(reader.current)

    async def _down(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, reader: RequestReader
    ) -> None:
        while piece := await source.read(_PIECE):
            sink.write(piece)
            if reader.current is not None and reader.current.path.startswith(_COLLECTOR_PATHS):
                self.meter.count(self.collected_on, len(piece))
            await sink.drain()


async def _drop(writer: asyncio.StreamWriter) -> None:
    """End a connection at once."""
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@dataclass(frozen=True, slots=True)
class Transfer:
    """Bytes that flow evenly from one moment to another."""

    begin: UnixMillis
    end: UnixMillis
    size: int


def modelled_rates(
    transfers: list[Transfer], *, begin: UnixMillis, end: UnixMillis, step_ms: int
) -> list[int]:
    """Bytes a second that ``transfers`` give together, for each step from ``begin``."""
    steps = [0.0] * -(-(end - begin) // step_ms)
    for one in transfers:
        length = max(1, one.end - one.begin)
        for step in range(len(steps)):
            left = max(one.begin, begin + step * step_ms)
            right = min(one.begin + length, begin + (step + 1) * step_ms)
            if right > left:
                steps[step] += one.size * (right - left) / length
    return [int(size * 1_000 / step_ms) for size in steps]
