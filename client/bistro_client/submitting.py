"""Submits, resumes and watches: the library's front door.

``Submitter`` holds no rules. The journal's state machine says what is to be done next, ``Steps``
does it, and ``resume`` is the same loop entered from what is on disk.

Source: docs/spec/journal.md; docs/spec/commands.md.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bistro.clock import Clock
from bistro.crypto.signing import VerifierKey
from bistro.errors import FormatError
from bistro.ids import DEFAULT_SLOT, require_slot
from bistro.instant import format_rfc3339
from bistro.net.session import Session
from bistro.protocol.submission import Request, Step, Submission, SubmissionState
from bistro.storage.durable import SYSTEM_DISK, Disk
from bistro.wire.header import Kind
from bistro.wire.refusal import Refusal
from bistro.wire.terms import Terms
from bistro_client import keyring, messages, notices, peer_messages
from bistro_client.equipment import Equipment, Visit
from bistro_client.gathering import Source, require_fits, sources_of
from bistro_client.home import Folder, Home
from bistro_client.journal import Journal
from bistro_client.keyring import FilerKey
from bistro_client.listening import SILENT, Listener
from bistro_client.oversight import Limits
from bistro_client.pacing import Pace
from bistro_client.patience import Patience
from bistro_client.steps import Steps
from bistro_client.times import UNSURE_MS

_SECONDS_LENGTH = len("2026-11-22T17:30:00")
_RANDOM_SIZE = 3


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
        kind: Whether it is new, amends or withdraws.
        previous: Commitment of what is amended or withdrawn.
        filer_key: The public key that must sign it, where only one may.
    """

    paths: Sequence[Path]
    url: str
    call: str | None = None
    slot: str = DEFAULT_SLOT
    form: str | None = None
    key_file: Path | None = None
    trust: VerifierKey | None = None
    kind: Kind = "submit"
    previous: bytes | None = None
    filer_key: bytes | None = None


class Submitter:
    """The filer's agent; one may do many submissions, one after the other.

    Args:
        home: Where everything is kept.
        session: An open session.
        clock: This machine's clock; nothing is decided by it.
        listener: Told what happens.
        patience: How long to go on when somebody cannot be reached; until it is too late when
            not given.
        unlock: Loads a key file, asking for its passphrase if it must.
        disk: The system calls to use.
        limits: When an upload is hopeless.
        pace: Of all uploads together.

    Attributes:
        current: The submission that was worked on last, for telling where it stands.
    """

    def __init__(  # noqa: PLR0913 - what a program may replace, each by name
        self,
        home: Home,
        session: Session,
        *,
        clock: Clock,
        listener: Listener = SILENT,
        patience: Patience | None = None,
        unlock: Callable[[Path], FilerKey] = keyring.load,
        disk: Disk = SYSTEM_DISK,
        limits: Limits | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._equipment = Equipment(
            home=home,
            session=session,
            clock=clock,
            listener=listener,
            patience=patience or Patience(clock, listener=listener),
            unlock=unlock,
            disk=disk,
            limits=limits or Limits(),
            pace=pace or Pace(),
        )
        self._steps = Steps(self._equipment)
        self.current: Folder | None = None

    async def submit(self, wish: Wish, *, until: Step | None = None) -> Submission:
        """Seal, get the ticket, stage, and show the receipts.

        Args:
            wish: What is to be submitted.
            until: A step that is left to somebody else, with all that follow.

        Raises:
            BistroError: The submission's journal says how far it came; ``resume`` goes on. If
                sealing failed, nothing was promised and nothing is kept.
        """
        require_slot(wish.slot)
        sources = await asyncio.to_thread(sources_of, wish.kind, wish.paths)
        key_file = wish.key_file or self._equipment.home.key_file
        key = await asyncio.to_thread(
            self._equipment.key, key_file, may_create=wish.key_file is None
        )
        if wish.filer_key not in {None, key.public}:
            raise messages.key_of_another(key_file, wish.filer_key or b"")
        destination = await self._equipment.reach(wish.url, given=wish.trust)
        origin = destination.choose_call(wish.call)
        visit = await self._equipment.fetch_terms(destination, origin)
        self._require_possible(visit, sources)
        request = Request(
            sources=tuple(_as_text(path) for path in wish.paths),
            server_url=wish.url.rstrip("/"),
            terms_key=destination.terms_key.format(),
            origin=origin,
            slot=wish.slot,
            kind=wish.kind,
            previous=wish.previous,
            form=wish.form,
            key_file=None if wish.key_file is None else _as_text(wish.key_file),
        )
        journal = await asyncio.to_thread(self._begin, request)
        with _closing(journal):
            return await self._steps.run(journal, visit, key, until=until)

    async def fetch_terms(
        self, url: str, call: str | None, *, trust: VerifierKey | None = None
    ) -> Terms:
        """The latest verified terms of a call; the server's key is pinned as by ``submit``.

        Raises:
            BistroError: As ``submit``.
        """
        destination = await self._equipment.reach(url, given=trust)
        visit = await self._equipment.fetch_terms(destination, destination.choose_call(call))
        return visit.versions.terms

    async def resume(self, folder: Folder, *, recover: bool = False) -> Submission:
        """Go on with a submission from where its journal says it is.

        Args:
            folder: Of the submission.
            recover: Its journal is damaged: go on from the copy made at sealing.

        Raises:
            BistroError: As ``submit``.
        """
        self.current = folder
        opening = Journal.recover if recover else Journal.open
        journal = await asyncio.to_thread(opening, folder, disk=self._equipment.disk)
        with _closing(journal):
            self._equipment.listener.tell(notices.resumed(journal.submission))
            return await self._resume(journal)

    async def look(self, folder: Folder) -> Submission:
        """Fetch and verify where a submission stands; stages again what is asked for.

        Raises:
            BistroError: As ``submit``.
        """
        self.current = folder
        journal = await asyncio.to_thread(Journal.open, folder, disk=self._equipment.disk)
        with _closing(journal):
            if journal.submission.ticket is None:
                return journal.submission
            visit = await self._equipment.visit(journal.submission)
            was_missing = journal.submission.missing
            await self._watch(journal, visit)
            if journal.submission.missing != was_missing:
                return await self._steps.run(journal, visit)
            return journal.submission

    # --- inside ---

    def _require_possible(self, visit: Visit, sources: Sequence[Source]) -> None:
        """Refuse what cannot succeed before anything is read; tell the deadline."""
        terms = visit.versions.terms
        now = visit.destination.time.now()
        require_fits(sources, terms)
        if visit.destination.time.offset_ms is not None and now + UNSURE_MS < terms.opens:
            raise peer_messages.not_open_yet(terms)
        self._equipment.listener.tell(notices.deadline(terms, now))
        size = sum(source.size for source in sources)
        offset_ms = visit.destination.time.offset_ms
        self._equipment.listener.tell(
            notices.limits(terms, count=len(sources), size=size, offset_ms=offset_ms)
        )

    def _begin(self, request: Request) -> Journal:
        """A journal with a name that sorts by time and meets no other."""
        now = self._equipment.clock.now()
        stamp = format_rfc3339(now)[:_SECONDS_LENGTH].replace("T", "-").replace(":", "")
        name = f"{stamp}-{request.origin.call}-{secrets.token_hex(_RANDOM_SIZE)}"
        submission = Submission(id=name, created_at=now, request=request)
        self.current = self._equipment.home.folder(name)
        journal = Journal.create(self.current, submission, disk=self._equipment.disk)
        self._equipment.listener.tell(notices.begun(submission))
        return journal

    async def _resume(self, journal: Journal) -> Submission:
        submission = journal.submission
        if submission.state is SubmissionState.REFUSED:
            return await self._ask_again(journal)
        match submission.next_step:
            case Step.REST:
                return submission
            case Step.UPLOAD:
                # Relays may be up while the destination is down: the terms are on disk.
                visit = await self._equipment.visit_if_up(submission)
            case _:
                visit = await self._equipment.visit(submission)
        if visit is not None and submission.next_step is Step.WATCH:
            await self._watch(journal, visit)
        return await self._steps.run(journal, visit)

    async def _ask_again(self, journal: Journal) -> Submission:
        """Ask again for a refused submission, once the call was extended."""
        visit = await self._equipment.visit(journal.submission)
        terms = visit.versions.terms
        refusal = Refusal.parse(journal.submission.refusal or "")
        if refusal.reason == "deadline-passed" and refusal.time > terms.closes + terms.grace_ms:
            raise peer_messages.refused(journal.folder.refusal, refusal, terms)
        await self._steps.ticket(journal, visit)
        return await self._steps.run(journal, visit)

    async def _watch(self, journal: Journal, visit: Visit) -> None:
        from bistro_client.watching import Watcher  # noqa: PLC0415 - not before the ticket

        listener = self._equipment.listener
        try:
            await Watcher(journal, visit.destination, visit.versions, listener).look()
        except FormatError as exc:
            raise peer_messages.nonsense(exc) from exc


@contextmanager
def _closing(journal: Journal) -> Iterator[None]:
    try:
        yield
    finally:
        journal.close()


def _as_text(path: Path) -> str:
    """An absolute path as the journal holds it."""
    text = str(path.absolute())
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise messages.path_not_text(path) from exc
    return text
