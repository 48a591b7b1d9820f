"""Submits, resumes and watches: does the I/O that the journal's state machine asks for.

``Submitter`` holds no rules. It looks at ``Submission.next_step``, does that step, writes the
new state, and looks again; ``resume`` is the same loop entered from what is on disk.

| step | done here | in the journal before it | after it |
|---|---|---|---|
| seal | envelope and fragments durable | sealing | sealed |
| ticket | asked until signed, verified | sealed | ticketed or refused |
| upload | fragments to relays | each choice and upload | each receipt |
| present | receipts to the destination | receipts | what it took; staged |
| watch | status, repairs, outcome | | what it said |

Source: docs/spec/journal.md; docs/spec/commands.md.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from bistro.clock import Clock
from bistro.crypto.signing import VerifierKey
from bistro.errors import BistroError, UnavailableError, VerificationError
from bistro.ids import DEFAULT_SLOT, require_slot
from bistro.instant import format_rfc3339
from bistro.net.session import Session
from bistro.protocol.submission import Request, Step, Submission, SubmissionState
from bistro.storage.durable import SYSTEM_DISK, Disk, write_atomically
from bistro.wire.refusal import Refusal
from bistro.wire.terms import SignedTerms
from bistro.wire.ticket import Ticket
from bistro_client import keyring, messages, notices
from bistro_client.contact import Destination, Reception, Versions
from bistro_client.discarding import discard
from bistro_client.evidence_file import load_terms, save_terms, update
from bistro_client.gathering import Source, gather, require_fits
from bistro_client.home import Folder, Home
from bistro_client.journal import Journal
from bistro_client.keyring import FilerKey
from bistro_client.known_servers import KnownServers
from bistro_client.listening import SILENT, Listener
from bistro_client.patience import Patience
from bistro_client.presenting import present
from bistro_client.sealing import Order, Stopped, Watch, seal
from bistro_client.staging import Stager
from bistro_client.ticketing import TicketWindow
from bistro_client.watching import Watcher

FIRST_CONTACT_MS: Final = 4_000
"""How long to try a server that never answered: its address is more likely wrong than it down."""
MAX_ROUNDS: Final = 6
"""How often receipts are replaced in one run before a person must look."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a filer wants to submit.

    Attributes:
        paths: Files and folders.
        url: Of the destination.
        call: Its id; None for the only one that is open.
        slot: Which of the filer's submissions to this call it is.
        form: Form type, in the destination's words.
        key_file: The filer's key, if not the one at home.
        trust: The destination's terms key, if it is known beforehand.
    """

    paths: Sequence[Path]
    url: str
    call: str | None = None
    slot: str = DEFAULT_SLOT
    form: str | None = None
    key_file: Path | None = None
    trust: VerifierKey | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """A destination that was reached, with the verified terms of one call."""

    destination: Destination
    versions: Versions


@dataclass(slots=True)
class Submitter:
    """The filer's agent; one instance may do many submissions.

    Attributes:
        home: Where everything is kept.
        session: An open session.
        clock: This machine's clock; nothing is decided by it.
        listener: Told what happens.
        patience: How long to go on when somebody cannot be reached.
        unlock: Loads a key file, asking for its passphrase if it must.
        disk: The system calls to use.
    """

    home: Home
    session: Session
    clock: Clock
    listener: Listener = SILENT
    patience: Patience | None = None
    unlock: Callable[[Path], FilerKey] = keyring.load
    disk: Disk = field(default=SYSTEM_DISK)

    async def submit(self, wish: Wish) -> Submission:
        """Seal, get the ticket, stage, and show the receipts.

        Raises:
            BistroError: The submission's journal says how far it came; ``resume`` goes on.
        """
        require_slot(wish.slot)
        sources = await asyncio.to_thread(gather, wish.paths)
        key_file = wish.key_file or self.home.key_file
        key = await asyncio.to_thread(self._key, key_file, may_create=wish.key_file is None)
        destination = await self._reach(wish.url, given=wish.trust)
        origin = destination.choose_call(wish.call)
        versions = await destination.fetch_versions(origin)
        visit = Visit(destination, versions)
        self._require_possible(visit, sources)
        request = Request(
            sources=tuple(str(path.absolute()) for path in wish.paths),
            server_url=wish.url.rstrip("/"),
            terms_key=destination.terms_key.format(),
            origin=origin,
            slot=wish.slot,
            form=wish.form,
            key_file=None if wish.key_file is None else str(wish.key_file.absolute()),
        )
        journal = await asyncio.to_thread(self._begin, request)
        try:
            return await self._run(journal, visit, key)
        finally:
            journal.close()

    async def resume(self, folder: Folder, *, recover: bool = False) -> Submission:
        """Go on with a submission from where its journal says it is.

        Args:
            folder: Of the submission.
            recover: Its journal is damaged: go on from the copy made at sealing.

        Raises:
            BistroError: As ``submit``.
        """
        opening = Journal.recover if recover else Journal.open
        journal = await asyncio.to_thread(opening, folder, disk=self.disk)
        try:
            return await self._resume(journal)
        finally:
            journal.close()

    async def look(self, folder: Folder) -> Submission:
        """Fetch and verify where a submission stands; stages again what is asked for.

        Raises:
            BistroError: As ``submit``.
        """
        journal = await asyncio.to_thread(Journal.open, folder, disk=self.disk)
        try:
            if journal.submission.ticket is None:
                return journal.submission
            visit = await self._visit(journal.submission)
            await self._watch(journal, visit)
            if journal.submission.next_step in {Step.UPLOAD, Step.PRESENT}:
                return await self._run(journal, visit)
            return journal.submission
        finally:
            journal.close()

    # --- beginnings ---

    def _key(self, path: Path, *, may_create: bool) -> FilerKey:
        if may_create and not path.exists():
            key = keyring.create(path, disk=self.disk)
            self.listener.tell(notices.key_made(path))
            return key
        return self.unlock(path)

    def _require_possible(self, visit: Visit, sources: Sequence[Source]) -> None:
        """Refuse what cannot succeed before anything is read; tell the deadline."""
        terms = visit.versions.terms
        now = visit.destination.time.now()
        if terms.filers != "anyone":
            raise messages.registered_only(terms)
        require_fits(sources, terms)
        if visit.destination.time.offset_ms is not None and now < terms.opens:
            raise messages.not_open_yet(terms)
        self.listener.tell(notices.deadline(terms, now))

    def _begin(self, request: Request) -> Journal:
        now = self.clock.now()
        stamp = format_rfc3339(now)[:19].translate(str.maketrans("T", "-", "-:"))
        name = f"{stamp}-{request.origin.call}-{secrets.token_hex(3)}"
        submission = Submission(id=name, created_at=now, request=request)
        journal = Journal.create(self.home.folder(name), submission, disk=self.disk)
        self.listener.tell(notices.begun(submission))
        return journal

    async def _resume(self, journal: Journal) -> Submission:
        submission = journal.submission
        self.listener.tell(notices.resumed(submission))
        match submission.next_step:
            case Step.UPLOAD:
                # Relays may be up while the destination is down: the terms are on disk.
                visit = await self._visit_if_up(submission)
            case Step.REST if submission.state is not SubmissionState.REFUSED:
                return submission
            case _:
                visit = await self._visit(submission)
        if submission.state is SubmissionState.REFUSED:
            return await self._ask_again(journal, visit)
        if submission.next_step is Step.WATCH:
            await self._watch(journal, visit)
        return await self._run(journal, visit)

    # --- whom to talk to ---

    async def _reach(self, url: str, *, given: VerifierKey | None) -> Destination:
        known = KnownServers(self.home.known_servers, disk=self.disk)
        reception = Reception(self.session, known, self.clock, self.listener)
        policy = self._patience
        limits = [FIRST_CONTACT_MS, *([] if policy.limit_ms is None else [policy.limit_ms])]
        wait = replace(policy, limit_ms=min(limits)).begin()
        return await wait.ask(lambda: reception.reach(url, given=given))

    async def _visit(self, submission: Submission) -> Visit:
        """The destination of a submission, waited for as long as patience lasts."""

        async def attempt() -> Visit:
            request = submission.request
            trusted = VerifierKey.parse(request.terms_key)
            destination = await self._reach(request.server_url, given=trusted)
            return Visit(destination, await destination.fetch_versions(request.origin))

        return await self._patience.begin().ask(attempt)

    async def _visit_if_up(self, submission: Submission) -> Visit | None:
        impatient = replace(self._patience, limit_ms=0)
        try:
            return await replace(self, patience=impatient)._visit(submission)  # noqa: SLF001
        except UnavailableError as exc:
            self.listener.tell(notices.going_on_without_destination(exc))
            return None

    @property
    def _patience(self) -> Patience:
        return self.patience or Patience(self.clock, listener=self.listener)

    # --- steps ---

    async def _run(
        self, journal: Journal, visit: Visit | None, key: FilerKey | None = None
    ) -> Submission:
        """Take steps until there is nothing to do but wait."""
        for _ in range(MAX_ROUNDS):
            step = journal.submission.next_step
            if step is Step.SEAL:
                await self._seal(journal, visit or await self._visit(journal.submission), key)
            elif step is Step.TICKET:
                visit = visit or await self._visit(journal.submission)
                await self._ticket(journal, visit)
            elif step is Step.UPLOAD:
                await self._stage(journal, visit)
                if journal.submission.missing:
                    break  # staged already, and no relay takes the rest now
            elif step is Step.PRESENT:
                visit = visit or await self._visit(journal.submission)
                await self._present(journal, visit)
            else:
                break
        else:
            raise messages.receipts_not_taken(journal.submission.id)
        return journal.submission

    async def _seal(self, journal: Journal, visit: Visit, key: FilerKey | None) -> None:
        request = journal.submission.request
        folder = journal.folder
        stop = threading.Event()

        def work() -> None:
            sources = gather([Path(source) for source in request.sources])
            require_fits(sources, visit.versions.terms)
            path = Path(request.key_file) if request.key_file else self.home.key_file
            filer = key or self._key(path, may_create=request.key_file is None)
            save_terms(folder, visit.versions.served, disk=self.disk)
            order = Order.new(request, sources, visit.versions.latest.signed, filer)
            sealed = seal(order, folder, disk=self.disk, watch=Watch(self.listener, stop))
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
        self.listener.tell(notices.sealed(journal.submission))

    async def _ticket(self, journal: Journal, visit: Visit) -> None:
        submission = journal.submission
        if submission.sealed is None:
            return
        origin = submission.request.origin
        window = TicketWindow(visit.destination, origin, visit.versions.terms, self._patience)
        answer = await window.ask(submission.sealed)
        if isinstance(answer, Ticket):
            await self._require_on_time(answer, visit, submission)
            await self._take_ticket(journal, answer, visit)
        else:
            await self._take_refusal(journal, answer, visit)

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
        await asyncio.to_thread(write_atomically, path, text.encode(), disk=self.disk)
        # A crash here leaves the file only: the same ticket is asked for again.
        await journal.change(lambda s: s.take_ticket(text))
        await self._renew_evidence(journal)
        self.listener.tell(notices.on_time(journal.folder.ticket, ticket, visit.versions.terms))

    async def _take_refusal(self, journal: Journal, refusal: Refusal, visit: Visit) -> None:
        text = refusal.text()
        path = journal.folder.refusal
        await asyncio.to_thread(write_atomically, path, text.encode(), disk=self.disk)
        await journal.change(lambda s: s.take_refusal(text))
        await self._renew_evidence(journal)
        raise messages.refused(journal.folder.refusal, refusal, visit.versions.terms)

    async def _ask_again(self, journal: Journal, visit: Visit | None) -> Submission:
        """A refused submission is asked for again once the call was extended."""
        if visit is None or journal.submission.refusal is None:
            return journal.submission
        refusal = Refusal.parse(journal.submission.refusal)
        terms = visit.versions.terms
        if refusal.reason == "deadline-passed" and refusal.time > terms.closes + terms.grace_ms:
            raise messages.refused(journal.folder.refusal, refusal, terms)
        await self._ticket(journal, visit)
        return await self._run(journal, visit)

    async def _stage(self, journal: Journal, visit: Visit | None) -> None:
        before = journal.submission.state
        sealed = journal.submission.sealed
        if visit is not None:
            terms = visit.versions.terms
            await asyncio.to_thread(
                save_terms, journal.folder, visit.versions.served, disk=self.disk
            )
        else:
            kept = await asyncio.to_thread(load_terms, journal.folder)
            note = (sealed.terms if sealed else "").encode()
            terms = kept[-1].signed.terms if kept else SignedTerms.parse(note).terms
        stager = Stager(
            journal,
            self.session,
            None if visit is None else visit.destination,
            terms,
            self._patience,
            self.listener,
        )
        try:
            await stager.stage()
        finally:
            await self._renew_evidence(journal)
            self._tell_if_staged(journal, before)

    async def _present(self, journal: Journal, visit: Visit) -> None:
        before = journal.submission.state
        wait = self._patience.begin(
            until=visit.versions.terms.stage_by, time=visit.destination.time
        )
        await wait.ask(lambda: present(journal, visit.destination, self._patience))
        await self._renew_evidence(journal)
        self._tell_if_staged(journal, before)

    def _tell_if_staged(self, journal: Journal, before: SubmissionState) -> None:
        state = SubmissionState.STAGED
        if journal.submission.state is state and before is not state:
            self.listener.tell(notices.staged(journal.submission))

    async def _watch(self, journal: Journal, visit: Visit | None) -> None:
        if visit is not None:
            watcher = Watcher(journal, visit.destination, visit.versions, self.listener)
            await watcher.look()

    async def _renew_evidence(self, journal: Journal) -> None:
        """Bring the evidence up to date; a failure is told and stops nothing."""
        try:
            await asyncio.to_thread(update, journal.folder, journal.submission, disk=self.disk)
        except BistroError as exc:
            self.listener.tell(notices.evidence_not_renewed(exc))
