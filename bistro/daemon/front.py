"""What all connections of one listener share on the quick way: answers, time limits, the end.

Answers are not written where they become known but a moment later, by the event loop: so no
connection, closed or broken, can harm who gave the answer, or any other connection.

Source: docs/spec/api.md, rules for all routes.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiohttp.helpers import rfc822_formatted_time

from bistro.daemon.quick import Answer, Heads, QuickEndpoint, answer_end, answer_head
from bistro.daemon.quick import problem_answer as problem
from bistro.errors import BistroError, StorageError

SWEEP_S = 1.0
"""Pause between two looks at all connections; time limits of the quick way are this exact."""

_ID_STEP = 0x9E3779B97F4A7C15
_ID_MASK = (1 << 64) - 1

Observe = Callable[[QuickEndpoint, Sequence[float], BistroError | None], None]
"""Told of answers: what was asked, the seconds that each took, and the error that it was."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits.

    Attributes:
        idle_s: Between two requests.
        request_s: From a request's first byte to its answer.
    """

    idle_s: float
    request_s: float


class Guest(ABC):
    """A connection."""

    __slots__ = ()

    @abstractmethod
    def send(self, data: bytes, *, is_last: bool, now_s: float) -> None:
        """Send an answer, and go on with the next request or close."""

    @abstractmethod
    def check(self, now_s: float) -> None:
        """Keep the time limits."""

    @abstractmethod
    def close_if_idle(self) -> None:
        """Close unless a request is being answered."""

    @abstractmethod
    def abort(self) -> None:
        """Close without waiting for anything."""


class Front:
    """What connections share.

    Args:
        heads: Recognises quick requests.
        ordinary: Makes the ordinary server's protocol for a connection.
        observe: For metrics.
        alarm: Told of a failed store.
        limits: Time limits.

    Attributes:
        heads: As given.
        ordinary: As given.
        limits: As given.
        now_s: The event loop's time.
    """

    def __init__(
        self,
        heads: Heads,
        ordinary: Callable[[], asyncio.Protocol],
        observe: Observe,
        alarm: Callable[[StorageError], None],
        limits: Limits,
    ) -> None:
        self.heads = heads
        self.ordinary = ordinary
        self.limits = limits
        self.now_s = asyncio.get_running_loop().time
        self._observe = observe
        self._alarm = alarm
        self._guests: set[Guest] = set()
        self._is_empty = asyncio.Event()
        self._is_stopping = False
        self._outbox: deque[tuple[Guest, QuickEndpoint, float, Answer]] = deque()
        self._date = rfc822_formatted_time()
        self._heads_of_answers: dict[str, bytes] = {}
        self._id = secrets.randbits(64)

    def enter(self, guest: Guest) -> None:
        """A connection was made."""
        self._guests.add(guest)

    def leave(self, guest: Guest) -> None:
        """A connection was lost, or is the ordinary server's now."""
        self._guests.discard(guest)
        if not self._guests:
            self._is_empty.set()

    def answer(self, guest: Guest, endpoint: QuickEndpoint, since_s: float, answer: Answer) -> None:
        """Have an answer sent soon.

        Args:
            guest: To whom.
            endpoint: What was asked.
            since_s: When the request's last byte had been read.
            answer: A body, or the error to report.
        """
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._send_all)
        self._outbox.append((guest, endpoint, since_s, answer))

    def _send_all(self) -> None:
        outbox, now_s, is_last = self._outbox, self.now_s(), self._is_stopping
        good: dict[str, tuple[QuickEndpoint, list[float]]] = {}
        try:
            while outbox:
                guest, endpoint, since_s, answer = outbox.popleft()
                if isinstance(answer, BistroError):
                    data = self._problem(endpoint, answer, now_s - since_s)
                else:
                    name = endpoint.route.name
                    good.setdefault(name, (endpoint, []))[1].append(now_s - since_s)
                    data = self._good(endpoint.media_type, answer)
                guest.send(data, is_last=is_last, now_s=now_s)
        finally:
            if outbox:  # one could not be sent; the others are
                asyncio.get_running_loop().call_soon(self._send_all)
            for endpoint, took_s in good.values():
                self._observe(endpoint, took_s, None)

    def _good(self, media_type: str, body: bytes) -> bytes:
        head = self._heads_of_answers.get(media_type)
        if head is None:
            head = self._heads_of_answers[media_type] = answer_head(media_type, self._date)
        return head + answer_end(self._next_id(), len(body)) + body

    def _problem(self, endpoint: QuickEndpoint, error: BistroError, took_s: float) -> bytes:
        self._observe(endpoint, [took_s], error)
        if isinstance(error, StorageError):
            self._alarm(error)
        return problem(
            error, date=self._date, request_id=self._next_id(), is_last=self._is_stopping
        )

    def _next_id(self) -> bytes:
        """An id that no other request of this process has."""
        self._id = (self._id + _ID_STEP) & _ID_MASK
        return b"%016x" % self._id

    async def run(self) -> None:
        """Keep time limits and the date until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self._date = rfc822_formatted_time()
            self._heads_of_answers.clear()
            now_s = self.now_s()
            for guest in list(self._guests):
                guest.check(now_s)

    async def drain(self, grace_s: float) -> None:
        """Let open requests be answered, then close what is left."""
        self._is_stopping = True
        for guest in list(self._guests):
            guest.close_if_idle()
        if self._guests:
            self._is_empty.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self._is_empty.wait()
        for guest in list(self._guests):
            guest.abort()
