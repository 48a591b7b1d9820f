"""What all connections share that stand before the ordinary server: one good answer, limits.

Source: docs/spec/staging.md, creation.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from aiohttp.helpers import rfc822_formatted_time

from bistro.api import media, problems, routes
from bistro.daemon.caching import NEVER
from bistro.errors import BistroError, StorageError
from bistro_relay.http.upload_fields import upload_url
from bistro_relay.services.claims import ClaimDesk
from bistro_relay.services.crawling import Crawls
from bistro_relay.services.room import Gate
from bistro_relay.services.whole import WholeIntake
from bistro_relay.services.whole_fragment import Kept

SWEEP_S: Final = 1.0
USUAL_SIZE: Final = 73_728
"""What a request takes that stages a fragment of 64 KiB; larger ones get more when known."""

_MAX_SPARE: Final = 64

_ID_STEP: Final = 0x9E3779B97F4A7C15
_ID_MASK: Final = (1 << 64) - 1

Observe = Callable[[int, float], None]
"""Told of good answers: status, and the seconds that one took."""


class Guest(ABC):
    """A connection."""

    @abstractmethod
    def check(self, now_s: float, *, idle_s: float) -> None:
        """Keep the time limits."""

    @abstractmethod
    def stop(self) -> None:
        """Close unless a request is being answered."""

    @abstractmethod
    def abort(self) -> None:
        """Close without waiting for anything."""


class UploadFront:
    """What all connections share.

    Args:
        desk: Looks at claims.
        whole: Keeps fragments.
        crawls: Take those that come slowly.
        gate: Bounds open requests.
        base_url: The relay's own; it stands before every ``Location``.
        idle_s: Seconds without a request after which a connection is closed.
    """

    def __init__(
        self,
        desk: ClaimDesk,
        whole: WholeIntake,
        crawls: Crawls,
        gate: Gate,
        *,
        base_url: str,
        idle_s: float,
    ) -> None:
        self.desk = desk
        self.whole = whole
        self.crawls = crawls
        self.gate = gate
        self._idle_s = idle_s
        self._base_url = base_url
        self._id = secrets.randbits(64)
        self._guests: set[Guest] = set()
        self._spare: list[bytearray] = []
        self._head = b""
        self._is_stopping = False
        self._is_empty = asyncio.Event()
        self._sweeper: asyncio.TimerHandle | None = None
        self.observe: Observe = _ignore
        self.alarm: Callable[[StorageError], None] = _ignore_error

    def attend(self, observe: Observe, alarm: Callable[[StorageError], None]) -> None:
        """Say who counts answers, and who is told of a failed store."""
        self.observe, self.alarm = observe, alarm

    @property
    def is_stopping(self) -> bool:
        """Whether connections end with their present answer."""
        return self._is_stopping

    def enter(self, guest: Guest) -> None:
        """A connection was made."""
        self._guests.add(guest)

    def leave(self, guest: Guest) -> None:
        """It was lost, or is the ordinary server's now."""
        self._guests.discard(guest)
        if not self._guests:
            self._is_empty.set()

    def buffer(self) -> bytearray:
        """Where a usual request goes; what stands in it is of an earlier one."""
        return self._spare.pop() if self._spare else bytearray(USUAL_SIZE)

    def take_back(self, buffer: bytearray) -> None:
        """Keep a buffer that nobody looks at any more: a new one is a good deal of zeros."""
        if len(buffer) == USUAL_SIZE and len(self._spare) < _MAX_SPARE:
            self._spare.append(buffer)

    def answer(self, kept: Kept, *, is_last: bool = False) -> bytes:
        """The whole good answer; ``is_last``: of its connection."""
        if not self._head:
            self._renew()
        self._id = (self._id + _ID_STEP) & _ID_MASK
        last = "Connection: close\r\n" if is_last or self._is_stopping else ""
        return b"%b%016x\r\n%b: %b\r\nLocation: %b\r\n%b: %d\r\n%b\r\n" % (
            self._head,
            self._id,
            routes.RECEIPT.encode(),
            base64.b64encode(kept.receipt),
            upload_url(self._base_url, kept.id).encode(),
            routes.OFFSET.encode(),
            kept.size,
            last.encode(),
        )

    def refusal(self, error: BistroError) -> bytes:
        """The whole last answer of a connection, which reports an error."""
        body = problems.encode_problem(error)
        fields = {
            "Content-Type": media.PROBLEM,
            **problems.problem_headers(error),
            routes.TUS_RESUMABLE: routes.TUS_VERSION,
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"HTTP/1.1 {error.http_status} {error.code}\r\n{lines}\r\n".encode() + body

    def _renew(self) -> None:
        fields = {
            "Content-Length": "0",
            "Cache-Control": NEVER,
            routes.TUS_RESUMABLE: routes.TUS_VERSION,
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Expose-Headers": ", ".join(routes.EXPOSED_FIELDS),
            "X-Content-Type-Options": "nosniff",
            "Server": "bistro",
            "Date": rfc822_formatted_time(),
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._head = f"HTTP/1.1 201 Created\r\n{lines}{routes.REQUEST_ID}: ".encode()

    def start(self) -> None:
        """Keep time limits and the date from now on."""
        self._sweep()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._renew()
        for guest in list(self._guests):
            guest.check(loop.time(), idle_s=self._idle_s)
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)

    async def drain(self, grace_s: float) -> None:
        """Let open requests be answered, then close what is left."""
        self._is_stopping = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for guest in list(self._guests):
            guest.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while self._guests:
                    self._is_empty.clear()
                    await self._is_empty.wait()
        for guest in list(self._guests):
            guest.abort()


def _ignore(status: int, took_s: float) -> None:
    del status, took_s


def _ignore_error(error: StorageError) -> None:
    del error
