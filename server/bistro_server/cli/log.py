"""``bistro-server log``: the published logs of calls.

Source: docs/spec/commands.md; docs/spec/storage.md, recovery.
"""

from __future__ import annotations

from contextlib import aclosing

import click

from bistro.wire.document import Json
from bistro_server.cli.bars import Bars
from bistro_server.cli.collect import be_nice
from bistro_server.cli.running import dir_option, json_option, load, print_json, run
from bistro_server.services.folder import ServerFolder
from bistro_server.services.log_checking import CheckedLog, check_logs


@click.group()
def log() -> None:
    """Look after the append-only logs of calls."""


@log.command()
@click.option("--call", "calls", metavar="ID", multiple=True, help="Only this call; repeat.")
@click.option(
    "--repair",
    "is_repaired",
    is_flag=True,
    help="First make anew what is damaged and only derived from the entries; not beside serve.",
)
@dir_option
@json_option
def check(
    folder: ServerFolder, calls: tuple[str, ...], *, is_repaired: bool, as_json: bool
) -> None:
    """Check every entry, hash and signature of the logs of all calls.

    Reads everything that is on disk, once, in constant memory, and trusts nothing but the
    calls' keys: every entry is hashed again, every tile and entry bundle compared, every
    checkpoint that is kept verified. No time may go back, no commitment may have two entries,
    and the duplicate index must hold every commitment at its place.

    The first fault ends the check with exit 1 and names the file and the place; the second
    line says what to do. Nothing is changed. What is only derived (tiles, snapshot, index) can
    be made anew, with --repair; what was signed and is gone can not, and such a log must not be
    continued.

    Beside a running serve it checks what that has published, up to the published checkpoint,
    and says so: the write-ahead file changes at any moment. Otherwise the logs are locked while
    they are checked, and serve waits for them. Ten million entries take some minutes, and a bar
    on a terminal shows how far it is.

    \b
    bistro-server log check                  all calls
    bistro-server log check --call spring    one call
    bistro-server log check --json           for programs
    """  # noqa: D301 - click's mark for lines that it must not wrap
    load(folder)
    be_nice()
    found = run(_check(folder, calls, is_repaired=is_repaired, as_json=as_json))
    if not found and not as_json:
        click.echo("no calls here, and no logs")
    if as_json:
        print_json({"logs": [_document(one) for one in found]})


async def _check(
    folder: ServerFolder, calls: tuple[str, ...], *, is_repaired: bool, as_json: bool
) -> list[CheckedLog]:
    found: list[CheckedLog] = []
    with Bars(is_shown=not as_json) as bars:
        async with aclosing(check_logs(folder, calls, bars.show, is_repaired=is_repaired)) as logs:
            async for one in logs:
                found.append(one)
                if not as_json:
                    click.echo(_line(one))
    return found


def _line(one: CheckedLog) -> str:
    report = one.report
    if not one.is_whole and not report.size:
        return f"{one.origin}: serve runs, and has published nothing of it yet"
    files = f"{report.size} entries, {report.tile_count} tiles and bundles"
    if one.is_whole:
        files += f", {report.batch_count} kept checkpoints"
    line = f"{one.origin}: {files}: all as they were signed; root {report.root.hex()}"
    if not one.is_whole:
        line += "; serve runs: what it has not published yet was not looked at"
    return line


def _document(one: CheckedLog) -> Json:
    return {
        "batches": one.report.batch_count,
        "call": one.call,
        "origin": one.origin,
        "root": one.report.root.hex(),
        "size": one.report.size,
        "tiles": one.report.tile_count,
        "whole": one.is_whole,
    }
