"""``bistro receipt``."""

from __future__ import annotations

from pathlib import Path

import click

from bistro.storage.durable import write_atomically
from bistro_client import messages
from bistro_client.cli.completion import submissions
from bistro_client.cli.options import Frame, framed
from bistro_client.journal import read_journal
from bistro_client.printing import receipt_page
from bistro_client.wording import say


@click.command("receipt")
@click.argument("submission", shell_complete=submissions)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to; <id>.html in this folder if not given. A file that is there is left alone.",
)
@framed
def command(frame: Frame, *, submission: str, out: Path | None) -> None:
    """Write a page to print: what was filed, when, and what proves it.

    The page is for people and files of paper. What proves your submission is its evidence file.

    \b
    Examples:
      bistro receipt 2026-11-22-173000
      bistro receipt 2026-11-22-173000 --out receipt.html
    """  # noqa: D301 - click reads the backspace
    folder = frame.home.find(submission)
    page = receipt_page(folder, read_journal(folder))
    target = (out or Path(f"{folder.id}.html")).absolute()
    if target.exists():
        raise messages.target_exists(target)
    write_atomically(target, page.encode())
    frame.output.result({"file": str(target)}, say("receipt.open-print", target=target))
