"""``bistro seal``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from bistro.protocol.submission import Step
from bistro_client.cli.options import Connection, Frame, framed, unlocking, with_network
from bistro_client.cli.running import NOTHING_SENT, describe, run
from bistro_client.cli.wishing import wish_options, wished
from bistro_client.courier import FILE_NAME, hand_out, require_empty
from bistro_client.evidence_file import load_terms
from bistro_client.submitting import Submitter, Wish
from bistro_client.wording import say


@click.command("seal")
@wish_options
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="A new or empty folder for what is to be uploaded.",
)
@unlocking
@with_network
@framed
@wished
def command(frame: Frame, *, wish: Wish, out: Path, connection: Connection) -> None:
    """Seal files and get the ticket, but let somebody else upload them.

    You are on time as with `bistro submit`. The sealed fragments are then written into a folder,
    with a list of where each may be uploaded by any tus client: take it to a faster line, or
    give it to a courier, who can read nothing of it. The destination learns from the relays what
    they hold; `bistro status` shows when the submission is STAGED. `bistro resume` would upload
    whatever is still missing from here.

    \b
    Examples:
      bistro seal scans/ --to https://permits.example --call spring --out /media/stick/kit

    Exit codes are those of `bistro submit`; 0: on time, and the folder is complete.
    """  # noqa: D301 - click reads the backspace
    require_empty(out)

    async def work(submitter: Submitter) -> None:
        submission = await submitter.submit(wish, until=Step.UPLOAD)
        folder = frame.home.folder(submission.id)
        terms = load_terms(folder)[-1].signed.terms
        await asyncio.to_thread(hand_out, folder, submission, terms, out)
        listed = str(out / FILE_NAME)
        frame.output.result({"submission": describe(submission, folder), "uploads": listed}, None)
        frame.output.line(say("seal.be-uploaded-until", listed=listed))

    run(frame, connection, work, before=NOTHING_SENT)
