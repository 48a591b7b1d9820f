"""``bistro submit``."""

from __future__ import annotations

from pathlib import Path

import click

from bistro.errors import SettingsError
from bistro_client.cli.options import (
    Connection,
    Frame,
    framed,
    parse_vkeys,
    require_form,
    require_slot_name,
    unlocking,
    with_network,
)
from bistro_client.cli.running import submit
from bistro_client.submitting import Wish


@click.command("submit")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH…")
@click.option("--to", "url", required=True, metavar="URL", help="Address of the destination.")
@click.option("--call", metavar="ID", help="Which call; may be left out where only one is open.")
@click.option(
    "--slot",
    default="main",
    show_default=True,
    metavar="NAME",
    callback=require_slot_name,
    help="Which of your submissions to this call: the last one of a slot counts. "
    "Letters a-z, digits, dots, hyphens and underscores, at most 64.",
)
@click.option(
    "--form", metavar="TYPE", callback=require_form, help="Form type, in the destination's words."
)
@click.option(
    "--key",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Your key, if it is not the one at home.",
)
@click.option(
    "--as",
    "principal",
    metavar="NAME",
    help="File for NAME, with the key that `bistro keys new --as NAME` made.",
)
@click.option(
    "--trust",
    metavar="VKEY",
    help="The destination's terms key, if you know it already; it replaces a pinned one.",
)
@unlocking
@with_network
@framed
def command(  # noqa: PLR0913 - one argument for each option
    frame: Frame,
    *,
    paths: tuple[Path, ...],
    url: str,
    call: str | None,
    slot: str,
    form: str | None,
    key: Path | None,
    principal: str | None,
    trust: str | None,
    connection: Connection,
) -> None:
    """Submit files and folders before a deadline.

    Your files are sealed on your disk first; nobody but the holders of the call's key can read
    them. Then the ticket is asked for: YOU ARE ON TIME from the moment that this says so. Then
    the fragments are staged at relays, which give receipts; with enough of them the submission
    is STAGED and cannot lapse. You may stop at any moment after the ticket and go on with
    `bistro resume`, but not for ever: staging has its own deadline, which is shown.

    Folders are taken with all their files, under their own names. Links, devices and names that
    some system could not unpack are refused before anything is sent.

    At the first contact with a server its key is pinned and the fingerprint shown: compare it
    with what the destination publishes elsewhere, or give --trust.

    \b
    Examples:
      bistro submit report.pdf annexes/ --to https://permits.example --call spring
      bistro submit bid/ --to https://tenders.example --slot lot-3 --form bid-v2
      bistro submit report.pdf --to https://permits.example --patience 10m --json

    \b
    Exit codes:
      0  staged
      2  usage: a path, name, key or option is wrong; nothing was sent
      3  refused: too late (the signed refusal is kept), or beyond the call's limits
      4  not verified: do not trust that server or relay until you know why
      5  unavailable: everything is on disk, `bistro resume` goes on
    """  # noqa: D301 - click reads the backspace
    if principal is not None:
        if key is not None:
            raise SettingsError("--as and --key name two keys", hint="give one of them")
        key = frame.home.key_of(principal)
    wish = Wish(
        paths=paths,
        url=url,
        call=call,
        slot=slot,
        form=form,
        key_file=key,
        trust=parse_vkeys((trust,))[0] if trust else None,
    )
    submit(frame, connection, wish)
