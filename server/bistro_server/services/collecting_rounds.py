"""Runs the collectors of some or all calls: once until nothing moves, or until ``repair_by``.

Source: docs/spec/commands.md, collect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Final

from bistro.clock import Clock
from bistro.net.session import Session
from bistro.storage.disk import SYSTEM_DISK, Disk
from bistro_server.services.calls import Call, CallRegistry
from bistro_server.services.collecting import Collector
from bistro_server.services.collecting_relays import RelayDesk, newest_relays
from bistro_server.services.collecting_survey import OpenLog
from bistro_server.services.control import open_log
from bistro_server.services.folder import ServerFolder
from bistro_server.store.collection_done import Progress
from bistro_server.store.schema import open_database
from bistro_server.store.status_files import StatusFiles
from bistro_server.store.submissions import Submissions

PAUSE_S: Final = 1.0


async def _pause() -> None:
    await asyncio.sleep(PAUSE_S)


@dataclass(frozen=True, slots=True)
class Collected:
    """Where collecting a call stands at the end.

    Attributes:
        call: The call id.
        progress: How far it is.
        failures: Relays that could not be used in the last round, and why.
    """

    call: str
    progress: Progress
    failures: dict[str, str]


Collecting = Progress
"""How far collecting is, for callers that must not see the store."""

Report = Callable[[str, Collecting], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """Collects the calls of a server.

    Attributes:
        folder: The server's folder.
        clock: Signs requests, and stamps if the log must be opened here.
        error_limit_ms: The largest clock error with which to stamp.
        bytes_per_s: The pace that all relays together are asked to keep; none by default.
        pause: Waits between two looks while watching.
        disk: The system calls to use for fragments and envelopes.
    """

    folder: ServerFolder
    clock: Clock
    error_limit_ms: int
    bytes_per_s: int | None = None
    pause: Callable[[], Awaitable[None]] = _pause
    disk: Disk = SYSTEM_DISK

    async def run(
        self,
        calls: Collection[str] = (),
        *,
        is_watching: bool = False,
        report: Report | None = None,
    ) -> list[Collected]:
        """Collect ``calls``, or all of them if none is named.

        Args:
            calls: Call ids.
            is_watching: Go on until ``repair_by`` of every call; else until nothing moves.
            report: Told how far each call is.

        Raises:
            UnknownObjectError: There is no such call.
            UnavailableError: Another process collects, or holds database or log for too long.
            StorageError: Our own disk failed.
        """
        database = await open_database(self.folder.database)
        try:
            submissions = Submissions(database, StatusFiles(self.folder.status), self.clock)
            async with Session() as session:
                while True:
                    # Read anew each time: calls and versions of terms may have come.
                    found = await asyncio.to_thread(self._load, calls)
                    results = [
                        await self._collect(call, submissions, session, report) for call in found
                    ]
                    is_over = all(self.clock.now() > call.terms.repair_by for call in found)
                    if not is_watching or is_over:
                        return results
                    await self.pause()
        finally:
            await database.close()

    def _load(self, calls: Collection[str]) -> list[Call]:
        registry = CallRegistry(self.folder)
        return [registry.load(one) for one in calls or registry.ids()]

    async def _collect(
        self, call: Call, submissions: Submissions, session: Session, report: Report | None
    ) -> Collected:
        """Rounds until one brings nothing forward."""
        relays = newest_relays(call)
        share = None if self.bytes_per_s is None else max(self.bytes_per_s // len(relays), 1)
        desks = [RelayDesk(relay, call, session, self.clock, bytes_per_s=share) for relay in relays]

        def tell(progress: Progress) -> None:
            if report is not None:
                report(call.id, progress)

        async with Collector.opened(
            call, submissions, desks, self._log_of(call), self.clock, disk=self.disk
        ) as collector:
            while True:
                done = await collector.round(tell)
                if not done.steps:
                    failures = {
                        name: "; ".join(filter(None, (failure.message, failure.hint)))
                        for name, failure in done.failures.items()
                    }
                    return Collected(call.id, await collector.progress(), failures)

    def _log_of(self, call: Call) -> OpenLog:
        return partial(open_log, self.folder, call, self.clock, error_limit_ms=self.error_limit_ms)
