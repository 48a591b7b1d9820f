"""A connection of a listener: quick requests are answered here, all others by aiohttp.

Every connection begins here. Each request that ``Heads`` recognises is answered here, one at a
time; with the first that is not recognised the connection goes to the ordinary server, with
every byte that was read and not used, and stays there. So one route can be quick while limits
and behaviour of all others remain what they are. TLS lies beneath both.

| what | limit here |
|---|---|
| connection without a request | closed after ``idle_s`` |
| head or body that does not end | closed ``request_s`` after its first byte |
| request without an answer | after ``request_s`` the problem ``unavailable`` |
| answers that nobody reads | no request is begun, so the line above or the first holds |
| bytes sent ahead of answers | reading pauses at 64 KiB |

Source: docs/spec/api.md, rules for all routes.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from bistro.daemon.front import Front, Guest
from bistro.daemon.quick import MAX_HEAD_SIZE, Answer, Pending, QuickHead
from bistro.errors import BistroError, UnavailableError
from bistro.instant import UnixMillis

_END: Final = b"\r\n\r\n"


class _Exchange:
    """One request of a connection, until it is answered."""

    __slots__ = ("_connection", "address", "received_at")

    def __init__(self, connection: Connection, received_at: UnixMillis) -> None:
        self._connection: Connection | None = connection
        self.address = connection.address
        self.received_at = received_at

    def tell(self, answer: Answer) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.answer(answer)

    def forget(self) -> None:
        self._connection = None


class Connection(Guest, asyncio.Protocol):
    """One connection, until it is closed or goes to the ordinary server.

    Args:
        front: What it shares with the others.

    Attributes:
        address: The peer's, for fairness.
    """

    __slots__ = (
        "_asked",
        "_buffer",
        "_exchange",
        "_front",
        "_is_full",
        "_pending",
        "_received_at",
        "_since_s",
        "_transport",
        "address",
    )

    def __init__(self, front: Front) -> None:
        self.address = ""
        self._front = front
        self._buffer = b""
        self._asked: QuickHead | None = None  # its head was read; its body, perhaps
        self._exchange: _Exchange | None = None
        self._pending: Pending | None = None
        self._is_full = False
        self._received_at = UnixMillis(0)
        self._since_s = front.now_s()  # the request began to arrive, or the last answer went

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._front.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take back what nobody waits for any more."""
        del exc
        self._front.leave(self)
        if self._exchange is not None:
            self._exchange.forget()
        self._take_back()

    def data_received(self, data: bytes) -> None:
        """Take bytes; what comes behind an unanswered request waits."""
        if not self._buffer:
            self._buffer = data
            if self._exchange is None:
                self._since_s = self._front.now_s()
        else:
            self._buffer += data
        # Of requests sent ahead the time of the last byte of all: never earlier than the truth.
        self._received_at = self._front.heads.received()
        if self._exchange is None:
            self._proceed()
        elif len(self._buffer) > MAX_HEAD_SIZE:
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        """The peer does not read its answers: nothing more is begun."""
        self._is_full = True

    def resume_writing(self) -> None:
        """It does again."""
        self._is_full = False
        self._resume()

    def _proceed(self) -> None:
        """Begin the next request if it is there as a whole."""
        buffer = self._buffer
        end = buffer.find(_END) + len(_END)
        if end < len(_END):
            if len(buffer) > MAX_HEAD_SIZE:
                self._hand_over()
            return
        asked = self._asked or self._front.heads.read(buffer[:end])
        if asked is None:
            self._hand_over()
            return
        self._asked = asked
        total = end + asked.size
        if len(buffer) >= total and not self._is_full:
            self._buffer = buffer[total:]
            self._begin(asked, buffer[end:total])

    def _begin(self, asked: QuickHead, body: bytes) -> None:
        exchange = self._exchange = _Exchange(self, self._received_at)
        try:
            self._pending = asked.endpoint.begin(asked.field, body, exchange)
        except BistroError as error:
            exchange.tell(error)

    def answer(self, answer: Answer) -> None:
        """Hand the answer to the present request to who sends it."""
        assert self._asked is not None  # noqa: S101 - there is an exchange
        self._front.answer(self, self._asked.endpoint, self._since_s, answer)

    def send(self, data: bytes, *, is_last: bool, now_s: float) -> None:
        """Send an answer, and go on with what was sent ahead, or close."""
        self._asked = self._exchange = self._pending = None
        self._since_s = now_s
        if self._transport.is_closing():
            return
        self._transport.write(data)
        if is_last:
            self._transport.close()
        elif self._buffer:
            # Later, so that many requests sent ahead take turns with others.
            asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        if self._exchange is None and self._buffer and not self._transport.is_closing():
            self._transport.resume_reading()
            self._proceed()

    def _hand_over(self) -> None:
        self._front.leave(self)
        ordinary, buffer = self._front.ordinary(), self._buffer
        self._buffer = b""
        self._transport.set_protocol(ordinary)
        ordinary.connection_made(self._transport)
        self._transport.resume_reading()
        ordinary.data_received(buffer)

    def _take_back(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.leave()

    def check(self, now_s: float) -> None:
        """Keep the time limits."""
        limits, since_s = self._front.limits, now_s - self._since_s
        if self._exchange is None:
            if since_s > (limits.request_s if self._buffer else limits.idle_s):
                self.abort()
        elif since_s > limits.request_s:
            late = UnavailableError("the request took too long", hint="send the same request again")
            self._exchange.tell(late)
            self._take_back()

    def close_if_idle(self) -> None:
        """Close unless a request is being answered."""
        if self._exchange is None:
            self._transport.close()

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._transport.abort()
