"""``bistro status``."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import click
from rich.table import Table

from bistro.errors import BistroError, UnavailableError
from bistro.protocol.submission import Submission, SubmissionState
from bistro.wire.document import Json
from bistro.wire.terms import SignedTerms
from bistro.wire.ticket import Ticket
from bistro_client.cli.completion import submissions
from bistro_client.cli.options import Connection, Frame, framed, with_network
from bistro_client.cli.running import describe, refused_for, run
from bistro_client.home import Folder
from bistro_client.journal import read_journal
from bistro_client.submitting import Submitter
from bistro_client.times import show
from bistro_client.wording import say

STATUS_PATIENCE_MS = 3_000


@dataclass(frozen=True, slots=True)
class Row:
    """One submission in the table."""

    folder: Folder
    submission: Submission | None
    error: BistroError | None


@click.command("status")
@click.argument("submission", required=False, metavar="[SUBMISSION]", shell_complete=submissions)
@click.option("--offline", is_flag=True, help="Show what is on disk; ask nobody.")
@with_network
@framed
def command(
    frame: Frame,
    *,
    submission: str | None,
    offline: bool,
    connection: Connection,
) -> None:
    """Show where submissions stand: ticketed, staged, collected, opened, and the outcome.

    Asks the destination, verifies what it says, brings the evidence up to date, and stages
    again what relays lost. What cannot be reached is shown as it was.

    \b
    Examples:
      bistro status
      bistro status 2026-11-22-173000 --json
      bistro status --offline
    """  # noqa: D301 - click reads the backspace
    folders = [frame.home.find(submission)] if submission else frame.home.folders()
    if connection.patience is None:
        connection = replace(connection, patience=STATUS_PATIENCE_MS)
    if offline or not folders:
        rows = [_read(folder) for folder in folders]
    else:
        rows = run(frame, connection, lambda submitter: _look(submitter, folders))
    found: list[Json] = [_document(row) for row in rows]
    frame.output.result(
        {"submissions": found}, _table(rows) if rows else say("status.no-submissions-yet")
    )
    if submission and not frame.output.as_json:
        for row in rows:
            _tell_attempts(frame, row)
    failures = [row for row in rows if row.error is not None]
    for row in failures:
        if row.error is not None and not frame.output.as_json:
            frame.output.err.print(
                say("status.error", folder=row.folder.id, error=row.error.message), style="red"
            )
            frame.output.err.print(
                say("status.next", hint=row.error.hint or say("status.try-again-later"))
            )
    sys.exit(failures[0].error.exit_code if failures and failures[0].error else 0)


async def _look(submitter: Submitter, folders: list[Folder]) -> list[Row]:
    rows: list[Row] = []
    for folder in folders:
        try:
            rows.append(Row(folder, await submitter.look(folder), None))
        except BistroError as exc:
            before = _read(folder)
            rows.append(Row(folder, before.submission, before.error or exc))
    return rows


def _read(folder: Folder) -> Row:
    try:
        return Row(folder, read_journal(folder), None)
    except BistroError as exc:
        return Row(folder, None, exc)


def _document(row: Row) -> dict[str, Json]:
    error: Json = None
    if row.error is not None:
        error = {"code": row.error.code, "message": row.error.message, "hint": row.error.hint}
    if row.submission is None:
        return {"id": row.folder.id, "error": error}
    return {**describe(row.submission, row.folder), "error": error}


_COLOURS = {"refused": "red", "lapsed": "red", "sealing": "yellow", "sealed": "yellow"}


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("submission", "call", "for", "state", "ticket", "fragments", "outcome", ""):
        table.add_column(name, overflow="fold")
    for row in rows:
        if row.submission is None:
            table.add_row(
                row.folder.id, "", "", "damaged", "", "", "", say("status.see-below"), style="red"
            )
            continue
        table.add_row(*_cells(row), style=_COLOURS.get(row.submission.state.value, ""))
    return table


def _cells(row: Row) -> list[str]:
    submission = row.submission
    if submission is None or submission.sealed is None:
        state = "" if submission is None else submission.state.value
        call = "" if submission is None else str(submission.request.origin)
        return [
            row.folder.id,
            call,
            _principal(submission),
            state,
            "none",
            "",
            "",
            "bistro resume",
        ]
    zone = SignedTerms.parse(submission.sealed.terms.encode()).terms.time_zone
    ticket = "none"
    if submission.ticket is not None:
        ticket = show(Ticket.parse(submission.ticket).effective_at, zone)
    held = sum(one.receipt is not None for one in submission.fragments)
    needed = submission.sealed.cut.layout.k
    return [
        submission.id,
        str(submission.request.origin),
        _principal(submission),
        _state(submission),
        ticket,
        f"{held} of {len(submission.fragments)}, {needed} needed",
        submission.outcome or "",
        _note(row, submission),
    ]


def _principal(submission: Submission | None) -> str:
    """For whom it is, where that is not the filer."""
    named = None if submission is None else submission.request.key_file
    return "" if named is None else Path(named).stem


def _state(submission: Submission) -> str:
    """Where it stands, and that it changes another one, where it does."""
    kind = {"submit": "", "amend": " (amends)", "withdraw": " (withdraws)"}
    return submission.state.value + kind[submission.request.kind]


def _tell_attempts(frame: Frame, row: Row) -> None:
    """What was tried in vain, and the refusal that proves it: the filer may have to show it."""
    submission = row.submission
    if submission is None or submission.sealed is None:
        return
    zone = SignedTerms.parse(submission.sealed.terms.encode()).terms.time_zone
    for one in submission.attempts:
        frame.output.line(
            f"{show(one.at, zone)}  {one.step.value} {one.peer}: {one.message} ({one.code})"
        )
    if submission.refusal is not None:
        frame.output.line(f"refused ({refused_for(submission.refusal)}): {row.folder.refusal}")


def _note(row: Row, submission: Submission) -> str:
    if isinstance(row.error, UnavailableError):
        return say("status.as-last-known")
    if submission.state is SubmissionState.REFUSED and submission.refusal is not None:
        return refused_for(submission.refusal)
    return {
        "upload": "bistro resume",
        "present": "bistro resume",
        "ticket": "bistro resume",
    }.get(submission.next_step.value, "")
