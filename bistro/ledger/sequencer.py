"""The sequencer: gives waiting claims their order, time and index, and answers when durable.

Whatever waits when the previous batch is done becomes the next one; there is no timer. Within
a batch claims are sorted by when they were received, and ``time = max(previous, received)``.
Each claim is answered for itself: one that is refused, or whose waiter is gone, changes
nothing for the others. Repeated keys are answered by a task of their own, behind new ones.

Source: docs/spec/ticketing.md, the batch.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from bistro.clock import Clock
from bistro.errors import BistroError, OverloadedError, StorageError, UnavailableError
from bistro.instant import UnixMillis
from bistro.ledger.batch import Batch
from bistro.ledger.claims import Claim, Draft, Gathering, Result
from bistro.ledger.ledger import Appended, Ledger
from bistro.ledger.stamping import DEFAULT_ERROR_LIMIT_MS, ClockGuard
from bistro.storage.finishing import finish

__all__ = ["BATCH_LIMIT", "QUEUE_LIMIT", "BatchReport", "Claim", "Draft", "Result", "Sequencer"]

BATCH_LIMIT: Final = 1_000
QUEUE_LIMIT: Final = 20_000

_received_at = attrgetter("received_at")


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
        self._queue: deque[Claim] = deque()
        self._duplicates: deque[tuple[Claim, int]] = deque()
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
        gathering = Gathering(drafts)
        self.enqueue(gathering.claims)
        return await gathering.wait()

    def enqueue(self, claims: Sequence[Claim]) -> None:
        """Let claims wait; each is told its result.

        Raises:
            OverloadedError: There is no room for all of them; none was stamped.
            UnavailableError: The ledger has stopped.
        """
        if self._stopped is not None:
            raise self._stopped_error()
        if len(self._queue) + len(claims) > self._queue_limit:
            rounds = len(self._queue) // self._batch_limit + 1
            raise OverloadedError(
                f"ledger {self._ledger.origin}: {len(self._queue)} requests wait already",
                retry_after_s=max(1.0, rounds * self._batch_ms / 1_000),
            )
        self._queue.extend(claims)
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
            for claim in [*self._queue, *(claim for claim, _ in self._duplicates)]:
                claim.tell(self._stopped_error())
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

    def _take(self) -> list[Claim]:
        """The next batch in order; what comes behind a barrier goes back into the queue."""
        queue = self._queue
        if len(queue) <= self._batch_limit:
            taken = [claim for claim in queue if not claim.is_done]
            queue.clear()
        else:
            popped = [queue.popleft() for _ in range(self._batch_limit)]
            taken = [claim for claim in popped if not claim.is_done]
        taken.sort(key=_received_at)
        for at, claim in enumerate(taken, start=1):
            if claim.is_barrier:
                queue.extendleft(reversed(taken[at:]))
                return taken[:at]
        return taken

    async def _process(self, claims: list[Claim]) -> None:
        new = claims
        try:
            new = await self._set_aside_duplicates(claims)
            if new:
                now = self._guard.require_time(
                    previous=self._ledger.last_time, received=new[-1].received_at
                )
                await self._stamp(new, now, duplicate_count=len(claims) - len(new))
        except UnavailableError as exc:
            # Nothing was written: the clock's error is too large, or the signer is away.
            for claim in new:
                claim.tell(exc)
            if self._ledger.failure is not None:
                raise StorageError(exc.message, hint=exc.hint) from exc
        except BaseException as exc:
            self._stopped = str(exc) or type(exc).__name__
            for claim in new:
                claim.tell(self._stopped_error())
            raise

    async def _set_aside_duplicates(self, claims: list[Claim]) -> list[Claim]:
        """The claims whose keys no durable entry has."""
        known = await self._ledger.lookup([claim.key for claim in claims if claim.key is not None])
        if not known:
            return claims
        new: list[Claim] = []
        for claim in claims:
            if claim.key in known:
                self._duplicates.append((claim, known[claim.key]))
                self._has_duplicates.set()
            else:
                new.append(claim)
        return new

    async def _stamp(self, claims: list[Claim], now: UnixMillis, *, duplicate_count: int) -> None:
        began = self._clock.monotonic_ms()
        batch = Batch(self._ledger.last_time, now, self.max_wait_ms)
        batch.stamp(claims)
        if batch.items:
            batch.settle(await self._ledger.append(batch.items, last_time=batch.time))
        self._batch_ms = max(1, self._clock.monotonic_ms() - began)
        if self._report is not None:
            repeated_count = len(claims) - len(batch.items) - batch.refused_count
            self._report(
                BatchReport(
                    appended_count=len(batch.items),
                    duplicate_count=duplicate_count + repeated_count,
                    refused_count=batch.refused_count,
                    waited_ms=max(0, now - claims[0].received_at),
                    took_ms=self._batch_ms,
                )
            )

    async def _run_duplicates(self) -> None:
        while True:
            await self._has_duplicates.wait()
            self._has_duplicates.clear()
            while self._duplicates:
                claim, index = self._duplicates.popleft()
                if not claim.is_done:
                    await self._answer_duplicate(claim, index)

    async def _answer_duplicate(self, claim: Claim, index: int) -> None:
        try:
            claim.tell(await self._ledger.prove(index))
        except BaseException as exc:
            claim.tell(UnavailableError(f"entry {index} cannot be proven now: {exc}"))
            raise
