"""``bistro-server open``: decrypt what was collected, once the terms allow it.

Source: docs/spec/opening.md; docs/spec/commands.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bistro.daemon import logs
from bistro.errors import FormatError, SettingsError
from bistro.storage.disk import ReservingDisk
from bistro.wire.document import Json
from bistro_server.cli.bars import Bars
from bistro_server.cli.collect import be_nice
from bistro_server.cli.running import (
    dir_option,
    json_option,
    load,
    print_json,
    run,
    shown,
    system_clock,
)
from bistro_server.services.folder import ServerFolder
from bistro_server.services.opening import CallOpening, Opened


@click.command("open")
@click.option("--call", "call_id", metavar="ID", required=True, help="The call to open.")
@click.option(
    "--identity",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The key that opens envelopes; the call's own by default.",
)
@dir_option
@json_option
def open_call(folder: ServerFolder, call_id: str, identity: Path | None, *, as_json: bool) -> None:
    """Open a call: unpack what counts, and write the minutes.

    It may be stopped at any time and started again; running it twice changes nothing.
    """
    settings = load(folder)
    be_nice()
    is_shown = sys.stderr.isatty() and not as_json
    level = "warning" if is_shown else settings.log.level
    logs.configure(output_format=settings.log.output_format, level=level)
    with Bars(is_shown=is_shown) as bars:
        opening = CallOpening(
            folder=folder,
            clock=system_clock(settings),
            error_limit_ms=settings.clock.error_limit_ms,
            report=bars.show,
            # Other calls may be open: their ledgers come first.
            disk=ReservingDisk(settings.disk.min_free_bytes),
        )
        try:
            opened = run(opening.run(call_id, identity=identity))
        except FormatError as exc:
            if exc.message.startswith("call id"):
                raise SettingsError(exc.message, hint="see bistro-server call list") from exc
            raise
    if as_json:
        print_json(_document(opened))
    else:
        _print(opened)


def _document(opened: Opened) -> Json:
    return {
        "call": opened.call,
        "inbox": str(opened.inbox),
        "opened_at": opened.opened_at,
        "outcomes": dict(opened.counts),
    }


def _print(opened: Opened) -> None:
    click.echo(f"call {opened.call} opened at {shown(opened.opened_at)}")
    for outcome, count in sorted(opened.counts.items()):
        click.echo(f"  {count} {outcome}")
    click.echo(f"filings, evidence and index.jsonl are in {opened.inbox}")
