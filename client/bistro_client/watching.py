"""Looks where a submission stands: status, repairs, outcome, minutes; every answer verified.

A look is one request while nothing has changed: the status, by its tag. All else is asked for
when it can be there and is not here:

| what | asked for when |
|---|---|
| status | always, but the last, which does not change |
| repairs | the status is new, and says staged: asking for a repair signs it anew |
| outcome | the status says opened or lapsed: it may still change |
| closed | discovery says that the call is closed, and the evidence lacks this closing |
| opening, minutes | discovery says that it was opened, and the evidence lacks them |
| stamped | the terms name an authority, or the call was opened, and the evidence has no stamp |

Discovery proves nothing, and need not: it only says when to ask for what does.

Source: docs/spec/opening.md, status; docs/spec/collection.md, repairs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from bistro.crypto.merkle import verify_consistency
from bistro.crypto.signing import Note
from bistro.errors import UnknownObjectError, VerificationError
from bistro.ids import Origin
from bistro.protocol.submission import Submission, SubmissionState
from bistro.wire.anchor import StampedEntry
from bistro.wire.header import NO_TOKEN
from bistro.wire.minutes import verify_minutes
from bistro.wire.status import Status, verify_outcome, verify_status
from bistro.wire.terms import Terms
from bistro.wire.ticket import Closed, Ticket
from bistro_client import notices
from bistro_client.contact import Destination, Versions
from bistro_client.evidence_file import Findings, read_published, save_terms, update
from bistro_client.journal import Journal
from bistro_client.listening import Listener
from bistro_client.sealing import clear_spool
from bistro_client.wording import say

T = TypeVar("T")
_REPAIRABLE: Final = frozenset(
    {SubmissionState.TICKETED, SubmissionState.STAGING, SubmissionState.STAGED}
)
_ENDED: Final = frozenset({SubmissionState.OPENED, SubmissionState.LAPSED})


class _Text(Protocol):
    def text(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Watcher:
    """Watches one submission that has a ticket.

    Attributes:
        journal: Owned by the caller.
        destination: Whom to ask.
        versions: The call's terms, all of them.
        listener: Told what changed.
    """

    journal: Journal
    destination: Destination
    versions: Versions
    listener: Listener

    async def look(self) -> Submission:
        """Fetch what the destination says now, verify it, write it down, renew the evidence.

        Fragments that it asks for again are without receipt afterwards: stage them.

        Raises:
            UnavailableError: It cannot be reached.
            VerificationError: Something that it says does not hold; it was not believed.
        """
        if self.journal.submission.state not in _ENDED:
            await self._take_status()
        if self.journal.submission.state in _ENDED:
            await self._take_outcome()
        kept = await asyncio.to_thread(read_published, self.journal.folder)
        await self._renew_evidence(await self._fetch_published(kept))
        if self.journal.submission.may_delete_spool:
            await asyncio.to_thread(clear_spool, self.journal.folder, disk=self.journal.disk)
        return self.journal.submission

    @property
    def _origin(self) -> Origin:
        return self.journal.submission.request.origin

    @property
    def _terms(self) -> Terms:
        return self.versions.terms

    @property
    def _commitment(self) -> bytes:
        sealed = self.journal.submission.sealed
        return b"" if sealed is None else sealed.commitment

    async def _take_status(self) -> None:
        note = await _if_any(
            self.destination.client.fetch_status(self._origin.call, self._commitment)
        )
        if note is None:
            return  # there is none while the destination knows nothing but the ticket
        text = note.encode()
        status = verify_status(text, self._terms.keys.status)
        self._require_ours(status)
        is_new = text.decode() != self.journal.submission.status
        if is_new and status.state == "staged" and self.journal.submission.state in _REPAIRABLE:
            # Before the status is written down: a crash in between asks for both again.
            await self._take_repairs()
        before = self.journal.submission.state
        state = SubmissionState(status.state)
        after = await self.journal.change(lambda s: s.observe(state, status=text.decode()))
        if after.state is not before:
            self.listener.tell(notices.state_changed(after))

    def _require_ours(self, status: Status) -> None:
        if (status.origin, status.commitment) != (self._origin, self._commitment):
            raise VerificationError(
                say(
                    "watching.status-expected-in",
                    hex=self._commitment.hex(),
                    origin=self._origin,
                    hex_2=status.commitment.hex(),
                    origin_2=status.origin,
                )
            )

    async def _take_repairs(self) -> None:
        wanted: set[int] = set()
        after = self.journal.submission.repair_cursor
        while rows := await self.destination.client.fetch_repairs(self._origin.call, after=after):
            after = rows[-1].cursor
            for row in rows:
                if row.commitment == self._commitment:
                    wanted.update(row.indexes)
        fragments = self.journal.submission.fragments
        lost = sorted(one.index for one in fragments if one.receipt and one.index in wanted)
        if lost:
            self.listener.tell(notices.repair_asked(lost))
        # With the cursor, so that a row that was honoured is not honoured again for ever.
        await self.journal.change(lambda s: s.repair(lost, cursor=after))

    async def _take_outcome(self) -> None:
        sealed = self.journal.submission.sealed
        if sealed is None:
            return
        note = await self._fetch_outcome(sealed.signed.header.token)
        # Where the destination could read no header, it knows no token.
        note = note or await self._fetch_outcome(NO_TOKEN)
        if note is None:
            return  # not opened for this submission yet
        text = note.encode()
        outcome = verify_outcome(text, self._terms.keys.status)
        if (outcome.origin, outcome.commitment) != (self._origin, self._commitment):
            raise VerificationError(say("watching.outcome-about-another"))
        before = self.journal.submission.outcome
        await self.journal.change(lambda s: s.conclude(outcome.outcome, note=text.decode()))
        if outcome.outcome != before:
            self.listener.tell(notices.outcome_known(outcome))

    async def _fetch_outcome(self, token: bytes) -> Note | None:
        return await _if_any(
            self.destination.client.fetch_outcome(self._origin.call, self._commitment, token)
        )

    async def _fetch_published(self, kept: Findings) -> Findings:
        """What the evidence lacks of what the destination publishes about the whole call."""
        client, call = self.destination.client, self._origin.call
        summary = self.destination.discovery.call(call)
        state = "" if summary is None else summary.state
        is_opened = state == "opened"
        closed = opening = minutes = consistency = None
        if (state == "closed" or is_opened) and not self._is_this_closing(kept.closed):
            closed = await _if_any(client.fetch_closed(call))
        if is_opened and kept.opening is None:
            opening = await _if_any(client.fetch_opening(call))
        if is_opened and kept.minutes is None:
            note = await _if_any(client.fetch_minutes(call))
            if note is not None:
                minutes = note.encode()
                consistency = await self._fetch_consistency(minutes)
        return Findings(
            closed=_text_of(closed),
            opening=_text_of(opening),
            minutes=None if minutes is None else minutes.decode(),
            consistency=consistency,
            rotations=self.destination.discovery.rotations,
            stamped=await self._fetch_stamped(kept, is_opened=is_opened),
        )

    def _is_this_closing(self, closed: str | None) -> bool:
        """Whether the call closed so, and was not extended since."""
        return closed is not None and Closed.parse(closed).entry.digest == self._terms.hash

    async def _fetch_stamped(self, kept: Findings, *, is_opened: bool) -> StampedEntry | None:
        """The ticket under a checkpoint that others stamped; checked with the evidence."""
        ticket = self.journal.submission.ticket
        may_count = is_opened or bool(self._terms.timestamping)
        if ticket is None or kept.stamped is not None or not may_count:
            return None
        index = Ticket.parse(ticket).index
        return await _if_any(self.destination.client.fetch_stamped(self._origin.call, index))

    async def _fetch_consistency(self, note: bytes) -> tuple[bytes, ...] | None:
        ticket = self.journal.submission.ticket
        if ticket is None:
            return None
        keys = self._terms.keys
        old = Ticket.parse(ticket).verify(keys.log, self._origin)
        new = verify_minutes(note, keys.status).verify_checkpoint(keys.log)
        path = await self.destination.client.fetch_consistency(
            self._origin.call, old.size, new.size
        )
        verify_consistency(
            old_size=old.size, old_root=old.root, size=new.size, root=new.root, path=path
        )
        return path

    async def _renew_evidence(self, found: Findings) -> None:
        folder, disk = self.journal.folder, self.journal.disk
        await asyncio.to_thread(save_terms, folder, self.versions.served, disk=disk)
        await asyncio.to_thread(update, folder, self.journal.submission, found, disk=disk)


async def _if_any(fetching: Awaitable[T]) -> T | None:
    """What is fetched, or None if the destination has no such thing (yet)."""
    try:
        return await fetching
    except UnknownObjectError:
        return None


def _text_of(promise: _Text | None) -> str | None:
    return None if promise is None else promise.text()
