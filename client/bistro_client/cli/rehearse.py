"""``bistro rehearse``."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import click

from bistro.errors import RefusedError, SettingsError
from bistro.wire.document import Json
from bistro_client import keyring
from bistro_client.cli.options import (
    Connection,
    Frame,
    destination,
    framed,
    parse_vkeys,
    unlocking,
    with_network,
)
from bistro_client.cli.running import NOTHING_SENT, run
from bistro_client.home import Home
from bistro_client.rehearsing import Verdict, rehearse
from bistro_client.submitting import Submitter, Wish
from bistro_client.wording import say

PATIENCE_MS = 60_000


@click.command("rehearse")
@destination
@click.option("--call", required=True, metavar="ID", help="Its call for tests.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A registered key, where the call asks for one; a new one is used otherwise.",
)
@click.option("--trust", metavar="VKEY", help="The destination's terms key, if you know it.")
@unlocking
@with_network
@framed
def command(  # noqa: PLR0913 - one argument for each option
    frame: Frame,
    *,
    url: str,
    call: str,
    yes: bool,
    key: Path | None,
    trust: str | None,
    connection: Connection,
) -> None:
    """File canned filings, good and bad, at a call that the destination keeps for tests.

    Good ones must be on time and staged, and are withdrawn again; bad ones must be refused
    before anything is sent. It uses a home of its own, which is deleted: your keys, pins and
    submissions are not touched. The destination sees real submissions; never rehearse at a call
    that counts.

    \b
    Examples:
      bistro rehearse --to https://permits.example --call test

    Exit code 0 if everything came as it must, else 3.
    """  # noqa: D301 - click reads the backspace
    if not yes:
        _ask(url, call)
    trusted = parse_vkeys((trust,))[0] if trust else None
    if connection.patience is None:
        connection = replace(connection, patience=PATIENCE_MS)
    with tempfile.TemporaryDirectory(prefix="bistro-rehearsal-") as name:
        home = Home(Path(name))
        path = key or keyring.create(home.key_file).path

        def wish(paths: list[Path], slot: str) -> Wish:
            return Wish(paths, url, call=call, slot=slot, key_file=path, trust=trusted)

        async def work(submitter: Submitter) -> list[Verdict]:
            terms = await submitter.fetch_terms(url, call, trust=trusted)
            found = []
            async for verdict in rehearse(submitter, home, terms, wish):
                found.append(verdict)
                mark = "ok    " if verdict.is_as_expected else "FAILED"
                style = "green" if verdict.is_as_expected else "bold red"
                frame.output.line(f"{mark} {verdict.name}: {verdict.text}", style)
            return found

        found = run(Frame(home, frame.output), connection, work, before=NOTHING_SENT)
    documents: list[Json] = [
        {"name": one.name, "is_as_expected": one.is_as_expected, "text": one.text} for one in found
    ]
    frame.output.result({"rehearsal": documents}, None)
    if not all(one.is_as_expected for one in found):
        sys.exit(RefusedError.exit_code)


def _ask(url: str, call: str) -> None:
    if not sys.stdin.isatty():
        raise SettingsError(
            say("rehearse.there-nobody-ask", call=call),
            hint=say("rehearse.nothing-was-sent"),
        )
    click.confirm(say("rehearse.file-test-submissions", url=url, call=call), abort=True, err=True)
