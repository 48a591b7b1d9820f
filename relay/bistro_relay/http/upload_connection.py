"""Stands before the ordinary server: stages small fragments that come whole, and nothing else.

A connection begins here. For as long as each request on it is the one that stages a small
fragment, and all is well, it is answered here. With the first that is not, the connection goes
to the ordinary server with every byte that was read and not answered, and stays there. So what
is refused, slow or odd is answered where everything is, and this knows one good answer.

| what | what happens |
|---|---|
| connections beyond what the listener has room for | closed at once |
| another request, a claim that does not hold, an error | to the ordinary server |
| a request that is not whole after ``PATIENCE_S`` | crawls, and is answered then |
| no memory for another fragment | crawls, and is answered when it is there |
| one that may not crawl now, or whose head is not whole | to the ordinary server |
| too many requests, from one address or in all | to the ordinary server, which refuses |
| no request for the idle time | closed |
| bytes sent ahead of an answer | reading pauses |
| answers that nobody reads | no further request is begun; closed after the idle time |

Source: docs/spec/staging.md, creation; docs/decisions/0020-small-fragments-share-segments.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, cast

from bistro.daemon.addresses import Address, Addresses
from bistro.errors import BistroError, StorageError
from bistro_relay.http.upload_crawl import CrawlingConnection
from bistro_relay.http.upload_front import USUAL_SIZE, Guest, UploadFront
from bistro_relay.http.upload_head import END, LINE, MAX_HEAD_SIZE, HeadReader, UploadHead
from bistro_relay.services.claims import Examined
from bistro_relay.services.whole_fragment import Kept

PATIENCE_S: Final = 2.0

_LINE: Final = LINE.encode()
_FIRST_SIZE: Final = 4_096
"""What a connection gets before its first head was read: about one head with a claim."""


class UploadConnection(Guest, asyncio.BufferedProtocol):
    """One connection, until it is closed or goes to the ordinary server.

    Bytes are read to where they stay until they are on the disk: one buffer holds one request.

    Args:
        front: What it shares with the others.
        ordinary: Makes the protocol that takes over.
        addresses: Knows how many connections there may be.
    """

    def __init__(
        self,
        front: UploadFront,
        ordinary: Callable[[], asyncio.Protocol],
        addresses: Addresses,
    ) -> None:
        self._front = front
        self._ordinary = ordinary
        self._addresses = addresses
        self._home: Address | None = None
        self._heads = HeadReader()
        self._buffer = bytearray()
        self._size = 0  # bytes in the buffer
        self._admitted = 0  # bytes of memory that were asked for
        self._asked: UploadHead | None = None
        self._end = 0  # of the request, once its head was read
        self._head_size = 0
        self._examined: Examined | None = None
        self._is_proven = False  # that what comes here is for here
        self._is_waiting = False  # for the answer
        self._is_gone = False
        self._is_clogged = False  # with answers that nobody reads
        self._address = ""
        self._now_s = asyncio.get_running_loop().time
        self._since_s = self._now_s()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._home = self._addresses.enter(self._address)
        if self._home is None:
            self._is_gone = True
            self._transport.abort()
        else:
            self._front.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more; what was begun is kept all the same."""
        del exc
        self._leave()
        if not self._is_waiting:
            self._forget()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        del sizehint
        if not self._buffer:
            is_admitted = self._is_proven and self._front.whole.admit(USUAL_SIZE)
            self._admitted = USUAL_SIZE if is_admitted else 0
            self._buffer = self._front.buffer() if is_admitted else bytearray(_FIRST_SIZE)
            self._since_s = self._now_s()
        return memoryview(self._buffer)[self._size :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes; what comes behind an unanswered request waits."""
        self._size += nbytes
        if not self._is_waiting:
            self._proceed()
        self._pause_if_full()

    def _pause_if_full(self) -> None:
        """Make room for what is missing of the request, or stop reading until it is answered."""
        if self._size != len(self._buffer) or self._is_gone or not self._size:
            return
        # By steps: memory is taken by who sends, not by who says how much will come.
        if self._size < self._end:
            self._grow(min(self._end, max(2 * self._size, USUAL_SIZE)))
        elif self._asked is None:
            self._grow(2 * self._size)
        else:
            self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Take what came together with the line that said whose connection this is."""
        if data:
            self._refill(data)
            self._resume()

    def pause_writing(self) -> None:
        """The client does not read its answers: memory for more of them is not given."""
        self._is_clogged = True

    def resume_writing(self) -> None:
        """It reads again; its time for what it has sent ahead begins now."""
        self._is_clogged = False
        self._since_s = self._now_s()
        self._resume()

    def _proceed(self) -> None:
        """Begin the request if it is there as a whole."""
        if self._is_clogged:
            return
        if self._asked is None and not self._read_head():
            return
        if self._size >= self._end:
            self._begin()

    def _read_head(self) -> bool:
        """Look at the head; whether it is there, and one for here."""
        buffer, size = self._buffer, self._size
        end = buffer.find(END, 0, size) + len(END)
        if not buffer.startswith(_LINE[:size]) or (end < len(END) and size >= MAX_HEAD_SIZE):
            self._hand_over()
            return False
        if end < len(END):
            return False
        asked = self._heads.read(bytes(buffer[:end]))
        if (
            asked is None
            or asked.size > self._front.whole.largest
            or not self._front.gate.enter(self._address)
        ):
            self._hand_over()
            return False
        self._asked, self._head_size, self._end = asked, end, end + asked.size
        self._examined = self._examine(asked)
        if self._examined is None:
            self._hand_over()
            return False
        if not self._has_room():
            self._crawl()
            return False
        return True

    def _examine(self, asked: UploadHead) -> Examined | None:
        try:
            examined = self._front.desk.examine_known(asked.claim, length=asked.size)
        except BistroError:
            return None  # said where all errors are
        is_open = examined is not None and self._front.whole.is_open(examined)
        return examined if is_open else None

    def _has_room(self) -> bool:
        """Take memory for all of the request, if that may be."""
        missing = self._end - len(self._buffer)
        if missing <= 0:
            return bool(self._admitted) or self._admit(len(self._buffer))
        return self._admit(self._end - self._admitted)

    def _grow(self, size: int) -> None:
        """Make the buffer larger: another one, for somebody may look at this one still."""
        larger = bytearray(size)
        larger[: self._size] = memoryview(self._buffer)[: self._size]
        self._buffer = larger

    def _admit(self, size: int) -> bool:
        is_admitted = self._front.whole.admit(size)
        self._admitted += size if is_admitted else 0
        return is_admitted

    def _begin(self) -> None:
        assert self._examined is not None  # noqa: S101 - the head was read
        self._is_waiting = True
        body = memoryview(self._buffer)[self._head_size : self._end]
        self._front.whole.begin(self._examined, body, self._tell)

    def _tell(self, result: Kept | BistroError) -> None:
        """Hear how it ended; write, and go on with what was sent ahead."""
        self._is_waiting = False
        if isinstance(result, StorageError):
            self._front.alarm(result)
        if self._is_gone or self._transport.is_closing():
            self._forget()
        elif isinstance(result, StorageError):
            # Not asked again of the ordinary server: the daemon stops.
            self._forget()
            self._transport.write(self._front.refusal(result))
            self._transport.close()
        elif isinstance(result, BistroError):
            self._hand_over()
        else:
            self._answer(result)

    def _answer(self, kept: Kept) -> None:
        now_s = self._now_s()
        self._front.observe(HTTPStatus.CREATED.value, now_s - self._since_s)
        was_full = self._size == len(self._buffer)
        rest = bytes(memoryview(self._buffer)[self._end : self._size])
        self._forget()
        self._is_proven = True
        self._since_s = now_s
        self._transport.write(self._front.answer(kept))
        if self._front.is_stopping:
            self._transport.close()
            return
        if rest:
            self._refill(rest)
            # Later, so that many requests sent ahead take turns with others.
            asyncio.get_running_loop().call_soon(self._resume)
        elif was_full:
            self._transport.resume_reading()

    def _refill(self, data: bytes) -> None:
        """Begin the next request with bytes that were read already."""
        self.get_buffer(0)
        if len(data) > len(self._buffer):
            self._grow(len(data))
        self._buffer[: len(data)] = data
        self._size = len(data)

    def _resume(self) -> None:
        if not self._is_waiting and not self._is_gone and self._size:
            self._transport.resume_reading()
            self._proceed()
            self._pause_if_full()

    def _forget(self) -> None:
        """Give back what the present request holds."""
        asked, self._asked = self._asked, None
        self._examined = None
        self._front.take_back(self._buffer)
        self._buffer, self._size, self._head_size, self._end = bytearray(), 0, 0, 0
        admitted, self._admitted = self._admitted, 0
        self._front.whole.give_back(admitted)
        if asked is not None:
            self._front.gate.leave(self._address)

    def _leave(self) -> None:
        self._is_gone = True
        self._front.leave(self)
        home, self._home = self._home, None
        if home is not None:
            self._addresses.leave(home)

    def _hand_over(self) -> None:
        data = bytes(memoryview(self._buffer)[: self._size])
        self._forget()
        self._leave()
        ordinary = self._ordinary()
        self._transport.set_protocol(ordinary)
        ordinary.connection_made(self._transport)
        self._transport.resume_reading()
        if data:
            ordinary.data_received(data)

    def _crawl(self) -> None:
        """Have what is missing waited for where that takes little memory, if that may be."""
        examined = self._examined
        if examined is None or self._size > self._end:
            # No head yet, or more than one request.
            self._hand_over()
            return
        address, addresses, home = self._address, self._addresses, self._home
        gate = self._front.gate

        def release() -> None:
            gate.leave(address)
            if home is not None:
                addresses.leave(home)

        try:
            crawling = CrawlingConnection(
                self._front, examined, since_s=self._since_s, release=release
            )
        except BistroError:
            self._hand_over()  # said where all errors are
            return
        data = bytes(memoryview(self._buffer)[self._head_size : self._size])
        # Its place at the gate and among connections is the other's now.
        self._asked = self._home = None
        self._forget()
        self._leave()
        crawling.take_over(self._transport, data)

    def check(self, now_s: float, *, idle_s: float) -> None:
        """Keep the time limits."""
        since_s = now_s - self._since_s
        if self._is_waiting:
            return
        if self._is_clogged and since_s > idle_s:
            self._transport.abort()
        elif self._is_clogged:
            return
        elif self._size and since_s > PATIENCE_S:
            self._crawl()
        elif not self._size and since_s > idle_s:
            self._transport.close()

    def stop(self) -> None:
        """Close unless a request is being answered."""
        if not self._is_waiting:
            self._transport.close()

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._transport.abort()
