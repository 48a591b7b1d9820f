"""The shaped line: nothing arrives sooner than it may, and everything arrives."""

from __future__ import annotations

import asyncio

from tests.link.shaping import shaped

SIZE = 25_000


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends back what it gets, once it has all."""
    data = await reader.readexactly(SIZE)
    writer.write(data)
    await writer.drain()
    writer.close()


async def test_bytes_take_the_time_of_the_line_and_arrive_whole() -> None:
    """There and back at 1 Mbit/s: 0.2 s each way, the handshake and one round trip of 0.1 s."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    async with shaped(port, bits_per_s=1_000_000, round_trip_s=0.1) as line:
        began = loop.time()
        reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
        sent = bytes(range(250)) * (SIZE // 250)
        writer.write(sent)
        assert await reader.read(-1) == sent
        assert loop.time() - began >= 0.2 + 0.2 + 0.1 + 0.1 - 0.01
        assert (line.up.sent, line.down.sent) == (SIZE, SIZE)
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_connections_share_the_line() -> None:
    """Two at once take as long as one after the other."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()

    async def one(at: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", at)
        writer.write(bytes(SIZE))
        assert await reader.read(-1) == bytes(SIZE)
        writer.close()
        await writer.wait_closed()

    async with shaped(port, bits_per_s=1_000_000, round_trip_s=0.0) as line:
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            group.create_task(one(line.port))
            group.create_task(one(line.port))
        assert loop.time() - began >= 0.4 - 0.01
    server.close()
    await server.wait_closed()
