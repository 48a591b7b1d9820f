"""A connection whose request is a small fragment that comes slowly.

It was looked at before (``upload_connection``): head and claim are good, and all that is left is
to take the bytes, to answer, and to close. Bytes are read into one buffer that all connections
share: none of them keeps anything there.

Source: docs/spec/staging.md, creation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, cast

from bistro.errors import BistroError, StorageError, UnavailableError
from bistro_relay.http.upload_front import Guest, UploadFront
from bistro_relay.services.claims import Examined
from bistro_relay.services.crawling import Crawl
from bistro_relay.services.whole_fragment import Kept

READ_SIZE: Final = 65_536

_BUFFER: Final = memoryview(bytearray(READ_SIZE))
"""Between ``get_buffer`` and ``buffer_updated`` nothing else runs."""


class CrawlingConnection(Guest, asyncio.BufferedProtocol):
    """One connection, until its one answer.

    Args:
        front: What it shares with the others.
        examined: The claim.
        since_s: When the request began, by the event loop's clock.
        release: Called once when the connection is gone.

    Raises:
        BistroError: As ``Crawls.begin``.
    """

    __slots__ = ("_crawl", "_front", "_is_over", "_release", "_since_s", "_transport")

    def __init__(
        self,
        front: UploadFront,
        examined: Examined,
        *,
        since_s: float,
        release: Callable[[], None],
    ) -> None:
        self._front = front
        self._since_s = since_s
        self._release = release
        self._is_over = False  # answered, or to be answered by who keeps the fragment
        self._crawl: Crawl = front.crawls.begin(examined, on_room=self._go_on, tell=self._tell)

    def take_over(self, transport: asyncio.Transport, data: bytes) -> None:
        """Go on with a connection of which some bytes of the body were read."""
        self._transport = transport
        transport.set_protocol(cast("asyncio.BaseProtocol", self))
        self._front.enter(self)
        transport.resume_reading()
        if data:
            self._take(data)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        del sizehint
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes; none are waited for behind the fragment's."""
        if not self._is_over:
            self._take(bytes(_BUFFER[: min(nbytes, self._crawl.missing_size)]))

    def _take(self, data: bytes) -> None:
        crawl = self._crawl
        self._front.crawls.add(crawl, data)
        self._is_over = not crawl.missing_size
        if self._is_over or crawl.is_behind:
            self._transport.pause_reading()

    def _go_on(self) -> None:
        if not self._is_over and not self._transport.is_closing():
            self._transport.resume_reading()

    def _tell(self, result: Kept | BistroError) -> None:
        """Hear how it ended."""
        self._is_over = True
        if isinstance(result, StorageError):
            self._front.alarm(result)
        if self._transport.is_closing():
            return
        if isinstance(result, BistroError):
            self._refuse(result)
            return
        self._observe(HTTPStatus.CREATED.value)
        self._transport.write(self._front.answer(result, is_last=True))
        self._transport.close()

    def _refuse(self, error: BistroError) -> None:
        self._observe(error.http_status)
        self._transport.write(self._front.refusal(error))
        self._transport.close()

    def _observe(self, status: int) -> None:
        self._front.observe(status, asyncio.get_running_loop().time() - self._since_s)

    def eof_received(self) -> None:
        """The client sends no more: what is missing will not come."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more; a fragment that is whole is kept all the same."""
        del exc
        self._give_up()
        self._front.leave(self)
        self._release()

    def _give_up(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._front.crawls.give_up(self._crawl)

    def check(self, now_s: float, *, idle_s: float) -> None:
        """Keep the time limits."""
        del now_s, idle_s
        if self._is_over:
            return
        try:
            self._front.crawls.require_pace(self._crawl)
        except UnavailableError as exc:
            self._give_up()
            self._refuse(exc)

    def stop(self) -> None:
        """Close unless the fragment is all there."""
        if not self._is_over:
            self._transport.close()

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._transport.abort()
