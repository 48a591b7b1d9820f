"""What stands before aiohttp on connections: their bytes are counted before it gets them.

aiohttp reads the first 200 KB of a body before any handler runs that could count them, and one
pass of the event loop may do that for thousands of connections. So bytes wait here for a later
pass, as those of a request that is not whole: when all of these are too many together, the
connections that hold most are closed before aiohttp has seen any of it. Each pass hands over
only so much that handlers keep up, which count what they read (``bistro.daemon.bodies``).

Source: docs/spec/api.md, rules for all routes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from bistro.daemon.unfinished import Unfinished

PASS_SIZE: Final = 2_097_152
"""Bytes after which a pass hands over no more."""


class Passage:
    """The way of all connections of a listener to the ordinary server.

    Args:
        ordinary: Makes that server's protocol for a connection.
        unfinished: Counts what waits.
    """

    def __init__(self, ordinary: Callable[[], asyncio.Protocol], unfinished: Unfinished) -> None:
        self._ordinary = ordinary
        self._unfinished = unfinished
        self._queue: deque[_Passing] = deque()
        self._is_due = False

    def protocol(self) -> asyncio.Protocol:
        """What takes a connection's bytes in place of the ordinary server's."""
        return _Passing(self._ordinary(), self, self._unfinished)

    def enqueue(self, passing: _Passing) -> None:
        """Let one have its turn."""
        self._queue.append(passing)
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._pass_on)

    def _pass_on(self) -> None:
        size = 0
        while self._queue and size < PASS_SIZE:
            size += self._queue.popleft().pass_on()
        self._is_due = bool(self._queue)
        if self._is_due:
            asyncio.get_running_loop().call_soon(self._pass_on)


class _Passing(asyncio.Protocol):
    """Passes one connection's bytes on when it has its turn."""

    def __init__(self, behind: asyncio.Protocol, passage: Passage, unfinished: Unfinished) -> None:
        self._behind = behind
        self._passage = passage
        self._unfinished = unfinished
        self._waiting: list[bytes] = []
        self._size = 0
        self._address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._behind.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self._waiting:
            self._passage.enqueue(self)
        self._waiting.append(data)
        self._size += len(data)
        if not self._transport.is_closing():
            # More is read once these have had their turn, unless who gets them wants no more.
            self._transport.pause_reading()
        self._unfinished.hold(self, self._address, self._size)

    def pass_on(self) -> int:
        """Have the bytes read that wait; how many there were."""
        size, waiting = self._size, self._forget()
        if waiting and not self._transport.is_closing():
            self._transport.resume_reading()
        for data in waiting:
            self._behind.data_received(data)
        return size

    def _forget(self) -> list[bytes]:
        self._unfinished.release(self, self._address)
        waiting, self._waiting, self._size = self._waiting, [], 0
        return waiting

    def give_up(self) -> None:
        """Close the connection: all that waits is too much."""
        self._forget()
        self._transport.abort()

    def eof_received(self) -> bool | None:
        self.pass_on()
        return self._behind.eof_received()

    def pause_writing(self) -> None:
        self._behind.pause_writing()

    def resume_writing(self) -> None:
        self._behind.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        self._behind.connection_lost(exc)
