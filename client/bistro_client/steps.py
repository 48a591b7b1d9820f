"""Does the steps of a submission, one after the other, as its journal asks for them.

| step | done here | in the journal before it | after it |
|---|---|---|---|
| seal | envelope and fragments durable | sealing | sealed |
| ticket | asked until signed, verified | sealed | ticketed or refused |
| upload | fragments to relays | each choice and upload | each receipt |
| present | receipts to the destination | receipts | what it took; staged |

Source: docs/spec/journal.md.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bistro.errors import BistroError, VerificationError
from bistro.protocol.submission import Attempt, Sealed, Step, Submission, SubmissionState
from bistro.storage.durable import write_atomically
from bistro.wire.admission import Admission
from bistro.wire.refusal import Refusal
from bistro.wire.terms import SignedTerms
from bistro.wire.ticket import Ticket
from bistro_client import notices, peer_messages
from bistro_client.admitting import admit, find_admission, needs_admission
from bistro_client.equipment import Equipment, Visit
from bistro_client.evidence_file import load_terms, save_terms, update
from bistro_client.gathering import require_fits, sources_of
from bistro_client.journal import Journal
from bistro_client.keyring import FilerKey

RECORD_AGAIN_MS: Final = 60_000
"""The same failure is recorded again after this long."""

MAX_ROUNDS: Final = 8
"""Steps in one run; more means that receipts are replaced again and again, and none is taken."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Takes steps for submissions whose journals the caller owns."""

    equipment: Equipment

    async def run(
        self,
        journal: Journal,
        visit: Visit | None,
        key: FilerKey | None = None,
        *,
        until: Step | None = None,
    ) -> Submission:
        """Take steps until there is nothing to do but wait, or ``until`` would be next."""
        for _ in range(MAX_ROUNDS):
            step = journal.submission.next_step
            if step is until:
                break
            if step is Step.SEAL:
                await self._seal(journal, visit or await self._visit(journal), key)
            elif step is Step.TICKET:
                visit = visit or await self._visit(journal)
                await self.ticket(journal, visit)
            elif step is Step.UPLOAD:
                if not await self._stage(journal, visit) and await self._is_enough(journal, visit):
                    break
            elif step is Step.PRESENT:
                visit = visit or await self._visit(journal)
                await self._present(journal, visit)
            else:
                break
        else:
            raise peer_messages.receipts_not_taken(journal.submission.id)
        return journal.submission

    async def _is_enough(self, journal: Journal, visit: Visit | None) -> bool:
        """Whether it is staged without the fragments that no relay takes now."""
        if journal.submission.unpresented:
            await self._present(journal, visit or await self._visit(journal))
        return journal.submission.state is SubmissionState.STAGED

    async def _visit(self, journal: Journal) -> Visit:
        return await self.equipment.visit(journal.submission)

    async def _seal(self, journal: Journal, visit: Visit, key: FilerKey | None) -> None:
        from bistro_client.discarding import discard  # noqa: PLC0415 - as below
        from bistro_client.sealing import Order, Stopped, Watch, seal  # noqa: PLC0415 - as below

        request = journal.submission.request
        folder = journal.folder
        stop = threading.Event()

        def work() -> None:
            sources = sources_of(request.kind, [Path(source) for source in request.sources])
            require_fits(sources, visit.versions.terms)
            path = Path(request.key_file) if request.key_file else self.equipment.home.key_file
            filer = key or self.equipment.key(path, may_create=request.key_file is None)
            save_terms(folder, visit.versions.served, disk=self.equipment.disk)
            order = Order.new(request, sources, visit.versions.latest.signed, filer)
            sealed = seal(
                order, folder, disk=self.equipment.disk, watch=Watch(self.equipment.listener, stop)
            )
            if needs_admission(visit.versions.terms):
                admit(folder, sealed, filer, disk=self.equipment.disk)
            # Everything is durable: from here on it is this envelope and no other.
            journal.seal(lambda submission: submission.seal(sealed))

        try:
            await asyncio.to_thread(work)
        except asyncio.CancelledError:
            stop.set()
            raise
        except (BistroError, Stopped):
            # Nothing was promised to anybody about what was made so far.
            await asyncio.to_thread(discard, journal)
            raise
        self.equipment.listener.tell(notices.sealed(journal.submission))

    async def ticket(self, journal: Journal, visit: Visit) -> None:
        """Ask for the ticket of what is sealed; journal the ticket or the refusal.

        Raises:
            DeadlinePassedError: It was refused; the signed refusal is kept.
        """
        submission = journal.submission
        if submission.sealed is None:
            return
        terms = visit.versions.terms
        admission = None
        if needs_admission(terms):
            admission = await asyncio.to_thread(self._admission, journal, submission.sealed)
        from bistro_client.ticketing import TicketWindow  # noqa: PLC0415 - as below

        window = TicketWindow(
            visit.destination,
            submission.request.origin,
            terms,
            self.equipment.patience,
            on_failure=partial(self._record_failure, journal, visit.destination.discovery.name),
        )
        answer = await window.ask(submission.sealed, admission)
        if isinstance(answer, Ticket):
            await self._require_on_time(answer, visit, submission)
            await self._take_ticket(journal, answer, visit)
        else:
            await self._take_refusal(journal, answer, visit)

    def _admission(self, journal: Journal, sealed: Sealed) -> Admission:
        named = journal.submission.request.key_file
        path = self.equipment.home.key_file if named is None else Path(named)
        return find_admission(
            journal.folder,
            sealed,
            lambda: self.equipment.key(path, may_create=False),
            disk=self.equipment.disk,
        )

    async def _record_failure(self, journal: Journal, peer: str, error: BistroError) -> None:
        """Write down that a ticket was asked for in vain: the filer may have to show it.

        The same again and again is written now and then only.
        """
        now = self.equipment.clock.now()
        attempt = Attempt.of(error, at=now, step=Step.TICKET, peer=peer)
        known = journal.submission.attempts
        if known and _is_same(known[-1], attempt) and 0 <= now - known[-1].at < RECORD_AGAIN_MS:
            return
        await journal.change(lambda s: s.record(attempt))

    async def _require_on_time(self, ticket: Ticket, visit: Visit, submission: Submission) -> None:
        try:
            visit.versions.require_on_time(ticket)
        except VerificationError:
            # Late by the terms that we know: they may have been extended since.
            origin = submission.request.origin
            (await visit.destination.fetch_versions(origin)).require_on_time(ticket)

    async def _take_ticket(self, journal: Journal, ticket: Ticket, visit: Visit) -> None:
        text = ticket.text()
        path = journal.folder.ticket
        await asyncio.to_thread(write_atomically, path, text.encode(), disk=self.equipment.disk)
        # A crash here leaves the file only: the same ticket is asked for again.
        await journal.change(lambda s: s.take_ticket(text))
        await self._renew_evidence(journal)
        self.equipment.listener.tell(
            notices.on_time(
                journal.folder.ticket,
                ticket,
                visit.versions.terms,
                kind=journal.submission.request.kind,
            )
        )

    async def _take_refusal(self, journal: Journal, refusal: Refusal, visit: Visit) -> None:
        text = refusal.text()
        path = journal.folder.refusal
        await asyncio.to_thread(write_atomically, path, text.encode(), disk=self.equipment.disk)
        await journal.change(lambda s: s.take_refusal(text))
        await self._renew_evidence(journal)
        raise peer_messages.refused(journal.folder.refusal, refusal, visit.versions.terms)

    async def _stage(self, journal: Journal, visit: Visit | None) -> bool:
        sealed = journal.submission.sealed
        if visit is not None:
            terms = visit.versions.terms
            await asyncio.to_thread(
                save_terms, journal.folder, visit.versions.served, disk=self.equipment.disk
            )
        else:
            kept = await asyncio.to_thread(load_terms, journal.folder)
            note = (sealed.terms if sealed else "").encode()
            terms = kept[-1].signed.terms if kept else SignedTerms.parse(note).terms
        # Each step is loaded when it begins: none waits for the code of those behind it.
        from bistro_client.staging import Stager  # noqa: PLC0415

        stager = Stager(
            journal,
            self.equipment.session,
            None if visit is None else visit.destination,
            terms,
            self.equipment.patience,
            self.equipment.listener,
            self.equipment.limits,
            self.equipment.pace,
        )
        try:
            return await stager.stage()
        finally:
            await self._renew_evidence(journal)

    async def _present(self, journal: Journal, visit: Visit) -> None:
        from bistro_client.presenting import present  # noqa: PLC0415 - as the stager

        wait = self.equipment.patience.begin(
            until=visit.versions.terms.stage_by, time=visit.destination.time
        )
        await wait.ask(lambda: present(journal, visit.destination, self.equipment.patience))
        await self._renew_evidence(journal)

    async def _renew_evidence(self, journal: Journal) -> None:
        """Bring the evidence up to date; a failure is told and stops nothing."""
        try:
            await asyncio.to_thread(
                update, journal.folder, journal.submission, disk=self.equipment.disk
            )
        except BistroError as exc:
            self.equipment.listener.tell(notices.evidence_not_renewed(exc))


def _is_same(one: Attempt, other: Attempt) -> bool:
    return (one.step, one.peer, one.code) == (other.step, other.peer, other.code)
