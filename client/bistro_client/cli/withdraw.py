"""``bistro withdraw``."""

from __future__ import annotations

import sys

import click

from bistro.errors import SettingsError
from bistro_client.changing import withdrawal
from bistro_client.cli.completion import submissions
from bistro_client.cli.options import Connection, Frame, framed, unlocking, with_network
from bistro_client.cli.running import submit
from bistro_client.wording import say


@click.command("withdraw")
@click.argument("submission", shell_complete=submissions)
@click.option("--yes", is_flag=True, help="Do not ask.")
@unlocking
@with_network
@framed
def command(
    frame: Frame,
    *,
    submission: str,
    yes: bool,
    connection: Connection,
) -> None:
    """Withdraw what you submitted in the slot of SUBMISSION: nobody will open it.

    A withdrawal is a submission without files and needs a ticket before the deadline. You may
    submit again in the same slot afterwards, as long as the call is open. That you filed, and
    when, stays visible to the destination.

    \b
    Examples:
      bistro withdraw 2026-11-22-173000
      bistro withdraw 2026-11-22-173000 --yes --json

    Exit codes are those of `bistro submit`.
    """  # noqa: D301 - click reads the backspace
    folder = frame.home.find(submission)
    wish = withdrawal(folder)
    if not yes:
        _ask(folder.id)
    submit(frame, connection, wish)


def _ask(name: str) -> None:
    if not sys.stdin.isatty():
        raise SettingsError(
            say("withdraw.there-nobody-ask", name=name),
            hint=say("withdraw.nothing-was-sent"),
        )
    click.confirm(f"withdraw {name}?", abort=True, err=True)
