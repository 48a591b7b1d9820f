"""Sends the answers of the quick way, and counts them.

A single answer is not sent where it becomes known but a moment later, by the event loop; those
of a burst at once, one after the other. Either way no connection, closed or broken, can harm
who gave the answer, or any other connection: the loop hears of it and goes on with the next.

Source: docs/spec/api.md, rules for all routes.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from aiohttp.helpers import rfc822_formatted_time

from bistro.daemon.bursts import Answer, Guest, Spelled, Spelling
from bistro.daemon.direct import Poller
from bistro.daemon.quick import (
    Page,
    QuickEndpoint,
    answer_end,
    answer_head,
    page_end,
    page_head,
)
from bistro.daemon.quick import problem_answer as problem
from bistro.errors import BistroError, StorageError

Observe = Callable[[QuickEndpoint, float, BistroError | int, int], None]
"""Told of answers: what was asked, the seconds it took, the error or status, and how many."""

_GOOD = 200
_KNOWN = 304

_PREFIX_STEP = 0x9E3779B97F4B
_PREFIX_MASK = (1 << 48) - 1


class Outbox:
    """Where answers of one listener go out.

    Args:
        observe: For metrics.
        alarm: Told of a failed store.
        now_s: The event loop's time.

    Attributes:
        is_stopping: Whether every answer is the last one of its connection.
        poller: Sends the answers of bursts to its lines, if there is one.
    """

    def __init__(
        self,
        observe: Observe,
        alarm: Callable[[StorageError], None],
        now_s: Callable[[], float],
    ) -> None:
        self.is_stopping = False
        self.poller: Poller | None = None
        self._observe = observe
        self._alarm = alarm
        self._now_s = now_s
        self._waiting: deque[tuple[Guest, QuickEndpoint, float, Answer | Page]] = deque()
        self._date = rfc822_formatted_time()
        self._heads: dict[str, bytes] = {}
        self._page_heads: dict[tuple[str, bool, str], bytes] = {}
        self._prefix = secrets.randbits(48)

    def renew_date(self) -> None:
        """Another second has begun."""
        self._date = rfc822_formatted_time()
        self._heads.clear()
        self._page_heads.clear()

    def put(
        self, guest: Guest, endpoint: QuickEndpoint, since_s: float, answer: Answer | Page
    ) -> None:
        """Have an answer sent soon.

        Args:
            guest: To whom.
            endpoint: What was asked.
            since_s: When the request's last byte had been read.
            answer: A body, a page, or the error to report.
        """
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._send_waiting)
        self._waiting.append((guest, endpoint, since_s, answer))

    def _send_waiting(self) -> None:
        waiting, now_s, is_last = self._waiting, self._now_s(), self.is_stopping
        try:
            while waiting:
                guest, endpoint, since_s, answer = waiting.popleft()
                if isinstance(answer, BistroError):
                    data = self.problem(endpoint, answer, now_s - since_s)
                elif isinstance(answer, Page):
                    data = self._page(endpoint, answer, now_s - since_s)
                else:
                    self._observe(endpoint, now_s - since_s, _GOOD, 1)
                    head, end = self._head(endpoint), answer_end(b"0000", len(answer))
                    data = b"".join((head, self._next_prefix(), end, answer))
                guest.send(data, is_last=is_last, now_s=now_s)
        finally:
            if waiting:  # one could not be sent; the others are
                asyncio.get_running_loop().call_soon(self._send_waiting)

    def send_all(
        self,
        guests: Sequence[Guest | None],
        endpoint: QuickEndpoint,
        since_s: float,
        answers: Spelling | Spelled | BistroError,
    ) -> None:
        """Send to each guest its answer, or to all of them the same error.

        Args:
            guests: ``None`` where nobody waits.
            endpoint: What was asked.
            since_s: When the last byte of all had been read.
            answers: One for each guest, spelled or not, or the error to report.
        """
        took_s = self._now_s() - since_s
        count = len(guests) - guests.count(None)
        if isinstance(answers, BistroError):
            # One text for all: whoever is refused must stay cheap.
            answer = self.problem(endpoint, answers, took_s, count) if count else b""
            self._send_all(guests, [answer] * len(guests))
            return
        self._observe(endpoint, took_s, _GOOD, count)
        spelled = answers if isinstance(answers, list) else self.spell(endpoint, answers)
        self._send_all(guests, spelled)

    def spell(self, endpoint: QuickEndpoint, answers: Spelling) -> Spelled:
        """Good answers as they are sent; they say the present time."""
        return answers.spell(self._head(endpoint) + self._next_prefix(), _before_body)

    def _send_all(self, guests: Sequence[Guest | None], answers: list[bytes]) -> None:
        if self.poller is None or self.is_stopping:
            self._send_each(zip(guests, answers, strict=True))
        elif others := self.poller.send_all(guests, answers, self._now_s()):
            self._send_each(iter(others))

    def _send_each(self, answers: Iterator[tuple[Guest | None, bytes]]) -> None:
        now_s, is_last = self._now_s(), self.is_stopping
        is_done = False
        try:
            for guest, data in answers:
                if guest is not None:
                    guest.send(data, is_last=is_last, now_s=now_s)
            is_done = True
        finally:
            if not is_done:  # one could not be sent; the others are
                asyncio.get_running_loop().call_soon(self._send_each, answers)

    def problem(
        self,
        endpoint: QuickEndpoint,
        error: BistroError,
        took_s: float,
        count: int = 1,
        *,
        is_last: bool = False,
    ) -> bytes:
        """The whole answer that reports an error, which is counted."""
        self._observe(endpoint, took_s, error, count)
        if isinstance(error, StorageError):
            self._alarm(error)
        request_id = self._next_prefix() + b"0000"
        is_last = is_last or self.is_stopping
        return problem(error, date=self._date, request_id=request_id, is_last=is_last)

    def _page(self, endpoint: QuickEndpoint, page: Page, took_s: float) -> bytes:
        self._observe(endpoint, took_s, _KNOWN if page.is_known else _GOOD, 1)
        key = endpoint.answer_type, page.is_known, page.cache_control
        head = self._page_heads.get(key)
        if head is None:
            head = self._page_heads[key] = page_head(endpoint.answer_type, self._date, page)
        return head + page_end(self._next_prefix() + b"0000", page)

    def _head(self, endpoint: QuickEndpoint) -> bytes:
        media_type = endpoint.answer_type or endpoint.media_type
        head = self._heads.get(media_type)
        if head is None:
            head = self._heads[media_type] = answer_head(media_type, self._date)
        return head

    def _next_prefix(self) -> bytes:
        """12 of the 16 digits of a request's id that no others of this process begin with."""
        self._prefix = (self._prefix + _PREFIX_STEP) & _PREFIX_MASK
        return b"%012x" % self._prefix


def _before_body(size: int) -> bytes:
    return answer_end(b"", size)
