"""A relay as the collector sees it: bounded in time, and never believed.

Whatever a relay does - silence, nonsense, an error of its own - becomes ``UnavailableError``
that names it: a ``StorageError`` in this process is always our own disk. How long a relay may
take for one answer is bounded here; how much it may send is bounded by what was asked for.

Source: docs/spec/collection.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Final

from bistro.clock import Clock
from bistro.errors import BistroError, UnavailableError
from bistro.net.collector_client import CollectorClient, Frame
from bistro.net.session import Session
from bistro.wire.batches import BatchItem, Release, ReleaseAnswer
from bistro.wire.clauses import Relay
from bistro.wire.staging import StagedRow
from bistro_server.services.calls import Call

ANSWER_TIME_S: Final = 60.0
BATCH_TIME_S: Final = 60.0
"""How long one batch may run; what has arrived by then is kept, the rest is asked for again."""
LEAST_SIZE: Final = 1_048_576
"""Bytes that must have come in that time: a slower relay is left for those that are faster."""


class RelayDesk:
    """Asks one relay on behalf of one call.

    Args:
        relay: As the terms name it.
        call: Whose collect key signs.
        session: An open session.
        clock: Dates signatures.
        bytes_per_s: The pace it is asked to keep, if any.
        answer_time_s: How long a whole answer may take.
        batch_time_s: How long one batch may run.
    """

    def __init__(  # noqa: PLR0913 - limits have defaults
        self,
        relay: Relay,
        call: Call,
        session: Session,
        clock: Clock,
        *,
        bytes_per_s: int | None = None,
        answer_time_s: float = ANSWER_TIME_S,
        batch_time_s: float = BATCH_TIME_S,
    ) -> None:
        self.name = relay.name
        self._client = CollectorClient(session, relay.url, key=call.collect_key, clock=clock)
        self._bytes_per_s = bytes_per_s
        self._answer_time_s = answer_time_s
        self._batch_time_s = batch_time_s

    @property
    def least_size(self) -> int:
        """Bytes that must have come when a batch has run out of time."""
        if self._bytes_per_s is None:
            return LEAST_SIZE
        return min(LEAST_SIZE, int(self._bytes_per_s * self._batch_time_s) // 2)

    async def staged(self, *, after: int, limit: int, wait_s: int = 0) -> tuple[StagedRow, ...]:
        """Rows of its list behind ``after``.

        Raises:
            UnavailableError: No good answer in time.
        """
        with self._blamed():
            async with asyncio.timeout(self._answer_time_s + wait_s):
                rows = await self._client.fetch_staged(after=after, limit=limit, wait_s=wait_s)
        if rows and rows[0].cursor <= after:
            raise UnavailableError(
                f"relay {self.name}: expected rows behind {after}, found {rows[0].cursor}"
            )
        return rows

    @asynccontextmanager
    async def batch(self, items: Sequence[BatchItem]) -> AsyncIterator[AsyncIterator[Frame]]:
        """Fragments in one stream, which ends where its time is over; the rest is asked again.

        Raises:
            UnavailableError: Also while iterating: nonsense or silence.
        """
        async with AsyncExitStack() as stack:
            batch = self._client.fetch_batch(items, bytes_per_s=self._bytes_per_s)
            deadline = asyncio.get_running_loop().time() + self._batch_time_s
            with self._blamed():
                async with asyncio.timeout_at(deadline):
                    frames = await stack.enter_async_context(batch)
            yield self._pieces(frames, deadline)

    async def _pieces(self, frames: AsyncIterator[Frame], deadline: float) -> AsyncIterator[Frame]:
        while True:
            try:
                with self._blamed():
                    frame = await _next(frames, deadline)
            except _OutOfTimeError:
                return
            if frame is None:
                return
            yield frame

    async def release(self, releases: Sequence[Release]) -> tuple[ReleaseAnswer, ...]:
        """Tell that fragments are durable here; one answer each.

        Raises:
            UnavailableError: Perhaps done: a repeated release is harmless.
        """
        with self._blamed():
            async with asyncio.timeout(self._answer_time_s):
                return await self._client.release(releases)

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as exc:
            raise UnavailableError(f"relay {self.name}: it took too long") from exc
        except BistroError as exc:
            message = f"relay {self.name}: {exc.code}: {exc.message}"
            raise UnavailableError(message, hint=exc.hint) from exc


def newest_relays(call: Call) -> list[Relay]:
    """Every relay that any version of the terms names, at the address of the newest that does."""
    return list({relay.name: relay for relay in call.relays}.values())


class _OutOfTimeError(Exception):
    """A batch has run as long as it may."""


async def _next(frames: AsyncIterator[Frame], deadline: float) -> Frame | None:
    timeout = asyncio.timeout_at(deadline)
    try:
        async with timeout:
            return await anext(frames, None)
    except TimeoutError:
        raise _OutOfTimeError from None
