"""``bistro amend``."""

from __future__ import annotations

from pathlib import Path

import click

from bistro_client.changing import amendment
from bistro_client.cli.completion import submissions
from bistro_client.cli.options import (
    Connection,
    Frame,
    framed,
    require_form,
    unlocking,
    with_network,
)
from bistro_client.cli.running import submit


@click.command("amend")
@click.argument("submission", shell_complete=submissions)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH…")
@click.option(
    "--form", metavar="TYPE", callback=require_form, help="Form type; that of SUBMISSION if left."
)
@unlocking
@with_network
@framed
def command(
    frame: Frame,
    *,
    submission: str,
    paths: tuple[Path, ...],
    form: str | None,
    connection: Connection,
) -> None:
    """Replace an earlier SUBMISSION by other files, in the same slot.

    An amendment is a complete filing: name all files, not only those that changed. It needs a
    ticket of its own before the deadline; if it comes too late, the earlier submission stays as
    it is. It is signed with the key of the earlier one.

    \b
    Examples:
      bistro amend 2026-11-22-173000 report-v2.pdf annexes/

    Exit codes are those of `bistro submit`.
    """  # noqa: D301 - click reads the backspace
    wish = amendment(frame.home.find(submission), paths, form=form)
    submit(frame, connection, wish)
