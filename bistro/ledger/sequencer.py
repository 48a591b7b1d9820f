"""The sequencer: gives waiting claims their order, time and index, and answers when durable.

Whatever waits when the previous batch is done becomes the next one, once the event loop has
read what is readable; there is no timer. Within a batch claims and lots are sorted by when
they were received, and ``time = max(previous, received)``. Each claim is answered for itself:
one that is refused, or whose waiter is gone, changes nothing for the others. Repeated keys
are answered by a task of their own, behind new ones; a lot gives them up as claims.

Source: docs/spec/ticketing.md, the batch.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from bistro.clock import Clock
from bistro.errors import BistroError, OverloadedError, StorageError, UnavailableError
from bistro.instant import UnixMillis
from bistro.ledger.appended import Appended
from bistro.ledger.batch import Batch, Waiting, keys_of, part_known, part_repeated
from bistro.ledger.claims import Claim, Draft, Gathering, Lot, Result
from bistro.ledger.ledger import Ledger
from bistro.ledger.stamping import DEFAULT_ERROR_LIMIT_MS, ClockGuard
from bistro.storage.finishing import finish

__all__ = ["BATCH_LIMIT", "QUEUE_LIMIT", "BatchReport", "Claim", "Draft", "Result", "Sequencer"]

BATCH_LIMIT: Final = 1_000
QUEUE_LIMIT: Final = 20_000

_MAX_PASSES: Final = 16
"""Passes of the event loop that a batch waits at most while requests keep coming in."""

_SILENT_PASSES: Final = 1
"""Of these that may bring none: a pass is shorter than the way of an answer and a new request."""

_received_at = attrgetter("received_at")


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What happened to a batch, for metrics.

    Attributes:
        appended_count: New entries.
        duplicate_count: Drafts whose key was known.
        refused: Drafts refused by their own ``build``, or for waiting too long, by error code.
        waited_ms: How long the oldest draft had waited when the batch began.
        took_ms: How long signing, writing and syncing took.
    """

    appended_count: int
    duplicate_count: int
    refused: Mapping[str, int]
    waited_ms: int
    took_ms: int


class Sequencer:
    """Orders drafts into a ledger; ``run`` is the part that does it.

    Args:
        ledger: Nobody else appends to it.
        clock: Stamps; its error bound is looked at before every batch.
        error_limit_ms: The largest error bound with which to stamp.
        batch_limit: Entries of one batch at most; a lot is not divided, a larger one is a batch.
        queue_limit: Entries that may be waited for; more are refused before memory grows.
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
        self._queue: deque[Waiting] = deque()
        self._waiting_count = 0
        self._duplicates: deque[tuple[Claim, int]] = deque()
        self._has_work = asyncio.Event()
        self._has_duplicates = asyncio.Event()
        self._batch_ms = 1
        self._stopped: str | None = None
        self._is_ending = False

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
        gathering = Gathering(drafts)
        self.enqueue(gathering.claims)
        return await gathering.wait()

    def enqueue(self, waiting: Sequence[Waiting]) -> None:
        """Let claims and lots wait; each is told its result.

        Raises:
            OverloadedError: There is no room for all of them; none was stamped.
            UnavailableError: The ledger has stopped.
        """
        if self._stopped is not None:
            raise self._stopped_error()
        count = sum([one.count for one in waiting])
        if self._waiting_count + count > self._queue_limit:
            rounds = self._waiting_count // self._batch_limit + 1
            raise OverloadedError(
                f"ledger {self._ledger.origin}: {self._waiting_count} requests wait already",
                retry_after_s=max(1.0, rounds * self._batch_ms / 1_000),
            )
        self._queue.extend(waiting)
        self._waiting_count += count
        self._has_work.set()

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
            for one in [*self._queue, *(claim for claim, _ in self._duplicates)]:
                one.decline(self._stopped_error())
            self._queue.clear()
            self._duplicates.clear()

    def _stopped_error(self) -> UnavailableError:
        return UnavailableError(
            f"ledger {self._ledger.origin} has stopped: {self._stopped}",
            hint="ask again later: that is harmless, whether the entry lasted or not",
        )

    async def _run_batches(self) -> None:
        # One task for all batches, because one for each would cost as much as ten tickets.
        working = asyncio.ensure_future(self._work())  # noqa: TID251 - its parent waits for it here
        try:
            await asyncio.shield(working)
        except asyncio.CancelledError:
            self._is_ending = True
            self._has_work.set()
            await finish(_end_of(working))
            raise

    async def _work(self) -> None:
        while await self._has_more():
            await self._process(self._take())
            if not self._queue:
                self._has_work.clear()

    async def _has_more(self) -> bool:
        """Wait until something waits; false once no other batch is to begin."""
        if not self._is_ending:
            await self._has_work.wait()
            await self._let_requests_in()
        return not self._is_ending

    async def _let_requests_in(self) -> None:
        """Give the event loop passes for as long as each brings more.

        A sync costs as much as dozens of tickets, so requests that are readable already should
        share it. Passes take microseconds: nobody waits for somebody who has not asked yet.
        """
        count = silent = 0
        for _ in range(_MAX_PASSES):
            silent = silent + 1 if count == self._waiting_count else 0
            if silent > _SILENT_PASSES or self._waiting_count >= self._batch_limit:
                return
            count = self._waiting_count
            await asyncio.sleep(0)

    def _take(self) -> list[Waiting]:
        """The next batch in order; what comes behind a barrier goes back into the queue."""
        queue = self._queue
        taken: list[Waiting] = []
        count = 0
        while queue and (not count or count + queue[0].count <= self._batch_limit):
            one = queue.popleft()
            count += one.count
            if isinstance(one, Lot):
                self._waiting_count -= one.count
                one.prune()
                if one.count:
                    taken.append(one)
            else:
                self._waiting_count -= 1
                if one.is_wanted():
                    taken.append(one)
        taken.sort(key=_received_at)
        for at, one in enumerate(taken, start=1):
            if isinstance(one, Claim) and one.is_barrier:
                queue.extendleft(reversed(taken[at:]))
                self._waiting_count += sum([other.count for other in taken[at:]])
                return taken[:at]
        return taken

    async def _process(self, waiting: list[Waiting]) -> None:
        new = waiting
        try:
            count = sum([one.count for one in waiting])
            new = await self._set_aside_duplicates(waiting)
            if new:
                now = self._guard.require_time(
                    previous=self._ledger.last_time, received=new[-1].received_at
                )
                await self._stamp(new, now, count=count)
            elif self._report is not None:
                self._report(BatchReport(0, count, {}, waited_ms=0, took_ms=0))
        except UnavailableError as exc:
            # Nothing was written: the clock's error is too large, or the signer is away.
            for one in new:
                one.decline(exc)
            if self._ledger.failure is not None:
                raise StorageError(exc.message, hint=exc.hint) from exc
        except BaseException as exc:
            self._stopped = str(exc) or type(exc).__name__
            for one in new:
                one.decline(self._stopped_error())
            raise

    async def _set_aside_duplicates(self, waiting: list[Waiting]) -> list[Waiting]:
        """Those whose keys no durable entry has; no lot with a key that came before it."""
        keys = keys_of(waiting)
        known = await self._ledger.lookup(keys)
        if known:
            waiting, repeated = part_known(waiting, known)
            self._duplicates += repeated
            self._has_duplicates.set()
        return part_repeated(waiting) if len(set(keys)) < len(keys) else waiting

    async def _stamp(self, waiting: list[Waiting], now: UnixMillis, *, count: int) -> None:
        began = self._clock.monotonic_ms()
        batch = Batch(self._ledger.last_time, now, self.max_wait_ms)
        batch.stamp(waiting)
        appended_count = len(batch.entries)
        if appended_count:
            batch.settle(
                await self._ledger.append(
                    batch.keys, batch.entries, last_time=batch.time, prepare=batch.prepare
                )
            )
        self._batch_ms = max(1, self._clock.monotonic_ms() - began)
        if self._report is not None:
            self._report(
                BatchReport(
                    appended_count=appended_count,
                    duplicate_count=count - appended_count - batch.refused.total(),
                    refused=batch.refused,
                    waited_ms=max(0, now - waiting[0].received_at),
                    took_ms=self._batch_ms,
                )
            )

    async def _run_duplicates(self) -> None:
        while True:
            await self._has_duplicates.wait()
            self._has_duplicates.clear()
            while self._duplicates:
                claim, index = self._duplicates.popleft()
                if claim.is_wanted():
                    await self._answer_duplicate(claim, index)

    async def _answer_duplicate(self, claim: Claim, index: int) -> None:
        try:
            claim.tell(await self._ledger.prove(index))
        except BaseException as exc:
            claim.tell(UnavailableError(f"entry {index} cannot be proven now: {exc}"))
            raise


async def _end_of(task: asyncio.Task[None]) -> None:
    await task
