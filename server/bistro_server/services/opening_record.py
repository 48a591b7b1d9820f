"""What an opening leaves behind: minutes, notes for filers, evidence, the index.

All of it follows from outcomes that are recorded, with the same bytes each time, so every step
may be repeated.

Source: docs/spec/opening.md, minutes, status, inbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from bistro.errors import StorageError
from bistro.storage.disk import Disk
from bistro.storage.durable import read_file, write_atomically
from bistro.wire.checkpoint import verify_checkpoint
from bistro.wire.entry import Entry, PostmarkedEntry, TicketEntry
from bistro.wire.evidence import MAX_EVIDENCE_SIZE
from bistro.wire.header import NO_TOKEN
from bistro.wire.minutes import Minutes, MinutesEntry, salted_outcome
from bistro.wire.status import MinutesPlace, Outcome, Reason
from bistro.wire.ticket import Opening
from bistro_server.services.calls import Call
from bistro_server.services.collecting_files import CollectingFolder
from bistro_server.services.control import CallLog
from bistro_server.services.evidence import CallEvidence, Place
from bistro_server.services.folder import MAX_SMALL_FILE_SIZE
from bistro_server.services.handover import IndexWriter
from bistro_server.services.opening_minutes import MinutesTree
from bistro_server.services.opening_passes import Report
from bistro_server.services.unpacking import Inbox
from bistro_server.store.collection import patiently
from bistro_server.store.opening_results import Result, ResultStore
from bistro_server.store.submissions import Submissions

EVIDENCE: Final = "evidence.json"
LAPSED: Final = "lapsed"
OPENED: Final = "opened"


@dataclass(frozen=True, slots=True)
class Recorder:
    """Writes down an opening.

    Attributes:
        call: The call, with an outcome for everything.
        log: Its log, with its last entry.
        store: The outcomes.
        submissions: Their public states.
        inbox: Where filings lie.
        disk: The system calls to use.
        report: Told how far it is.
    """

    call: Call
    log: CallLog
    store: ResultStore
    submissions: Submissions
    inbox: Inbox
    disk: Disk
    report: Report

    async def record(self, opening: Opening) -> None:
        """Write everything, in the order of the table of ``services.opening``.

        Raises:
            StorageError: Our own disk failed, or what lies here contradicts itself.
        """
        directory = CollectingFolder.of(self.call.folder.server, self.call.id).minutes
        with await asyncio.to_thread(MinutesTree, directory, disk=self.disk) as tree:
            await self._fill(tree)
            minutes = await self._write_minutes(opening, tree)
            await self._write_notes(tree)
        while await patiently(self._publish):
            pass
        await self._write_evidence(minutes)
        await self._write_index()

    async def _results(self) -> AsyncIterator[Result]:
        after_index = -1
        while page := await self.store.results(after_index=after_index):
            after_index = page[-1].log_index
            for result in page:
                yield result

    async def _fill(self, tree: MinutesTree) -> None:
        """A leaf for every commitment of the log: the log itself is counted, not our rows."""
        results = self._results()
        async for index, entry in self.log.entries():
            if not isinstance(entry, TicketEntry | PostmarkedEntry):
                continue
            result = await anext(results, None)
            _require_same(index, entry, result)
            if result is not None:
                tree.add(_entry_of(result).leaf)
        if (extra := await anext(results, None)) is not None:
            _require_same(extra.log_index, None, extra)

    async def _write_minutes(self, opening: Opening, tree: MinutesTree) -> bytes:
        checkpoint_note = await self.log.checkpoint()
        checkpoint = verify_checkpoint(checkpoint_note, self.call.log_key)
        if checkpoint.size != opening.index + 1:
            raise StorageError(
                f"call {self.call.id}: expected its log to end with the opening entry "
                f"{opening.index}, found {checkpoint.size} entries"
            )
        minutes = Minutes(
            origin=self.call.origin,
            checkpoint_note=checkpoint_note,
            opened_at=opening.time,
            present=(self.call.origin.server,),
            dealer=None,
            count=tree.size,
            root=await asyncio.to_thread(tree.root),
        )
        note = minutes.sign(self.call.status_key)
        path = self.call.folder.minutes
        found = await asyncio.to_thread(
            read_file, path, max_size=MAX_SMALL_FILE_SIZE, disk=self.disk
        )
        if found is None:
            await asyncio.to_thread(write_atomically, path, note, disk=self.disk)
        elif found != note:
            raise StorageError(
                f"{path}: these minutes are not those of the outcomes in the database",
                hint="minutes are written once: restore the database from a copy",
            )
        return note

    async def _write_notes(self, tree: MinutesTree) -> None:
        """Outcome notes for those who hold a token, and the public states."""
        done, after_index = 0, -1
        while page := await self.store.results(after_index=after_index):
            after_index = page[-1].log_index
            await asyncio.to_thread(self._write_page, page, tree, done)
            # A crash before this writes the same notes again.
            await self.store.mark_opened(
                [result.submission for result in page if result.outcome != LAPSED]
            )
            done += len(page)
            self.report("notes", done, tree.size)

    def _write_page(self, page: list[Result], tree: MinutesTree, first: int) -> None:
        for number, result in enumerate(page, first):
            note = Outcome(
                origin=self.call.origin,
                commitment=result.commitment,
                state=LAPSED if result.outcome == LAPSED else OPENED,
                outcome=result.outcome,
                reasons=tuple(Reason(code=one.code, text=one.text) for one in result.reasons),
                minutes=MinutesPlace(
                    entry=_entry_of(result).encode(), index=number, path=tree.path(number)
                ),
                updated_at=result.decided_at,
            )
            self.submissions.statuses.write_outcome(
                self.call.id,
                result.commitment,
                token=result.token or NO_TOKEN,
                note=note.sign(self.call.status_key),
            )

    async def _publish(self) -> int:
        return await self.submissions.publish(self.call.origin, self.call.status_key)

    async def _write_evidence(self, minutes: bytes) -> None:
        parts = await CallEvidence.gather(self.call, self.log, minutes=minutes)
        total, done = (await self.store.counts()).get(OPENED, 0), 0
        async for result in self._results():
            if result.outcome != OPENED:
                continue
            path = self.inbox.place(result.commitment) / EVIDENCE
            found = await asyncio.to_thread(
                read_file, path, max_size=MAX_EVIDENCE_SIZE, disk=self.disk
            )
            if found is None:
                data = await self._evidence_of(parts, result)
                await asyncio.to_thread(self.inbox.sweep, path.parent)
                await asyncio.to_thread(write_atomically, path, data, disk=self.disk)
            done += 1
            self.report("evidence", done, total)

    async def _evidence_of(self, parts: CallEvidence, result: Result) -> bytes:
        ticket = await self.log.find_ticket(result.commitment)
        if ticket is None:
            raise StorageError(f"ticket of {result.commitment.hex()} is not in the log")
        receipts = await self.store.receipts(result.submission)
        stamped = await self.log.find_stamped(ticket.index)
        statuses = self.submissions.statuses

        def build() -> bytes:
            return parts.build(
                result,
                place=Place(ticket.text(), stamped),
                manifest=self.inbox.read_manifest(result.commitment),
                receipts=receipts,
                status=statuses.read_status(self.call.id, result.commitment),
                outcome=statuses.read_outcome(self.call.id, result.commitment, token=result.token),
            )

        return await asyncio.to_thread(build)

    async def _write_index(self) -> None:
        with await asyncio.to_thread(IndexWriter, self.inbox.root, disk=self.disk) as index:
            async for result in self._results():
                await asyncio.to_thread(index.add, result)
            await asyncio.to_thread(index.finish)


def _entry_of(result: Result) -> MinutesEntry:
    return MinutesEntry(
        index=result.log_index,
        commitment=result.commitment,
        salted=salted_outcome(result.token, result.outcome),
    )


def _require_same(index: int, entry: Entry | None, result: Result | None) -> None:
    """Accept a row that is the ticket at ``index`` of the log.

    Raises:
        StorageError: The log and the database do not have the same commitments.
    """
    in_log = None if entry is None else entry.digest.hex()
    in_rows = None if result is None else result.commitment.hex()
    if in_log != in_rows or (result is not None and result.log_index != index):
        raise StorageError(
            f"entry {index} of the log: expected commitment {in_log} with an outcome, "
            f"found {in_rows}",
            hint="nobody may be left out of the minutes: restore the database from a copy",
        )
