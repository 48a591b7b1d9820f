"""Runs the library from a command: one loop, one session, one listener; and describes results."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bistro.clock import SystemClock
from bistro.errors import BistroError
from bistro.instant import format_rfc3339
from bistro.net.session import Session
from bistro.protocol.submission import Submission, SubmissionState
from bistro.wire.document import Json
from bistro.wire.refusal import Refusal
from bistro.wire.ticket import Ticket
from bistro_client import notices
from bistro_client.cli.bars import Bars
from bistro_client.cli.options import Connection, Frame, unlocker
from bistro_client.home import Folder
from bistro_client.journal import read_journal
from bistro_client.pacing import Pace
from bistro_client.patience import Patience
from bistro_client.submitting import Submitter, Wish
from bistro_client.waking import Waking
from bistro_client.wording import say

T = TypeVar("T")
INTERRUPTED_EXIT = 130
NOTHING_SENT = say("running.nothing-sent")


def run(
    frame: Frame,
    connection: Connection,
    work: Callable[[Submitter], Awaitable[T]],
    *,
    before: str = "",
) -> T:
    """What ``work`` does with a submitter.

    An error, or Ctrl-C, ends the program here: only here is it known where the filer stands.
    ``before`` says where, while there is no submission yet.
    """
    clock = SystemClock()
    with Bars(frame.output) as bars:
        submitters: list[Submitter] = []

        async def inside() -> T:
            async with Session(
                allow_http=connection.allow_http,
                ca_path=connection.ca_file,
                use_proxies=True,
            ) as session:
                submitter = Submitter(
                    frame.home,
                    session,
                    clock=clock,
                    listener=bars,
                    patience=Patience(clock, limit_ms=connection.patience, listener=bars),
                    unlock=unlocker(connection.passphrase_file),
                    pace=Pace(connection.rate),
                )
                submitters.append(submitter)
                waking = asyncio.ensure_future(  # noqa: TID251 - ended below
                    Waking(session, clock).run()
                )
                try:
                    return await work(submitter)
                finally:
                    waking.cancel()

        try:
            return asyncio.run(inside())
        except BistroError as exc:
            bars.close()
            frame.output.error(exc, _standing(submitters, before))
            sys.exit(exc.exit_code)
        except KeyboardInterrupt:
            bars.close()
            hint = _standing(submitters, before)
            if submitters and submitters[0].current is not None:
                hint += say("running.bistro-resume-goes")
            frame.output.failure("interrupted", "interrupted", hint)
            sys.exit(INTERRUPTED_EXIT)


def submit(frame: Frame, connection: Connection, wish: Wish) -> None:
    """Submit, and show the result."""

    async def work(submitter: Submitter) -> None:
        submission = await submitter.submit(wish)
        folder = frame.home.folder(submission.id)
        frame.output.result({"submission": describe(submission, folder)}, None)
        frame.output.line(say("running.evidence", evidence=folder.evidence))

    run(frame, connection, work, before=NOTHING_SENT)


def _standing(submitters: list[Submitter], before: str) -> str:
    """Where the filer stands, as it is on disk."""
    current = submitters[0].current if submitters else None
    if current is None:
        return before
    if not current.journal.exists():
        return NOTHING_SENT
    try:
        submission = read_journal(current)
    except BistroError:
        return ""
    # A refusal's own words say it already.
    is_said = submission.state is SubmissionState.REFUSED
    return "" if is_said else notices.standing(submission)


def describe(submission: Submission, folder: Folder) -> dict[str, Json]:
    """A submission as a JSON object, for ``--json``."""
    sealed = submission.sealed
    ticket = None if submission.ticket is None else Ticket.parse(submission.ticket)
    return {
        "id": submission.id,
        "call": str(submission.request.origin),
        "slot": submission.request.slot,
        "kind": submission.request.kind,
        "key_file": submission.request.key_file,
        "state": submission.state.value,
        "next": submission.next_step.value,
        "commitment": None if sealed is None else sealed.commitment.hex(),
        "ticketed_at": None if ticket is None else format_rfc3339(ticket.effective_at),
        "ticket": str(folder.ticket) if ticket else None,
        "refusal": str(folder.refusal) if submission.refusal else None,
        "evidence": str(folder.evidence) if folder.evidence.exists() else None,
        "needed": None if sealed is None else sealed.cut.layout.k,
        "fragments": [
            {
                "index": one.index,
                "relay": one.relay,
                "has_receipt": one.receipt is not None,
                "is_presented": one.is_presented,
            }
            for one in submission.fragments
        ],
        "outcome": submission.outcome,
        "refused_for": None if submission.refusal is None else refused_for(submission.refusal),
        "attempts": [
            {
                "at": format_rfc3339(one.at),
                "step": one.step.value,
                "peer": one.peer,
                "code": one.code,
                "message": one.message,
            }
            for one in submission.attempts
        ],
    }


def refused_for(refusal: str) -> str:
    """The reason of a refusal that was kept."""
    return Refusal.parse(refusal).reason
