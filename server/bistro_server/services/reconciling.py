"""Accounts for every ticket of a call: where it stands, what is missing, and who answers for it.

A gap is *explained* when somebody else broke a promise or may still keep it: a relay that lost
what it had promised to hold, a filer who did not stage. It is not explained when this server
should have something and has not. The log is the list of what has to be accounted for; the
database and the disk are what is compared with it.

Source: docs/spec/collection.md, reconcile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from bistro.clock import Clock
from bistro.instant import UnixMillis, format_rfc3339
from bistro.storage.blobs import BlobStore
from bistro.wire.entry import Entry, PostmarkedEntry, TicketEntry
from bistro_server.services.calls import Call, CallRegistry
from bistro_server.services.control import CallLog, open_log
from bistro_server.services.folder import ServerFolder
from bistro_server.services.opening import tail
from bistro_server.services.opening_record import EVIDENCE
from bistro_server.services.unpacking import Inbox
from bistro_server.store.collection import CollectionStore
from bistro_server.store.collection_gaps import KnownAt, Record, list_records
from bistro_server.store.schema import open_database
from bistro_server.store.status_files import StatusFiles
from bistro_server.store.submissions import Submissions

OPENED: Final = "opened"


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that is missing.

    Attributes:
        code: What kind of gap, for programs.
        text: What is missing and who answers for it, for people.
        relay: The relay that it is about, if it is about one.
        fragment: The fragment's index, if it is about one.
        is_explained: Whether somebody else answers for it.
    """

    code: str
    text: str
    relay: str | None = None
    fragment: int | None = None
    is_explained: bool = True


@dataclass(frozen=True, slots=True)
class Account:
    """One ticket of the log.

    Attributes:
        outcome: How it ended, once the call was opened or it was found void.
        gaps: What is missing; empty where nothing is.
    """

    commitment: bytes
    index: int
    ticketed_at: UnixMillis
    state: str
    outcome: str | None
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Goes through a call; obtained from ``opened``."""

    call: Call
    log: CallLog
    submissions: Submissions
    silences: Mapping[str, UnixMillis]
    now: UnixMillis

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, folder: ServerFolder, call_id: str, clock: Clock, *, error_limit_ms: int
    ) -> AsyncIterator[Reconciliation]:
        """The reconciliation of a call, for as long as the block runs.

        Raises:
            UnknownObjectError: There is no such call.
            UnavailableError: Another process holds log or database for too long.
        """
        call = await asyncio.to_thread(CallRegistry(folder).load, call_id)
        database = await open_database(folder.database)
        try:
            submissions = Submissions(database, StatusFiles(folder.status), clock)
            async with open_log(folder, call, clock, error_limit_ms=error_limit_ms) as log:
                await tail(call, log, submissions)
                silences = await CollectionStore(database, clock).silences(call.id)
                yield cls(call, log, submissions, silences, clock.now())
        finally:
            await database.close()

    async def counts(self) -> dict[str, int]:
        """How many tickets are in each state."""
        return await self.submissions.count_by_state(self.call.id)

    async def accounts(self) -> AsyncIterator[Account]:
        """Every ticket of the log, in its order; at the end rows that no ticket explains."""
        blobs = await asyncio.to_thread(BlobStore, self.call.folder.envelopes)
        records = self._records()
        record = await anext(records, None)
        async for index, entry in self.log.entries():
            if not isinstance(entry, TicketEntry | PostmarkedEntry):
                continue
            while record is not None and record.log_index < index:
                yield _stray(record)
                record = await anext(records, None)
            if record is None or record.log_index != index:
                yield _unknown(index, entry)
            elif record.commitment != entry.digest:
                yield _stray(record)
                yield _unknown(index, entry)
                record = await anext(records, None)
            else:
                yield await asyncio.to_thread(self._account, record, blobs)
                record = await anext(records, None)
        while record is not None:
            yield _stray(record)
            record = await anext(records, None)

    async def _records(self) -> AsyncIterator[Record]:
        after_index = -1
        while page := await list_records(
            self.submissions.database, self.call.id, after_index=after_index
        ):
            after_index = page[-1].log_index
            for record in page:
                yield record

    def _account(self, record: Record, blobs: BlobStore) -> Account:
        gaps = (
            *self._staging_gaps(record),
            *self._collecting_gaps(record, blobs),
            *self._opening_gaps(record),
        )
        return Account(
            record.commitment,
            record.log_index,
            record.ticketed_at,
            record.state,
            record.outcome,
            gaps,
        )

    def _staging_gaps(self, record: Record) -> list[Gap]:
        if record.state not in {"ticketed", "lapsed"}:
            return []
        known = len({fragment.index for fragment in record.fragments})
        needed = "an unknown number" if record.layout is None else str(record.layout.k)
        stage_by = format_rfc3339(self.call.terms.stage_by)
        what = f"{known} of {needed} fragments are known to be at relays"
        if record.state == "lapsed":
            return [Gap("not-staged", f"{what}; the filer had to stage them by {stage_by}")]
        return [Gap("not-yet-staged", f"{what}; the filer may stage them until {stage_by}")]

    def _collecting_gaps(self, record: Record, blobs: BlobStore) -> list[Gap]:
        if record.blob is not None:
            path = blobs.path_of(record.blob)
            if path.is_file() and path.stat().st_size == record.blob_size:
                return []
            text = f"{path} is missing or has another size: restore it from a copy"
            return [Gap("envelope-missing", text, is_explained=False)]
        if record.state in {"ticketed", "lapsed"}:
            return []
        if record.outcome == "void":
            verified = {row.index for row in record.fragments if row.fate == "verified"}
            if record.layout is not None and len(verified) >= record.layout.k:
                text = "its fragments do not belong together: the filer answers for that"
                return [Gap("inconsistent", text)]
        return self._fragment_gaps(record)

    def _fragment_gaps(self, record: Record) -> list[Gap]:
        """Why a staged submission is not collected, fragment by fragment."""
        gaps = [
            self._fragment_gap(fragment)
            for fragment in record.fragments
            if fragment.fate != "verified"
        ]
        if record.repair:
            wanted = ", ".join(map(str, record.repair))
            until = format_rfc3339(self.call.terms.repair_by)
            gaps.append(
                Gap("repair-asked", f"the filer is asked for fragments {wanted} until {until}")
            )
        is_over = self.now > self.call.terms.repair_by
        if is_over and not any(gap.code in _BROKEN for gap in gaps):
            text = "repair_by has passed and no relay has broken a promise: run collect"
            gaps.append(Gap("not-collected", text, is_explained=False))
        return gaps

    def _fragment_gap(self, fragment: KnownAt) -> Gap:
        name, index = fragment.relay, fragment.index
        until = format_rfc3339(fragment.hold_until)
        promise = "signed a receipt" if fragment.has_receipt else "listed it as staged"
        promised = f"relay {name} {promise} to hold fragment {index} until {until}"
        if fragment.fate == "wrong":
            text = f"{promised}, and gave other bytes: they are kept as proof"
            return Gap("wrong-bytes", text, name, index)
        if fragment.fate == "lost":
            text = f"{promised}, and does not hold it"
            return Gap("lost", text, name, index)
        if name in self.silences:
            since = format_rfc3339(self.silences[name])
            text = f"{promised}, and cannot be used: its silence counts from {since}"
            return Gap("silent", text, name, index)
        if fragment.hold_until < self.call.terms.repair_by:
            return Gap("hold-ends", f"{promised}, which is before repair_by", name, index)
        return Gap("not-fetched", f"{promised}; collect has not fetched it", name, index)

    def _opening_gaps(self, record: Record) -> list[Gap]:
        if record.outcome != OPENED or record.state != OPENED:
            return []
        place = Inbox(self.call.folder.inbox).place(record.commitment)
        if record.is_unpacked and not place.is_dir():
            return [Gap("inbox-missing", f"{place} is missing", is_explained=False)]
        if not (place / EVIDENCE).is_file():
            text = f"{place} has no {EVIDENCE}: run open again"
            return [Gap("evidence-missing", text, is_explained=False)]
        return []


_BROKEN: Final = frozenset({"lost", "wrong-bytes", "silent"})


def _stray(record: Record) -> Account:
    text = "the database knows it, and the log has no such ticket"
    gap = Gap("not-in-log", text, is_explained=False)
    return Account(
        record.commitment,
        record.log_index,
        record.ticketed_at,
        record.state,
        record.outcome,
        (gap,),
    )


def _unknown(index: int, entry: Entry) -> Account:
    text = "the log has this ticket, and the database does not know it"
    gap = Gap("not-in-database", text, is_explained=False)
    return Account(entry.digest, index, entry.time, "ticketed", None, (gap,))
