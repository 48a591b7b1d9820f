"""The calls that a running ``serve`` attends: new ones are picked up while it runs.

Each open call has its own parts: two sequencers, and a round that closes it when it is due and
keeps rows and statuses in step. A call whose ledger another process holds (``open`` working
while ``serve`` was down) is not available, and is tried again every round.

The clock is watched, too: a call whose log ends later than this clock is not attended, and a
clock that is set stops the server at once and not with the next ticket.

Source: docs/spec/commands.md; docs/spec/ticketing.md, the clock; docs/architecture.md, background
work.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from bistro.clock import Clock
from bistro.daemon import logs, supervise
from bistro.daemon.recurring import Recurring
from bistro.errors import UnavailableError, UnknownObjectError
from bistro.ledger.stamping import ClockGuard
from bistro_server.services.calls import Call, CallRegistry
from bistro_server.services.closing import Closer
from bistro_server.services.ledgers import CallLedgers
from bistro_server.services.statuses import StatusKeeper
from bistro_server.services.timekeeping import require_clock_reached, require_trusted_clock
from bistro_server.store.submissions import Submissions

Opener = Callable[[Call], Awaitable[CallLedgers]]

_REST: Final = 10

_log = logs.get_logger("calls")


class CallsInService:
    """All calls of this server with their ledgers open.

    Args:
        registry: Where calls appear.
        submissions: Where tickets become rows.
        clock: Stamps, and says what is due.
        opener: Opens the ledgers of a call, as ``CallLedgers.open`` does.
        error_limit_ms: The largest clock error with which to stamp.
        poll_s: Pause between two rounds.
        report: Told the code of each error that interrupts a round.
    """

    def __init__(  # noqa: PLR0913 - each by name but what it works with
        self,
        registry: CallRegistry,
        submissions: Submissions,
        clock: Clock,
        opener: Opener,
        *,
        error_limit_ms: int,
        poll_s: float,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._registry = registry
        self._submissions = submissions
        self._clock = clock
        self._error_limit_ms = error_limit_ms
        self._guard = ClockGuard(clock, error_limit_ms=error_limit_ms)
        self._poll_s = poll_s
        self._report = report
        self._opener = opener
        self._open: dict[str, CallLedgers] = {}
        self._waiting: dict[str, UnavailableError] = {}

    def __iter__(self) -> Iterator[CallLedgers]:
        """Every open call, in order of the ids."""
        return iter([self._open[call] for call in sorted(self._open)])

    def get(self, call: str) -> CallLedgers:
        """An open call.

        Raises:
            UnknownObjectError: There is no such call.
            UnavailableError: Its ledger is in use by another process.
        """
        if call in self._open:
            return self._open[call]
        if call in self._waiting:
            raise self._waiting[call]
        raise UnknownObjectError("there is no such call here", hint="check the call id")

    def require_ready(self) -> None:
        """Accept a server whose clock may stamp and whose calls take entries.

        Raises:
            UnavailableError: What prevents it.
        """
        bound = self._clock.error_bound_ms()
        if bound is None or bound > self._error_limit_ms:
            require_trusted_clock(self._clock, error_limit_ms=self._error_limit_ms)
        for ledgers in self._open.values():
            ledgers.require_ready()
        for error in self._waiting.values():
            raise error

    async def open_new(self) -> list[CallLedgers]:
        """Open the calls that are not open yet; those that are new.

        Raises:
            SettingsError: A key file is missing.
            StorageError: A ledger or file is damaged, a ledger is older than it was, or it ends
                later than this clock.
        """
        found = await asyncio.to_thread(self._registry.ids)
        tried = [await self._try_open(call) for call in found if call not in self._open]
        return [ledgers for ledgers in tried if ledgers is not None]

    async def _try_open(self, call_id: str) -> CallLedgers | None:
        call = await asyncio.to_thread(self._registry.load, call_id)
        try:
            ledgers = await self._opener(call)
        except UnavailableError as exc:
            if call_id not in self._waiting:
                _log.warning("call_postponed", call=call_id, message=exc.message, hint=exc.hint)
            self._waiting[call_id] = exc
            return None
        try:
            ledgers.require_newest(await self._submissions.tailed(call_id))
            for ledger in (ledgers.log, ledgers.refusals):
                require_clock_reached(self._clock, ledger.last_time, origin=ledger.origin)
        except BaseException:
            await ledgers.close()
            raise
        self._waiting.pop(call_id, None)
        self._open[call_id] = ledgers
        _log.info("call_attended", call=call_id, tree_size=ledgers.log.size)
        return ledgers

    async def run(self) -> None:
        """Attend all calls, old and new, until cancelled.

        Raises:
            StorageError: A disk failed or the clock was set: nothing may be promised any more.
        """
        async with supervise.task_group() as group:
            for ledgers in self:
                self._attend(group, ledgers)
            while True:
                self._require_steady_clock()
                for ledgers in await self.open_new():
                    self._attend(group, ledgers)
                await asyncio.sleep(self._poll_s)

    def _attend(self, group: asyncio.TaskGroup, ledgers: CallLedgers) -> None:
        group.create_task(ledgers.run())
        group.create_task(self._rounds(ledgers, Closer(ledgers, self._clock).step))
        keeper = StatusKeeper(ledgers, self._submissions, self._clock)
        group.create_task(self._rounds(ledgers, keeper.step))

    async def _rounds(self, ledgers: CallLedgers, step: Callable[[], Awaitable[bool]]) -> None:
        """Take a step now and then; with more to do at once, but after ten times as long a rest.

        So what comes after tickets never takes more than a tenth of the time from them.
        """
        loop = asyncio.get_running_loop()
        call, interruptions = ledgers.call.id, Recurring()
        while True:
            began_s, has_more = loop.time(), False
            try:
                has_more = await step()
            except UnavailableError as exc:
                # A busy database, a full disk, a clock that may not stamp: the next round tries
                # again, some times a second.
                self._report(exc.code)
                if count := interruptions.came(exc):
                    _log.warning("round_interrupted", call=call, message=exc.message, count=count)
            else:
                if count := interruptions.ended():
                    _log.info("rounds_resumed", call=call, count=count)
            await asyncio.sleep(_REST * (loop.time() - began_s) if has_more else self._poll_s)

    def _require_steady_clock(self) -> None:
        """Stop over a clock that was set, as the next batch would, also while nobody asks."""
        now = self._clock.now()
        # A bound that is unknown or too large may pass: stamping waits, and readiness says so.
        with contextlib.suppress(UnavailableError):
            self._guard.require_time(previous=now, received=now)

    async def close(self) -> None:
        """Give all ledgers back."""
        for ledgers in self._open.values():
            await ledgers.close()
        self._open.clear()
