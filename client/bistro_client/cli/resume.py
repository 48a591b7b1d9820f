"""``bistro resume``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bistro.clock import SystemClock
from bistro.errors import BistroError, SettingsError, UnavailableError
from bistro.protocol.submission import Step, Submission, SubmissionState
from bistro.wire.document import Json
from bistro_client import notices
from bistro_client.cli.options import Frame, framed, unlocking, with_network
from bistro_client.cli.running import Connection, describe, run
from bistro_client.home import Folder
from bistro_client.journal import read_journal
from bistro_client.leftovers import sweep_home
from bistro_client.submitting import Submitter

MANY_PATIENCE_MS = 60_000
"""With several submissions, one whose server is silent must not keep the others waiting."""


@click.command("resume")
@click.argument("submission", required=False, metavar="[SUBMISSION]")
@click.option(
    "--recover", is_flag=True, help="Its journal is damaged: go on from the copy made at sealing."
)
@unlocking
@with_network
@framed
def command(  # noqa: PLR0913 - one argument for each option
    frame: Frame,
    *,
    submission: str | None,
    recover: bool,
    passphrase_file: Path | None,
    allow_http: bool,
    ca_file: Path | None,
    patience: int | None,
) -> None:
    """Go on with everything that is not finished, or with one SUBMISSION.

    Continues where it stopped, after a crash too, and never submits twice: the same ticket is
    asked for again, uploads go on at the byte that the relay has. A refused submission is asked
    for again once the call was extended. SUBMISSION is an id from `bistro status`, or its
    beginning.

    \b
    Examples:
      bistro resume
      bistro resume 2026-11-22-17
      bistro resume 2026-11-22-173000-spring-3f2a91 --recover

    Exit codes are those of `bistro submit`; with several submissions, the first failure's.
    """  # noqa: D301 - click reads the backspace
    if recover and submission is None:
        raise SettingsError("--recover: expected a submission", hint="name one: `bistro status`")
    sweep_home(frame.home, SystemClock())
    folders = [frame.home.find(submission)] if submission else frame.home.folders()
    if patience is None and len(folders) > 1:
        patience = MANY_PATIENCE_MS
    connection = Connection(allow_http, ca_file, patience, passphrase_file)

    async def one(submitter: Submitter) -> int:
        done = await submitter.resume(folders[0], recover=recover)
        _show(frame, [done], failure_count=0)
        return 0

    async def all_of_them(submitter: Submitter) -> int:
        failures: list[BistroError] = []
        found: list[Submission] = []
        for folder in folders:
            try:
                if _has_work(folder):
                    found.append(await submitter.resume(folder))
            except BistroError as exc:
                failures.append(exc)
                _tell(frame, folder, exc)
        _show(frame, found, failure_count=len(failures))
        return failures[0].exit_code if failures else 0

    sys.exit(run(frame, connection, one if submission else all_of_them))


def _show(frame: Frame, found: list[Submission], *, failure_count: int) -> None:
    documents: list[Json] = [describe(done, frame.home.folder(done.id)) for done in found]
    frame.output.result({"submissions": documents, "failures": failure_count}, None)
    for done in found:
        frame.output.line(f"{done.id}: {notices.standing(done)}")
    if not found and not failure_count:
        frame.output.line("nothing to resume")


def _has_work(folder: Folder) -> bool:
    submission = read_journal(folder)
    is_refused = submission.state is SubmissionState.REFUSED
    return submission.next_step is not Step.REST or is_refused


def _tell(frame: Frame, folder: Folder, error: BistroError) -> None:
    """One of several failed; the others go on."""
    is_busy = isinstance(error, UnavailableError)
    style = "yellow" if is_busy else "bold red"
    frame.output.err.print(f"error: {folder.id}: {error.message}", style=style)
    frame.output.err.print(f"next: {error.hint or f'bistro resume {folder.id}'}")
