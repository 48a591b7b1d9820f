"""A connection of a listener: quick requests are answered here, all others by aiohttp.

Every connection begins here. Each request that ``Heads`` recognises is answered here, one at a
time; with the first that is not recognised the connection goes to the ordinary server, with
every byte that was read and not used, and stays there. So one route can be quick while limits
and behaviour of all others remain what they are. TLS lies beneath both.

| what | limit here |
|---|---|
| connections beyond what the listener has room for | closed at once |
| connection without a request | closed after ``idle_s`` |
| head or body that does not end | closed ``request_s`` after its first byte |
| bytes of all requests that are not whole | the oldest of the address that holds most: 503 |
| request without an answer | after ``request_s`` the problem ``unavailable`` |
| answers that nobody reads | no request is begun, so the line above or the first holds |
| bytes sent ahead of answers | reading pauses at 64 KiB |

A request whose head is that of the one before, read as a whole, takes a short way: it is
compared as bytes, and joins the burst of its gate. All else goes through ``_take``.

Source: docs/spec/api.md, rules for all routes.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from bistro.daemon.addresses import Address
from bistro.daemon.bursts import Answer, Guest
from bistro.daemon.front import Front
from bistro.daemon.peers import UNKNOWN, Who
from bistro.daemon.polling import PolledProtocol
from bistro.daemon.quick import MAX_HEAD_SIZE, Page, Pending, QuickHead
from bistro.errors import BistroError, OverloadedError, UnavailableError
from bistro.instant import UnixMillis

_END: Final = b"\r\n\r\n"
_NEVER: Final = -1


class _Exchange:
    """One request that is answered by itself, until it is."""

    __slots__ = (
        "_connection",
        "_is_told",
        "address",
        "asked",
        "bucket",
        "pending",
        "received_at",
    )

    def __init__(self, connection: Connection, asked: QuickHead, received_at: UnixMillis) -> None:
        self._connection: Connection | None = connection
        self.asked = asked
        who = connection.who
        self.address, self.bucket = who.name or connection.address, who.bucket
        self.received_at = received_at
        self.pending: Pending | None = None

    @property
    def known_tags(self) -> str:
        return self.asked.known_tags

    def tell(self, answer: Answer | Page) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self.pending = None
            connection.answer(self.asked, answer)

    def refuse(self, guest: Guest, error: BistroError) -> None:
        pending = self.pending
        self.tell(error)
        self.pending = pending
        self.leave(guest)

    def leave(self, guest: Guest) -> None:
        del guest
        self._connection = None
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.leave()


class Connection(PolledProtocol, Guest):
    """One connection, until it is closed.

    Args:
        front: What it shares with the others.

    Attributes:
        address: The peer's.
        who: Whose requests it brings now, for fairness.
    """

    __slots__ = (
        "_asked",
        "_buffer",
        "_forwarded",
        "_front",
        "_home",
        "_is_full",
        "_ordinary",
        "_received_at",
        "_transport",
        "address",
        "who",
    )

    def __init__(self, front: Front) -> None:
        super().__init__()
        self.address = ""
        self.who = UNKNOWN
        self._forwarded = ""
        self._front = front
        self._home: Address | None = None
        self._buffer = bytearray()
        self._asked: QuickHead | None = None  # its head was read, and its body not yet
        self._ordinary: asyncio.Protocol | None = None
        self._is_full = False
        self._received_at = UnixMillis(0)
        self.since_s = front.now_s()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, if there is room; or go on where the event loop has taken the socket over."""
        self._transport = cast("asyncio.Transport", transport)
        if self._home is not None:
            self._begin_ordinary()
            return
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._home = self._front.limits.addresses.enter(self.address)
        if self._home is None:
            self._transport.abort()
        else:
            self._front.enter(self)
            self._know(self._front.limits.peers.who(self.address))

    def _know(self, who: Who) -> None:
        self.who, self.bucket = who, who.bucket

    def connection_lost(self, exc: Exception | None) -> None:
        """Take back what nobody waits for any more."""
        self.whole_size = _NEVER
        if self._home is not None:
            self._front.limits.addresses.leave(self._home)
        self._front.limits.unfinished.release(self, self.address)
        self._buffer.clear()
        if self._ordinary is not None:
            self._ordinary.connection_lost(exc)
            return
        self._front.leave(self)
        self._take_back()

    def data_received(self, data: bytes) -> None:
        """Take bytes; what comes behind an unanswered request waits."""
        if (
            len(data) == self.whole_size
            and self.waits is None
            and not self.is_held
            and self.head is not None
            and data.startswith(self.head)
        ):
            self._gather(data[len(self.head) :])
        elif self._ordinary is None:
            self._take(data)
        else:
            self._ordinary.data_received(data)

    def _gather(self, body: bytes) -> None:
        gate, bucket = self.gate, self.bucket
        self.since_s = now_s = self._front.now_s()
        if bucket is None or not bucket.take(1, now_s):
            burst = self.waits = gate.burst or gate.open()
        else:
            burst = self.waits = gate.limited or gate.open_limited()
        burst.guests.append(self)
        burst.bodies.append(body)

    def _take(self, data: bytes) -> None:
        if not self._buffer and self.waits is None:
            self.since_s = self._front.now_s()
        self._buffer += data
        # Of requests sent ahead the time of the last byte of all: never earlier than the truth.
        self._received_at = self._front.heads.received()
        if self.waits is None and not self._is_full:
            self._proceed()
        elif len(self._buffer) > MAX_HEAD_SIZE:
            self._transport.pause_reading()
        self._account()

    def _account(self) -> None:
        """Have the bytes counted that wait here, so that all together have a limit."""
        unfinished = self._front.limits.unfinished
        self.is_held = self._is_full or bool(self._buffer)
        if self._buffer:
            unfinished.hold(self, self.address, len(self._buffer))
        else:
            unfinished.release(self, self.address)

    def eof_received(self) -> bool | None:
        """The peer sends no more: what it asked before is not answered by us either."""
        return None if self._ordinary is None else self._ordinary.eof_received()

    def pause_writing(self) -> None:
        """The peer does not read its answers: nothing more is begun."""
        if self._ordinary is not None:
            self._ordinary.pause_writing()
        self._is_full = self.is_held = True

    def resume_writing(self) -> None:
        """It does again."""
        if self._ordinary is not None:
            self._ordinary.resume_writing()
            return
        self._is_full = False
        self._account()
        self._resume()

    def _proceed(self) -> None:
        """Begin the next request if it is there as a whole."""
        buffer = self._buffer
        asked = self._asked
        if asked is None:
            end = buffer.find(_END) + len(_END)
            if end < len(_END):
                if len(buffer) > MAX_HEAD_SIZE:
                    self._hand_over()
                return
            asked = self._front.heads.read(bytes(buffer[:end]))
            if asked is None:
                self._hand_over()
                return
            self._asked = asked
        end = len(asked.text)
        total = end + asked.size
        if len(buffer) >= total:
            body = bytes(buffer[end:total])
            del buffer[:total]
            self._asked = None
            self._begin(asked, body)

    def _begin(self, asked: QuickHead, body: bytes) -> None:
        if asked.forwarded != self._forwarded:
            self._forwarded = asked.forwarded
            self._know(self._front.limits.peers.who(self.address, asked.forwarded))
        gate = self._front.gate(asked)
        if gate is not None:
            self.gate, self.head = gate, asked.text
            self.whole_size = len(asked.text) + asked.size
            self._gather(body)
            return
        exchange = self.waits = _Exchange(self, asked, self._received_at)
        try:
            pending = asked.endpoint.begin(asked.field, body, exchange)
        except BistroError as error:
            exchange.tell(error)
        else:
            exchange.pending = pending

    def answer(self, asked: QuickHead, answer: Answer | Page) -> None:
        """Hand the answer to the present request to who sends it."""
        self._front.outbox.put(self, asked.endpoint, self.since_s, answer)

    def send(self, data: bytes, *, is_last: bool, now_s: float) -> None:
        """Send an answer, and go on with what was sent ahead, or close."""
        self.waits = None
        self.since_s = now_s
        self._transport.write(data)
        if is_last:
            self._transport.close()
        elif self._buffer:
            # Later, so that many requests sent ahead take turns with others.
            asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        is_free = self.waits is None and not self._is_full
        if is_free and self._buffer and not self._transport.is_closing():
            self._transport.resume_reading()
            self._proceed()
            self._account()

    def _hand_over(self) -> None:
        self._front.leave(self)
        self.whole_size = _NEVER
        if self.polled is None:
            self._begin_ordinary()
        else:
            self.polled.hand_over()

    def _begin_ordinary(self) -> None:
        ordinary = self._ordinary = self._front.ordinary()
        buffer = bytes(self._buffer)
        self._buffer.clear()
        self._account()
        # Through this object, so that the connection is counted until it is lost.
        ordinary.connection_made(self._transport)
        self._transport.resume_reading()
        ordinary.data_received(buffer)

    def _take_back(self) -> None:
        waits, self.waits = self.waits, None
        if waits is not None:
            waits.leave(self)

    def give_up(self) -> None:
        """Let go of an unfinished request, since all of them together are too many bytes."""
        self._buffer.clear()
        asked, self._asked = self._asked, None
        if asked is None or self.waits is not None:
            self._transport.abort()
            return
        error = OverloadedError(
            "the server holds too many requests that are not whole",
            hint="send requests in one go, smaller ones, or later",
            retry_after_s=1.0,
        )
        now_s = self._front.now_s()
        data = self._front.outbox.problem(asked.endpoint, error, now_s - self.since_s, is_last=True)
        self.send(data, is_last=True, now_s=now_s)

    def check(self, now_s: float) -> None:
        """Keep the time limits."""
        limits, since_s = self._front.limits, now_s - self.since_s
        if self.waits is None:
            if since_s > (limits.request_s if self._buffer else limits.idle_s):
                self.abort()
        elif since_s > limits.request_s:
            late = UnavailableError("the request took too long", hint="send the same request again")
            self.waits.refuse(self, late)

    def close_if_idle(self) -> None:
        """Close unless a request is being answered."""
        if self.waits is None:
            self._transport.close()

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._transport.abort()
