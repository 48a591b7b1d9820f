"""``bistro seal``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from bistro.protocol.submission import Step
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
from bistro_client.cli.running import NOTHING_SENT, describe, run
from bistro_client.courier import FILE_NAME, hand_out, require_empty
from bistro_client.evidence_file import load_terms
from bistro_client.submitting import Submitter, Wish


@click.command("seal")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH…")
@click.option("--to", "url", required=True, metavar="URL", help="Address of the destination.")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="A new or empty folder for what is to be uploaded.",
)
@click.option("--call", metavar="ID", help="Which call; may be left out where only one is open.")
@click.option(
    "--slot",
    default="main",
    show_default=True,
    metavar="NAME",
    callback=require_slot_name,
    help="Which of your submissions to this call: the last one of a slot counts.",
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
@click.option("--trust", metavar="VKEY", help="The destination's terms key, if you know it.")
@unlocking
@with_network
@framed
def command(  # noqa: PLR0913 - one argument for each option
    frame: Frame,
    *,
    paths: tuple[Path, ...],
    url: str,
    out: Path,
    call: str | None,
    slot: str,
    form: str | None,
    key: Path | None,
    trust: str | None,
    connection: Connection,
) -> None:
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
    wish = Wish(
        paths=paths,
        url=url,
        call=call,
        slot=slot,
        form=form,
        key_file=key,
        trust=parse_vkeys((trust,))[0] if trust else None,
    )

    async def work(submitter: Submitter) -> None:
        submission = await submitter.submit(wish, until=Step.UPLOAD)
        folder = frame.home.folder(submission.id)
        terms = load_terms(folder)[-1].signed.terms
        await asyncio.to_thread(hand_out, folder, submission, terms, out)
        listed = str(out / FILE_NAME)
        frame.output.result({"submission": describe(submission, folder), "uploads": listed}, None)
        frame.output.line(f"to be uploaded until then: {listed}")

    run(frame, connection, work, before=NOTHING_SENT)
