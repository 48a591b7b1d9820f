"""Opens a call: decides about every commitment of its log, unpacks, writes the minutes.

| step | what is durable after it | a crash after it |
|---|---|---|
| 1 ``opening`` entry | nothing more is admitted | goes on with 2 |
| 2 tail, lapse, freeze | outcomes of what did not come | goes on with 3 |
| 3 pass 1 | what each ``submission.bin`` says | reads only the rest |
| 4 pass 2 | filings in the inbox, outcomes | unpacks only the rest |
| 5 minutes | the signed minutes | computes the same again |
| 6 notes, states, statuses | what filers and the public see | writes the same again |
| 7 evidence | ``evidence.json`` of each filing | writes only the rest |
| 8 ``index.jsonl`` | all is done | a further run changes nothing |

Nothing is decided twice: readings and outcomes are rows that are written once, and every note
follows from them.

Source: docs/spec/opening.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bistro.clock import Clock
from bistro.crypto.age.keys import KeyIdentity
from bistro.daemon import logs
from bistro.errors import SettingsError, StorageError
from bistro.instant import UnixMillis
from bistro.protocol.deadline import may_open
from bistro.storage.disk import SYSTEM_DISK, Disk
from bistro.storage.durable import make_directories
from bistro.storage.locks import FileLock
from bistro.wire.entry import PostmarkedEntry, TicketEntry
from bistro.wire.ticket import Opening
from bistro_server.services.admission_keeper import AdmissionKeeper, admissions_path
from bistro_server.services.calls import Call, CallRegistry
from bistro_server.services.collecting_files import CollectingFolder
from bistro_server.services.control import CallLog, open_log
from bistro_server.services.folder import ServerFolder
from bistro_server.services.handover import INDEX
from bistro_server.services.opening_passes import Passes, Report
from bistro_server.services.opening_record import Recorder
from bistro_server.services.unpacking import Inbox
from bistro_server.store.admissions import Admissions
from bistro_server.store.collection import patiently
from bistro_server.store.opening import OpeningStore
from bistro_server.store.opening_results import ResultStore
from bistro_server.store.schema import open_database
from bistro_server.store.status_files import StatusFiles
from bistro_server.store.submissions import Submissions, Ticketed

_AT_ONCE: Final = 1_000

_log = logs.get_logger("opening")


@dataclass(frozen=True, slots=True)
class Opened:
    """What an opening decided.

    Attributes:
        call: The call id.
        opened_at: Time of the ``opening`` entry.
        counts: How many submissions have each outcome.
        inbox: Where filings, evidence and the index lie.
    """

    call: str
    opened_at: UnixMillis
    counts: Mapping[str, int]
    inbox: Path


def _tell_nobody(step: str, done: int, total: int) -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOpening:
    """Opens calls of a server.

    Attributes:
        folder: The server's folder.
        clock: Says whether the time has come.
        error_limit_ms: The largest clock error with which to stamp.
        report: Told how far it is.
        disk: The system calls to use.
    """

    folder: ServerFolder
    clock: Clock
    error_limit_ms: int
    report: Report = _tell_nobody
    disk: Disk = SYSTEM_DISK

    async def run(self, call_id: str, *, identity: Path | None = None) -> Opened:
        """Open a call, or go on where an earlier opening has stopped.

        Args:
            call_id: The call.
            identity: File with the key that opens envelopes; the call's own by default.

        Raises:
            UnknownObjectError: There is no such call.
            NotOpenError: It is too early; the hint says from when. Nothing was written.
            SettingsError: The identity is missing, or is that of another call.
            UnavailableError: Another process opens, or holds log or database for too long.
            StorageError: Our own disk failed, or what lies here contradicts itself.
        """
        call = await asyncio.to_thread(CallRegistry(self.folder).load, call_id)
        log = open_log(
            self.folder, call, self.clock, error_limit_ms=self.error_limit_ms, disk=self.disk
        )
        async with log as call_log, AsyncExitStack() as stack:
            opening = await call_log.find_opening()
            if opening is None:
                # By time alone, before anything is written or even looked for.
                self._require_time(call, unstaged_count=0, uncollected_count=0)
            work = CollectingFolder.of(self.folder, call.id)
            await asyncio.to_thread(make_directories, work.root, disk=self.disk)
            lock = FileLock.take(work.opening_lock, what=f"opening call {call.id}")
            stack.callback(lock.release)
            database = await open_database(self.folder.database)
            stack.push_async_callback(database.close)
            submissions = Submissions(database, StatusFiles(self.folder.status), self.clock)
            store = OpeningStore(database, call.id, self.clock)
            return await self._open(call, call_log, opening, submissions, store, identity)

    async def _open(
        self,
        call: Call,
        log: CallLog,
        opening: Opening | None,
        submissions: Submissions,
        store: OpeningStore,
        identity: Path | None,
    ) -> Opened:
        results = ResultStore(submissions.database, call.id, self.clock)
        if opening is None or not (call.folder.inbox / INDEX).exists():
            # Before the entry that cannot be taken back: is this the right key?
            identities = await asyncio.to_thread(load_identities, call, identity)
            if opening is None:
                opening = await self._begin(call, log, submissions, store)
            await self._settle(call, log, submissions, store)
            inbox = Inbox(call.folder.inbox, disk=self.disk)
            passes = Passes(call, store, inbox, identities, self.disk, self.report)
            await passes.read_all()
            await passes.decide_all()
            recorder = Recorder(call, log, results, submissions, inbox, self.disk, self.report)
            await recorder.record(opening)
            _log.info("call_opened", call=call.id, index=opening.index)
        return Opened(
            call.id,
            opening.time,
            await ResultStore(submissions.database, call.id, self.clock).counts(),
            call.folder.inbox,
        )

    def _require_time(self, call: Call, *, unstaged_count: int, uncollected_count: int) -> None:
        may_open(
            self.clock.now(),
            call.terms,
            is_closed=True,
            unstaged_count=unstaged_count,
            uncollected_count=uncollected_count,
        ).require()

    async def _begin(
        self, call: Call, log: CallLog, submissions: Submissions, store: OpeningStore
    ) -> Opening:
        """Write the ``opening`` entry, if everything that may come has come or is too late."""
        # No ticket comes after this entry, so what is counted next is all there will be.
        await log.append_closed()
        await tail(call, log, submissions)
        unstaged_count = (await submissions.count_by_state(call.id)).get("ticketed", 0)
        self._require_time(
            call,
            unstaged_count=unstaged_count,
            uncollected_count=await store.count_uncollected(),
        )
        return await log.append_opening()

    async def _settle(
        self, call: Call, log: CallLog, submissions: Submissions, store: OpeningStore
    ) -> None:
        """Make rows of all tickets, and decide about what did not come in time."""
        await tail(call, log, submissions)
        if call.terms.filers == "registered":
            admissions = Admissions(submissions.database)
            keeper = AdmissionKeeper(
                call.id, admissions_path(call.folder), log.entries, admissions, disk=self.disk
            )
            await patiently(keeper.catch_up)
        if (await submissions.count_by_state(call.id)).get("ticketed"):
            await patiently(lambda: submissions.lapse(call.id, stage_by=call.terms.stage_by))
        await store.freeze()


async def tail(call: Call, log: CallLog, submissions: Submissions) -> None:
    """Make rows of the tickets of a log that ``serve`` has not made yet; it may do the same."""
    start = await submissions.tailed(call.id)
    tickets: list[Ticketed] = []
    size = start
    async for index, entry in log.entries(start):
        if isinstance(entry, TicketEntry | PostmarkedEntry):
            at = entry.at if isinstance(entry, PostmarkedEntry) else entry.time
            tickets.append(Ticketed(commitment=entry.digest, log_index=index, ticketed_at=at))
        size = index + 1
        if len(tickets) >= _AT_ONCE:
            await _record(call, submissions, tickets, size)
            tickets = []
    if size > start:
        await _record(call, submissions, tickets, size)


async def _record(
    call: Call, submissions: Submissions, tickets: list[Ticketed], tailed: int
) -> None:
    await patiently(lambda: submissions.record_tickets(call.id, tickets, tailed=tailed))


def load_identities(call: Call, file: Path | None) -> tuple[KeyIdentity, ...]:
    """Keys of which one opens the envelopes of the call; blocks.

    Raises:
        SettingsError: There is no such file, or it holds keys for something else.
    """
    try:
        identities = call.load_identities(file)
    except StorageError as exc:
        raise SettingsError(exc.message, hint="name the call's identity with --identity") from exc
    recipients = {text for one in call.versions for text in one.terms.recipients}
    if not any(identity.recipient.format() in recipients for identity in identities):
        raise SettingsError(
            f"{file or call.folder.identity}: none of its {len(identities)} keys is one that "
            f"envelopes of call {call.id} are sealed to",
            hint="name the call's identity with --identity; nothing was written",
        )
    return identities
