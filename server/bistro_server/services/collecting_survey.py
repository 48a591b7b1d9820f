"""Reads what relays list as staged, checks every claim, and records what holds.

A claim counts if its ticket is proven under the call's log key *and* stands in the log that lies
here, at that index: a proof of another log under our key would be news that nobody may act upon.
A row that does not hold is passed over for good; the others of its page count.

Source: docs/spec/collection.md, staged rows; docs/spec/fragments.md, claim.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeVar

from bistro.clock import Clock
from bistro.daemon import logs, supervise
from bistro.errors import BistroError, UnavailableError
from bistro.ledger.tiles import WIDTH
from bistro.wire.entry import Entry, PostmarkedEntry, TicketEntry
from bistro.wire.staging import MAX_STAGED_ROWS, StagedRow
from bistro_server.services.calls import Call
from bistro_server.services.claims import listed_fragment, verify_claim
from bistro_server.services.collecting_relays import RelayDesk
from bistro_server.services.control import CallLog
from bistro_server.store.collection import ROWS_AT_ONCE, CollectionStore
from bistro_server.store.submissions import KnownFragment, Ticketed

MAX_PAGES: Final = 100
"""Pages of one relay in one survey: one that never ends must not hold up the others."""

OpenLog = Callable[[], AbstractAsyncContextManager[CallLog]]
"""Opens the call's log for a moment: while ``serve`` is down it is locked meanwhile."""

_log = logs.get_logger("collecting")

K = TypeVar("K")
T = TypeVar("T")

_Good = tuple[Ticketed, KnownFragment]


class Surveyor:
    """Surveys the relays of one call.

    Args:
        call: The call.
        store: Where rows are recorded; kept as an attribute.
        open_log: Opens the call's log.
        clock: Says when a row was seen.
    """

    def __init__(self, call: Call, store: CollectionStore, open_log: OpenLog, clock: Clock) -> None:
        self._call = call
        self.store = store
        self._open_log = open_log
        self._clock = clock

    async def survey(self, desks: Iterable[RelayDesk]) -> tuple[int, dict[str, UnavailableError]]:
        """Read all lists to their ends.

        Returns:
            How many rows were recorded, and why relays could not be read, by name.

        Raises:
            StorageError: Our own disk failed.
            UnavailableError: The log or the database is held by another process for too long.
        """
        count = 0
        failures: dict[str, UnavailableError] = {}
        left = list(desks)
        for _ in range(MAX_PAGES):
            pages = await self._fetch(left, failures)
            if not any(pages.values()):
                break
            async with self._open_log() as log:
                for desk, rows in pages.items():
                    count += await self._record(desk, rows, log)
            left = [desk for desk, rows in pages.items() if len(rows) == MAX_STAGED_ROWS]
        return count, failures

    async def _fetch(
        self, desks: Sequence[RelayDesk], failures: dict[str, UnavailableError]
    ) -> dict[RelayDesk, tuple[StagedRow, ...]]:
        """A page of each relay, at the same time; who gives none is noted in ``failures``."""

        async def fetch(desk: RelayDesk) -> tuple[StagedRow, ...]:
            try:
                after = await self.store.cursor(self._call.id, desk.name)
                return await desk.staged(after=after, limit=MAX_STAGED_ROWS)
            except UnavailableError as exc:
                failures[desk.name] = exc
                return ()

        return await side_by_side({desk: fetch(desk) for desk in desks})

    async def _record(self, desk: RelayDesk, rows: Sequence[StagedRow], log: CallLog) -> int:
        count = 0
        for at in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[at : at + ROWS_AT_ONCE]
            good = await asyncio.to_thread(self._check_all, desk.name, part)
            logged = await self._logged(good, log, desk.name)
            # A crash before this is durable reads the same rows again.
            await self.store.record_rows(
                self._call.id,
                desk.name,
                logged,
                cursor=part[-1].cursor,
                stage_by=self._call.terms.stage_by,
            )
            count += len(logged)
        return count

    def _check_all(self, relay: str, rows: Sequence[StagedRow]) -> list[_Good]:
        checked = (self._check(relay, row) for row in rows)
        return [one for one in checked if one is not None]

    def _check(self, relay: str, row: StagedRow) -> _Good | None:
        try:
            claim, ticket = verify_claim(row.claim, self._call)
            fragment = listed_fragment(
                claim, relay=relay, hold_until=row.hold_until, seen_at=self._clock.now()
            )
        except BistroError as exc:
            _log.warning("claim_refused", relay=relay, error_code=exc.code, message=exc.message)
            return None
        return ticket, fragment

    async def _logged(self, rows: Sequence[_Good], log: CallLog, relay: str) -> list[_Good]:
        """Those of ``rows`` whose tickets stand in our log where they say."""
        entries = await entries_at(log, {ticket.log_index for ticket, _ in rows})
        good = [row for row in rows if _is_entry_of(row[0], entries.get(row[0].log_index))]
        if len(good) < len(rows):
            # Only the holder of our log key can have made such a proof: this is an alarm.
            _log.error("foreign_tickets_refused", relay=relay, count=len(rows) - len(good))
        return good


async def side_by_side(work: Mapping[K, Coroutine[object, object, T]]) -> dict[K, T]:
    """The results of all of ``work``, done at the same time; one error stops the others."""
    async with supervise.task_group() as group:
        tasks = {key: group.create_task(one) for key, one in work.items()}
    return {key: task.result() for key, task in tasks.items()}


async def entries_at(log: CallLog, indexes: set[int]) -> dict[int, Entry]:
    """The log's entries at ``indexes``; those behind its end are left out."""
    found: dict[int, Entry] = {}
    bundles: dict[int, list[int]] = {}
    for index in sorted(indexes):
        bundles.setdefault(index // WIDTH, []).append(index)
    for wanted in bundles.values():
        async for index, entry in log.entries(wanted[0]):
            if index in indexes:
                found[index] = entry
            if index >= wanted[-1]:
                break
    return found


def _is_entry_of(ticket: Ticketed, entry: Entry | None) -> bool:
    if isinstance(entry, PostmarkedEntry):
        return entry.digest == ticket.commitment and entry.at == ticket.ticketed_at
    if isinstance(entry, TicketEntry):
        return entry.digest == ticket.commitment and entry.time == ticket.ticketed_at
    return False
