"""``bistro resume``."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import click

from bistro.clock import SystemClock
from bistro.errors import BistroError, SettingsError, UnavailableError
from bistro.protocol.submission import Step, Submission, SubmissionState
from bistro.wire.document import Json
from bistro_client import notices
from bistro_client.cli.completion import submissions
from bistro_client.cli.options import (
    Connection,
    Frame,
    framed,
    read_duration,
    unlocking,
    with_network,
)
from bistro_client.cli.running import describe, run
from bistro_client.evidence_file import recall_terms
from bistro_client.home import Folder
from bistro_client.journal import read_journal
from bistro_client.leftovers import sweep_home
from bistro_client.rhythm import Rhythm
from bistro_client.submitting import Submitter
from bistro_client.wording import say

_WATCHED: Final = frozenset(
    {
        SubmissionState.SEALING,
        SubmissionState.SEALED,
        SubmissionState.TICKETED,
        SubmissionState.STAGING,
        SubmissionState.STAGED,
    }
)
_MS_PER_S: Final = 1_000
MANY_PATIENCE_MS = 60_000
"""With several submissions, one whose server is silent must not keep the others waiting."""


@click.command("resume")
@click.argument("submission", required=False, metavar="[SUBMISSION]", shell_complete=submissions)
@click.option(
    "--recover", is_flag=True, help="Its journal is damaged: go on from the copy made at sealing."
)
@click.option("--watch", is_flag=True, help="Go on until the destination has collected everything.")
@click.option(
    "--every",
    callback=read_duration,
    metavar="TIME",
    help="How often --watch looks; by default after 5 minutes, then less and less often.",
)
@unlocking
@with_network
@framed
def command(
    frame: Frame,
    *,
    submission: str | None,
    recover: bool,
    watch: bool,
    every: int | None,
    connection: Connection,
) -> None:
    """Go on with everything that is not finished, or with one SUBMISSION.

    Continues where it stopped, after a crash too, and never submits twice: the same ticket is
    asked for again, uploads go on at the byte that the relay has. A refused submission is asked
    for again once the call was extended. SUBMISSION is an id from `bistro status`, or its
    beginning.

    With --watch it stays, and stages again what relays lost, until everything is collected:
    until then your machine may hold the only copy of what a relay loses. While nothing changes
    it looks less and less often, but always in good time.

    \b
    Examples:
      bistro resume
      bistro resume --watch
      bistro resume 2026-11-22-17
      bistro resume 2026-11-22-173000-spring-3f2a91 --recover

    Exit codes are those of `bistro submit`; with several submissions, the first failure's.
    """  # noqa: D301 - click reads the backspace
    if recover and submission is None:
        raise SettingsError(
            say("resume.recover-expected-submission"), hint=say("resume.name-one-bistro")
        )
    sweep_home(frame.home, SystemClock())
    named = frame.home.find(submission) if submission else None

    def folders() -> list[Folder]:
        return [named] if named else frame.home.folders()

    if connection.patience is None and (watch or len(folders()) > 1):
        connection = replace(connection, patience=MANY_PATIENCE_MS)

    async def work(submitter: Submitter) -> int:
        if named is not None and (recover or not watch):
            _show(frame, [await submitter.resume(named, recover=recover)], failure_count=0)
            if not watch:
                return 0
        found, failures = await _all_of_them(frame, submitter, folders())
        if watch:
            found, failures = await _stay(frame, submitter, folders, Rhythm(every))
        _show(frame, found, failure_count=len(failures))
        return failures[0].exit_code if failures else 0

    sys.exit(run(frame, connection, work))


Round = tuple[list[Submission], list[BistroError]]


async def _all_of_them(frame: Frame, submitter: Submitter, folders: list[Folder]) -> Round:
    """Go on with each that is not finished; one that fails keeps no other from it."""
    failures: list[BistroError] = []
    found: list[Submission] = []
    for folder in folders:
        try:
            if _has_work(folder):
                found.append(await submitter.resume(folder))
        except BistroError as exc:
            failures.append(exc)
            _tell(frame, folder, exc)
    return found, failures


async def _stay(
    frame: Frame, submitter: Submitter, folders: Callable[[], list[Folder]], rhythm: Rhythm
) -> Round:
    """Look again and again, until everything is collected or cannot be any more."""
    is_told = is_quiet = False
    last: Round = ([], [])
    while left := [folder for folder in folders() if _is_watched(folder)]:
        if not is_told:
            frame.output.notice(notices.watching(len(left), rhythm.every_ms))
            is_told = True
        pause_ms = rhythm.pause_ms(is_quiet=is_quiet, left_ms=_time_left_ms(left))
        # Clients that were started in the same minute must not come in the same second.
        share = 0.75 + secrets.SystemRandom().random() / 2
        await asyncio.sleep(pause_ms * share / _MS_PER_S)
        before, last = last, await _all_of_them(frame, submitter, left)
        is_quiet = not last[1] and all(
            one in before[0] and one.next_step is Step.WATCH for one in last[0]
        )
    return last


def _time_left_ms(folders: list[Folder]) -> int | None:
    """Until the first ``repair_by`` of these; None where no terms are kept."""
    last_days = [
        terms[-1].signed.terms.repair_by for folder in folders if (terms := recall_terms(folder))
    ]
    return min(last_days) - SystemClock().now() if last_days else None


def _show(frame: Frame, found: list[Submission], *, failure_count: int) -> None:
    documents: list[Json] = [describe(done, frame.home.folder(done.id)) for done in found]
    frame.output.result({"submissions": documents, "failures": failure_count}, None)
    for done in found:
        frame.output.line(f"{done.id}: {notices.standing(done)}")
    if not found and not failure_count:
        frame.output.line(say("resume.nothing-resume"))


def _has_work(folder: Folder) -> bool:
    submission = read_journal(folder)
    is_refused = submission.state is SubmissionState.REFUSED
    return submission.next_step is not Step.REST or is_refused


def _is_watched(folder: Folder) -> bool:
    """Whether the destination may still ask for something of this one."""
    try:
        submission = read_journal(folder)
    except BistroError:
        return False  # told in the first round; only a person can mend it
    return submission.state in _WATCHED


def _tell(frame: Frame, folder: Folder, error: BistroError) -> None:
    """One of several failed; the others go on."""
    is_busy = isinstance(error, UnavailableError)
    style = "yellow" if is_busy else "bold red"
    frame.output.err.print(say("resume.error", folder=folder.id, error=error.message), style=style)
    frame.output.err.print(say("resume.next", hint=error.hint or f"bistro resume {folder.id}"))
