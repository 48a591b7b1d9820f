"""A listening socket whose connections a ``Poller`` reads, and their transports.

A connection stays here as long as its requests are quick. With the first that is not, the event
loop takes over its socket, and the ordinary server has a transport of the library's.

Source: docs/decisions/0030-connections-read-in-bulk.md.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

from bistro.daemon import logs, supervise
from bistro.daemon.direct import Line, Poller

_ACCEPTED_AT_ONCE: Final = 256
"""Connections that are taken before others are read again."""

_PAUSE_S: Final = 1.0
"""How long none is taken where the system has no room for more."""

_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = logs.get_logger("http")


class PolledProtocol(Line, asyncio.Protocol):
    """The protocol of a connection that may be polled, and is a line therefore.

    Attributes:
        polled: Its transport while it is polled.
    """

    __slots__ = ("polled",)

    def __init__(self) -> None:
        super().__init__()
        self.polled: PolledTransport | None = None


class PolledTransport(asyncio.Transport):
    """The transport of one line, until it is closed or handed over.

    Args:
        house: Where the line lives.
        protocol: Told what happens; the line.
        connection: Its socket, which never blocks.
        peer: The address at its other end.
    """

    __slots__ = ("_house", "_is_closing", "_is_reading", "_peer", "_protocol", "_socket", "_unsent")

    def __init__(
        self,
        house: PolledListener,
        protocol: PolledProtocol,
        connection: socket.socket,
        peer: object,
    ) -> None:
        super().__init__()
        self._house = house
        self._protocol = protocol
        self._socket = connection
        self._peer = peer
        self._unsent = bytearray()
        self._is_reading = True
        self._is_closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - as asyncio
        """``peername`` and ``socket``."""
        return {"peername": self._peer, "socket": self._socket}.get(name, default)

    def is_closing(self) -> bool:
        """Whether nothing is read any more."""
        return self._is_closing

    def pause_reading(self) -> None:
        """Leave what comes to the kernel."""
        self._watch(is_reading=False)

    def resume_reading(self) -> None:
        """Read again."""
        self._watch(is_reading=True)

    def _watch(self, *, is_reading: bool) -> None:
        self._is_reading = is_reading and not self._is_closing
        if self._protocol.fd >= 0:
            self._house.poller.watch(self._protocol, self._is_reading, bool(self._unsent))

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send now, or what the socket does not take as soon as it does.

        The protocol hears of the latter at once, so what waits here is one answer at most.
        """
        if self._protocol.fd < 0 or self._is_closing:
            return
        if not self._unsent:
            data = memoryview(data)[self._send(data) :]
        if len(data):
            is_first = not self._unsent
            self._unsent += data
            if is_first and self._protocol.fd >= 0:
                self._watch(is_reading=self._is_reading)
                self._protocol.pause_writing()

    def _send(self, data: bytes | bytearray | memoryview[Any]) -> int:
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as exc:
            self.end(exc)
            return len(data)

    def drain(self) -> None:
        """The socket takes bytes again."""
        del self._unsent[: self._send(self._unsent)]
        if self._unsent or self._protocol.fd < 0:
            return
        if self._is_closing:
            self.end(None)
        else:
            self._watch(is_reading=self._is_reading)
            self._protocol.resume_writing()

    def close(self) -> None:
        """Read no more, send what waits, and close."""
        self._is_closing = True
        if self._unsent:
            self._watch(is_reading=False)
        else:
            self.end(None)

    def abort(self) -> None:
        """Close at once."""
        self.end(None)

    def end(self, exc: Exception | None) -> None:
        """Close at once; the protocol hears why, a moment later."""
        self._is_closing = True
        if self._protocol.fd >= 0:
            self._unsent.clear()
            self._house.poller.remove(self._protocol)
            asyncio.get_running_loop().call_soon(self.lose, exc)

    def lose(self, exc: Exception | None) -> None:
        """It is not polled any more: the protocol hears so, and the socket is closed."""
        self._protocol.polled = None
        try:
            self._protocol.connection_lost(exc)
        finally:
            self._socket.close()
            self._house.leave()

    def hand_over(self) -> None:
        """Let the event loop take over; it calls ``connection_made`` with its own transport."""
        self._house.poller.remove(self._protocol)
        self._house.hand_over(self)

    async def move(self) -> None:
        """Do so; where that fails the connection is lost."""
        loop = asyncio.get_running_loop()
        self._protocol.polled = None
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: self._protocol, self._socket)
        except OSError as exc:
            self.lose(exc)
            return
        except asyncio.CancelledError:
            self.lose(None)
            raise
        self._house.leave()
        if self._is_closing:
            transport.abort()


class PolledListener:
    """Takes connections from a listening socket.

    Args:
        listener: Where they come in.
        poller: Reads them.
        make: Makes the protocol of a connection.
    """

    def __init__(
        self, listener: socket.socket, poller: Poller, make: Callable[[], PolledProtocol]
    ) -> None:
        self.poller = poller
        self._listener = listener
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._count = 0
        self._is_closed = False
        self._moving: asyncio.Queue[PolledTransport] = asyncio.Queue()
        listener.setblocking(False)
        self._loop.add_reader(listener.fileno(), self._accept)
        self._loop.add_reader(poller.fileno(), self._look)

    def close(self) -> None:
        """Take no more connections; those that are there go on until they are closed."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._listener.fileno())
            self._rest()

    def leave(self) -> None:
        """A connection is not here any more."""
        self._count -= 1
        self._rest()

    def _rest(self) -> None:
        if self._is_closed and not self._count:
            self._loop.remove_reader(self.poller.fileno())
            self.poller.close()

    def hand_over(self, transport: PolledTransport) -> None:
        """Have a connection moved to the event loop."""
        self._moving.put_nowait(transport)

    async def run(self) -> None:
        """Move connections until cancelled."""
        try:
            async with supervise.task_group() as group:
                while True:
                    group.create_task((await self._moving.get()).move())
        finally:
            while not self._moving.empty():
                self._moving.get_nowait().lose(None)

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as exc:
                if exc.errno not in _NO_ROOM:
                    raise
                self._pause(exc)
                return
            self._enter(connection, peer)

    def _pause(self, exc: OSError) -> None:
        _log.warning("connections_paused", reason=os.strerror(exc.errno or 0))
        self._loop.remove_reader(self._listener.fileno())
        self._loop.call_later(_PAUSE_S, self._resume)

    def _resume(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _enter(self, connection: socket.socket, peer: object) -> None:
        connection.setblocking(False)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        protocol = self._make()
        transport = protocol.polled = PolledTransport(self, protocol, connection, peer)
        protocol.fd = connection.fileno()
        self.poller.add(protocol)
        self._count += 1
        protocol.connection_made(transport)

    def _look(self) -> None:
        self._tell_each(iter(self.poller.receive(self._loop.time())))

    def _tell_each(self, told: Iterator[tuple[PolledProtocol, bytes | int | None]]) -> None:
        transport: PolledTransport | None = None
        try:
            for protocol, what in told:
                transport = protocol.polled
                # It may have been closed while others were told.
                if transport is not None and protocol.fd >= 0:
                    _tell(protocol, transport, what)
            transport = None
        finally:
            if transport is not None:  # one failed and ends; the others are told
                transport.abort()
                self._loop.call_soon(self._tell_each, told)


def _tell(protocol: PolledProtocol, transport: PolledTransport, what: bytes | int | None) -> None:
    if what is None:
        transport.drain()
    elif isinstance(what, int):
        transport.end(OSError(what, os.strerror(what)))
    elif what:
        protocol.data_received(what)
    elif not protocol.eof_received():
        transport.close()
