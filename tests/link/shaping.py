"""A line between a filer and everybody else: so many bits a second, so many milliseconds away.

A proxy for TCP on loopback. All connections share one line with a rate in each direction; what
has crossed arrives half a round trip later. A new connection costs a round trip before its
first byte crosses, as the handshake does. Nothing is lost on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

PIECE: Final = 4_096
_BITS: Final = 8
_QUEUED: Final = 64


@dataclass
class Line:
    """One direction: bytes take their turns.

    Attributes:
        bits_per_s: Of all connections together.
        delay_s: From when a byte has left until it arrives.
        sent: Bytes that have crossed.
    """

    bits_per_s: int
    delay_s: float
    sent: int = 0
    _free_at: float = 0.0

    def depart(self, size: int) -> float:
        """When the last of ``size`` bytes leaves, which is when the next ones may begin."""
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + size * _BITS / self.bits_per_s
        self.sent += size
        return self._free_at


@dataclass
class Shaper:
    """A proxy to one port; obtained from ``shaped``.

    Attributes:
        port: Where it listens.
        up: From the filer.
        down: To the filer.
    """

    target: int
    up: Line
    down: Line
    port: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection begins."""
        task = asyncio.ensure_future(self._join(reader, writer))  # noqa: TID251 - ended in close
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            await asyncio.sleep(self.up.delay_s + self.down.delay_s)
            away = await asyncio.open_connection("127.0.0.1", self.target)
            ends.append(away[1])
            async with asyncio.TaskGroup() as group:
                group.create_task(_carry(reader, away[1], self.up))
                group.create_task(_carry(away[0], writer, self.down))
        except* (ConnectionError, asyncio.IncompleteReadError):
            pass  # whoever hung up has what it needs
        finally:
            for end in ends:
                end.close()
            with contextlib.suppress(ConnectionError):
                for end in ends:
                    await end.wait_closed()

    async def close(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: Line) -> None:
    """Bytes of one direction, in order, each at its time."""
    loop = asyncio.get_running_loop()
    arriving: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED)

    async def deliver() -> None:
        while True:
            at, data = await arriving.get()
            await asyncio.sleep(max(0.0, at - loop.time()))
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

    async with asyncio.TaskGroup() as group:
        group.create_task(deliver())
        while data := await reader.read(PIECE):
            leaves_at = line.depart(len(data))
            await arriving.put((leaves_at + line.delay_s, data))
            # As a full socket does: no more is taken than the line carries.
            await asyncio.sleep(max(0.0, leaves_at - loop.time()))
        await arriving.put((loop.time() + line.delay_s, b""))


@contextlib.asynccontextmanager
async def shaped(
    target: int, *, bits_per_s: int, round_trip_s: float, port: int = 0
) -> AsyncIterator[Shaper]:
    """A line to a loopback port, for as long as the block."""
    up, down = (Line(bits_per_s, round_trip_s / 2) for _ in range(2))
    shaper = Shaper(target, up, down)
    server = await asyncio.start_server(shaper.accept, "127.0.0.1", port)
    shaper.port = server.sockets[0].getsockname()[1]
    try:
        yield shaper
    finally:
        server.close()
        await shaper.close()
