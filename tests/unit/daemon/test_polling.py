"""Connections that a poller reads: what repeats joins a burst, all else goes its ordinary way."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bistro.daemon import listening, polling
from bistro.daemon.bursts import Bodies
from bistro.daemon.direct import IS_COMPILED
from bistro.errors import BistroError
from tests.support.quick_site import Site, quick_site, request, until

pytestmark = pytest.mark.skipif(not IS_COMPILED, reason="bistro.daemon._direct was not compiled")

LARGE = b"l" * 8_000_000
"""More than the buffers of both ends of a connection take."""


RESET = struct.pack("ii", 1, 0)
"""Linger for no time: closing resets the connection."""

RESET = struct.pack("ii", 1, 0)
"""Linger for no time: closing resets the connection."""


@contextlib.asynccontextmanager
async def polled_and_not(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Site, Site]]:
    async with contextlib.AsyncExitStack() as stack:
        polled = await stack.enter_async_context(quick_site())
        monkeypatch.setattr(listening, "new_poller", lambda: None)
        yield polled, await stack.enter_async_context(quick_site())


PIECES = st.lists(
    st.sampled_from(
        [
            request(b"whole 1"),
            request(b"whole 2"),
            request(b"long request, not gathered"),
            request(b"another call", line="POST /calls/autumn/tickets HTTP/1.1"),
            request(b"ordinary", Expect="100-continue"),
        ]
    ),
    min_size=1,
    max_size=6,
)


@given(asked=PIECES, cuts=st.lists(st.integers(1, 400), max_size=8))
@settings(deadline=None, max_examples=60)
def test_a_poller_answers_as_the_event_loop_does(asked: list[bytes], cuts: list[int]) -> None:
    """Any requests, cut anywhere: the same statuses and bodies, and the same end."""

    async def conversation(site: Site) -> list[tuple[int, bytes]]:
        whole = b"".join(asked)
        told: list[tuple[int, bytes]] = []
        begin = 0
        async with await site.connect() as line:
            for size in [*cuts, len(whole)]:
                line.send(whole[begin : begin + size])
                begin += size
                await asyncio.sleep(0)
            async with asyncio.timeout(5):
                for _ in asked:
                    status, _, body = await line.answer()
                    told.append((status, body if status < 300 else b""))
        return told

    async def both() -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            async with polled_and_not(monkeypatch) as (polled, unpolled):
                assert await conversation(polled) == await conversation(unpolled)

    asyncio.run(both())


async def test_an_answer_that_nobody_reads_waits_and_is_completed() -> None:
    """No other request of the connection is begun meanwhile; others are answered."""
    async with quick_site() as site, await site.connect() as slow, await site.connect() as other:
        slow.send(request(b"large.."))
        site.hall.is_silent = True
        await until(lambda: len(site.hall.bursts) == 1)
        burst = site.hall.bursts[0][1]
        burst.tell_all(range(1), Bodies([LARGE]))
        site.hall.is_silent = False
        slow.send(request(b"another"))
        assert (await other.ask(request(b"present")))[2] == b"together tneserp"
        assert len(site.hall.bursts) == 2
        assert (await slow.answer())[2] == LARGE
        assert (await slow.answer())[2] == b"together rehtona"


async def test_an_answer_is_completed_before_its_connection_moves() -> None:
    """A request for the ordinary server waits behind an answer that nobody has read yet."""
    async with quick_site() as site, await site.connect() as slow:
        site.hall.is_silent = True
        slow.send(request(b"large.."))
        await until(lambda: len(site.hall.bursts) == 1)
        site.hall.bursts[0][1].tell_all(range(1), Bodies([LARGE]))
        slow.send(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        async with await site.connect() as other:
            assert (await other.ask(request(b"not gathered")))[2].startswith(b"quick")
        assert (await slow.answer())[2] == LARGE
        assert (await slow.answer())[2] == b"ok\n"


async def test_who_resets_a_connection_waits_no_more() -> None:
    """Its place in the burst is empty, and the listener goes on."""
    async with quick_site() as site:
        site.hall.is_silent = True
        client = socket.create_connection(("127.0.0.1", site.port))
        client.sendall(request(b"waiting"))
        await until(lambda: bool(site.hall.bursts))
        burst = site.hall.bursts[0][1]
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        await until(lambda: burst.guests == [None])
        site.hall.is_silent = False
        assert (await site.ask(request(b"another")))[2] == b"together rehtona"


async def test_a_listener_without_room_for_another_file_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes the connection when there is room again."""
    monkeypatch.setattr(polling, "_PAUSE_S", 0.01)
    refusals = [errno.EMFILE, errno.ECONNABORTED, errno.ENFILE]

    class Full(socket.socket):
        def accept(self) -> tuple[socket.socket, Any]:
            if refusals:
                raise OSError(refusals.pop(), "no room")
            return super().accept()

    bind = listening.bind_tcp

    def bind_full(**where: Any) -> socket.socket:
        bound = bind(**where)
        return Full(fileno=bound.detach())

    monkeypatch.setattr("tests.support.quick_site.bind_tcp", bind_full)
    async with quick_site() as site:
        assert (await site.ask(request(b"present")))[2] == b"together tneserp"
    assert not refusals


async def test_a_connection_that_fails_in_python_ends_alone() -> None:
    """The event loop hears of it; others are answered."""
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    async with quick_site() as site, await site.connect() as broken:
        site.desk.error = cast("BistroError", RuntimeError("a fault of ours"))
        broken.send(request(b"not gathered"))
        assert await broken.ended()
        assert (await site.ask(request(b"present")))[2] == b"together tneserp"
    assert [type(one["exception"]) for one in heard] == [RuntimeError]


async def test_connections_that_move_to_the_event_loop_as_it_stops_are_closed() -> None:
    """Whether it was answered still or not, nobody waits for what does not come."""
    async with contextlib.AsyncExitStack() as stack:
        async with quick_site() as site:
            lines = [await stack.enter_async_context(await site.connect()) for _ in range(20)]
            for line in lines:
                line.send(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        for line in lines:
            with contextlib.suppress(asyncio.IncompleteReadError):
                assert (await line.answer())[0] == 200
            assert await line.ended()
