"""``bistro submit``."""

from __future__ import annotations

import click

from bistro_client.cli.options import Connection, Frame, framed, unlocking, with_network
from bistro_client.cli.running import submit
from bistro_client.cli.wishing import wish_options, wished
from bistro_client.submitting import Wish


@click.command("submit")
@wish_options
@unlocking
@with_network
@framed
@wished
def command(frame: Frame, *, wish: Wish, connection: Connection) -> None:
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
    submit(frame, connection, wish)
