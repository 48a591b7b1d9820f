"""The sequencer: gives waiting drafts their order, time and index, and answers when durable.

Whatever waits when the previous batch is done becomes the next one; there is no timer. Within
a batch drafts are sorted by when they were received, and ``time = max(previous, received)``.
Each draft is answered for itself: one that is refused, or whose waiter is gone, changes
nothing for the others. Repeated keys are answered by a task of their own, behind new ones.

Source: docs/spec/ticketing.md, the batch.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bistro.clock import Clock
from bistro.errors import BistroError, OverloadedError, StorageError, UnavailableError
from bistro.instant import UnixMillis
from bistro.ledger.ledger import Appended, Ledger
from bistro.ledger.record import Item
from bistro.ledger.stamping import DEFAULT_ERROR_LIMIT_MS, ClockGuard
from bistro.storage.finishing import finish

BATCH_LIMIT: Final = 1_000
QUEUE_LIMIT: Final = 20_000


@dataclass(frozen=True, slots=True)
class Draft:
    """What somebody wants to have in a ledger.

    Attributes:
        key: What it is unique by, 1-255 bytes; ``None``: each is a new entry.
        received_at: When the request's last byte had been read.
        build: Makes the entry for the time that it gets. It may raise a ``BistroError``, such
            as ``DeadlinePassedError``, which refuses this draft alone; it must not block.
        is_barrier: Whether its batch ends with it, so that later drafts are built only when it
            is durable and ``on_durable`` has run: for entries that change the rules.
        on_durable: Called once the entry is durable, before anything that comes later is
            built; not for duplicates. It must not raise or block.
    """

    key: bytes | None
    received_at: UnixMillis
    build: Callable[[UnixMillis], bytes]
    is_barrier: bool = False
    on_durable: Callable[[Appended], None] | None = None


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What happened to a batch, for metrics.

    Attributes:
        appended_count: New entries.
        duplicate_count: Drafts whose key was known.
        refused_count: Drafts refused by their own ``build``, or for waiting too long.
        waited_ms: How long the oldest draft had waited when the batch began.
        took_ms: How long signing, writing and syncing took.
    """

    appended_count: int
    duplicate_count: int
    refused_count: int
    waited_ms: int
    took_ms: int


Result = Appended | BistroError


class _Waiting:
    """A draft and the one who waits for it."""

    __slots__ = ("draft", "result")

    def __init__(self, draft: Draft, result: asyncio.Future[Result]) -> None:
        self.draft = draft
        self.result = result

    def answer(self, result: Result) -> None:
        """Hand out the result, unless nobody waits any more."""
        if not self.result.done():
            self.result.set_result(result)


class Sequencer:
    """Orders drafts into a ledger; ``run`` is the part that does it.

    Args:
        ledger: Nobody else appends to it.
        clock: Stamps; its error bound is looked at before every batch.
        error_limit_ms: The largest error bound with which to stamp.
        batch_limit: Entries of one batch at most.
        queue_limit: Drafts that may wait; more are refused before memory grows.
        report: Called after every batch, for metrics.

    Attributes:
        max_wait_ms: A draft that has waited longer is refused unstamped; ``None``: no limit.
            The owner sets it to half the call's grace period, and again when that changes.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        *,
        error_limit_ms: int = DEFAULT_ERROR_LIMIT_MS,
        batch_limit: int = BATCH_LIMIT,
        queue_limit: int = QUEUE_LIMIT,
        report: Callable[[BatchReport], None] | None = None,
    ) -> None:
        self.max_wait_ms: int | None = None
        self._ledger = ledger
        self._clock = clock
        self._guard = ClockGuard(clock, error_limit_ms=error_limit_ms)
        self._batch_limit = batch_limit
        self._queue_limit = queue_limit
        self._report = report
        self._queue: deque[_Waiting] = deque()
        self._duplicates: deque[tuple[_Waiting, int]] = deque()
        self._has_work = asyncio.Event()
        self._has_duplicates = asyncio.Event()
        self._batch_ms = 1
        self._stopped: str | None = None

    async def submit(self, draft: Draft) -> Appended:
        """The draft's place, once it is durable; an earlier entry if its key is known.

        Raises:
            OverloadedError: Too many wait, or it waited too long; it was not stamped.
            UnavailableError: The ledger cannot stamp or has stopped; asking again later is
                harmless, whether the entry lasted or not.
            BistroError: What ``build`` raised.
        """
        (result,) = await self.submit_all([draft])
        if isinstance(result, BistroError):
            # A copy: a batch shares its error, and raising one object in many places
            # would keep all their frames alive.
            raise copy.copy(result)
        return result

    async def submit_all(self, drafts: Sequence[Draft]) -> list[Result]:
        """As ``submit`` for several; errors of single drafts are values, in order.

        Raises:
            OverloadedError: There is no room for all of them; none was stamped.
            UnavailableError: The ledger has stopped.
        """
        if self._stopped is not None:
            raise self._stopped_error()
        if len(self._queue) + len(drafts) > self._queue_limit:
            rounds = len(self._queue) // self._batch_limit + 1
            raise OverloadedError(
                f"ledger {self._ledger.origin}: {len(self._queue)} requests wait already",
                retry_after_s=max(1.0, rounds * self._batch_ms / 1_000),
            )
        loop = asyncio.get_running_loop()
        waiting = [_Waiting(draft, loop.create_future()) for draft in drafts]
        self._queue.extend(waiting)
        self._has_work.set()
        try:
            return [await one.result for one in waiting]
        finally:
            # A caller that goes away takes along what is not stamped yet.
            for one in waiting:
                one.result.cancel()

    async def run(self) -> None:
        """Order drafts until cancelled; a batch that has begun is finished and answered.

        Raises:
            StorageError: The ledger has stopped: its disk failed or the clock was set.
        """
        try:
            async with asyncio.TaskGroup() as parts:
                parts.create_task(self._run_batches())
                parts.create_task(self._run_duplicates())
                parts.create_task(self._ledger.run_publisher())
        except BaseExceptionGroup as failures:
            # One failure stops the other two, so there is one worth naming.
            self._stopped = str(failures.exceptions[0])
            raise failures.exceptions[0] from failures
        finally:
            self._stopped = self._stopped or "it was shut down"
            for one in [*self._queue, *(waiting for waiting, _ in self._duplicates)]:
                one.answer(self._stopped_error())
            self._queue.clear()
            self._duplicates.clear()

    def _stopped_error(self) -> UnavailableError:
        return UnavailableError(
            f"ledger {self._ledger.origin} has stopped: {self._stopped}",
            hint="ask again later: that is harmless, whether the entry lasted or not",
        )

    async def _run_batches(self) -> None:
        while True:
            await self._has_work.wait()
            batch = self._take()
            await finish(self._process(batch))
            if not self._queue:
                self._has_work.clear()

    def _take(self) -> list[_Waiting]:
        """The next batch in order; what comes behind a barrier goes back into the queue."""
        count = min(len(self._queue), self._batch_limit)
        taken = [self._queue.popleft() for _ in range(count)]
        taken = [one for one in taken if not one.result.done()]
        taken.sort(key=lambda one: one.draft.received_at)
        for at, one in enumerate(taken, start=1):
            if one.draft.is_barrier:
                self._queue.extendleft(reversed(taken[at:]))
                return taken[:at]
        return taken

    async def _process(self, batch: list[_Waiting]) -> None:
        new = batch
        try:
            new = await self._set_aside_duplicates(batch)
            if new:
                now = self._guard.require_time(
                    previous=self._ledger.last_time, received=new[-1].draft.received_at
                )
                await self._stamp(new, now, duplicate_count=len(batch) - len(new))
        except UnavailableError as exc:
            # Nothing was written: the clock's error is too large, or the signer is away.
            for one in new:
                one.answer(exc)
            if self._ledger.failure is not None:
                raise StorageError(exc.message, hint=exc.hint) from exc
        except BaseException as exc:
            self._stopped = str(exc) or type(exc).__name__
            for one in new:
                one.answer(self._stopped_error())
            raise

    async def _set_aside_duplicates(self, batch: list[_Waiting]) -> list[_Waiting]:
        """The drafts of the batch whose keys no durable entry has."""
        keys = [one.draft.key for one in batch if one.draft.key is not None]
        known = await self._ledger.lookup(keys)
        new: list[_Waiting] = []
        for one in batch:
            if one.draft.key in known:
                self._duplicates.append((one, known[one.draft.key]))
                self._has_duplicates.set()
            else:
                new.append(one)
        return new

    async def _stamp(self, batch: list[_Waiting], now: UnixMillis, *, duplicate_count: int) -> None:
        began = self._clock.monotonic_ms()
        stamping = _Stamping(self._ledger.last_time, now, self.max_wait_ms)
        for one in batch:
            stamping.stamp(one)
        if stamping.items:
            appended = await self._ledger.append(stamping.items, last_time=stamping.time)
            stamping.answer(appended)
        self._batch_ms = max(1, self._clock.monotonic_ms() - began)
        if self._report is not None:
            repeated_count = len(batch) - len(stamping.items) - stamping.refused_count
            self._report(
                BatchReport(
                    appended_count=len(stamping.items),
                    duplicate_count=duplicate_count + repeated_count,
                    refused_count=stamping.refused_count,
                    waited_ms=max(0, now - batch[0].draft.received_at),
                    took_ms=self._batch_ms,
                )
            )

    async def _run_duplicates(self) -> None:
        while True:
            await self._has_duplicates.wait()
            self._has_duplicates.clear()
            while self._duplicates:
                one, index = self._duplicates.popleft()
                if not one.result.done():
                    await self._answer_duplicate(one, index)

    async def _answer_duplicate(self, one: _Waiting, index: int) -> None:
        try:
            one.answer(await self._ledger.prove(index))
        except BaseException as exc:
            one.answer(UnavailableError(f"entry {index} cannot be proven now: {exc}"))
            raise


class _Stamping:
    """A batch in the making: which drafts become entries, at which time.

    Attributes:
        items: The new entries.
        time: Time of the last of them, or of the entry before.
        refused_count: Drafts that were answered with an error.
    """

    def __init__(self, previous: UnixMillis, now: UnixMillis, max_wait_ms: int | None) -> None:
        self.items: list[Item] = []
        self.time = previous
        self.refused_count = 0
        self._now = now
        self._max_wait_ms = max_wait_ms
        self._new: list[_Waiting] = []
        self._by_key: dict[bytes, int] = {}
        self._repeated: list[tuple[_Waiting, int]] = []

    def stamp(self, one: _Waiting) -> None:
        """Make it an entry, the repetition of one, or answer it with an error."""
        draft = one.draft
        if draft.key is not None and draft.key in self._by_key:
            self._repeated.append((one, self._by_key[draft.key]))
            return
        time = max(self.time, draft.received_at)
        try:
            waited_ms = self._now - draft.received_at
            if self._max_wait_ms is not None and waited_ms > self._max_wait_ms:
                raise OverloadedError(
                    f"waited {waited_ms} ms, expected at most {self._max_wait_ms} ms",
                    retry_after_s=1.0,
                )
            item = Item(draft.key, draft.build(time))
            item.require_sizes()
        except BistroError as exc:
            # The one refusal concerns nobody else, and does not move the time.
            one.answer(exc)
            self.refused_count += 1
            return
        if draft.key is not None:
            self._by_key[draft.key] = len(self.items)
        self.time = time
        self.items.append(item)
        self._new.append(one)

    def answer(self, appended: Sequence[Appended]) -> None:
        """Tell what is durable: first to those who set rules, then to those who wait."""
        for one, entry in zip(self._new, appended, strict=True):
            if one.draft.on_durable is not None:
                one.draft.on_durable(entry)
        for one, entry in zip(self._new, appended, strict=True):
            one.answer(entry)
        for one, at in self._repeated:
            one.answer(replace(appended[at], is_duplicate=True))
