"""``bistro-server collect``: pull what relays hold, in a process of its own with low priority.

Source: docs/spec/collection.md; docs/spec/commands.md.
"""

from __future__ import annotations

import os
import sys
from typing import Final

import click

from bistro.daemon import logs
from bistro.errors import FormatError, SettingsError, UnavailableError
from bistro.storage.disk import ReservingDisk
from bistro.wire.document import Json
from bistro_server.cli.bars import Bars
from bistro_server.cli.running import dir_option, json_option, load, print_json, run, system_clock
from bistro_server.services.collecting_rounds import Collected, Collecting, Rounds
from bistro_server.services.folder import ServerFolder

NICENESS: Final = 10
"""Tickets come first: collecting takes what is left of the machine."""


@click.command()
@click.option("--call", "call_id", metavar="ID", help="Only this call; all calls by default.")
@click.option("--watch", is_flag=True, help="Go on until repair_by instead of until nothing moves.")
@click.option("--once", is_flag=True, help="Until nothing more moves; the default.")
@click.option(
    "--bytes-per-s",
    type=click.IntRange(min=1),
    metavar="N",
    help="The pace that all relays together are asked to keep.",
)
@dir_option
@json_option
def collect(
    folder: ServerFolder,
    call_id: str | None,
    *,
    watch: bool,
    once: bool,
    bytes_per_s: int | None,
    as_json: bool,
) -> None:
    """Fetch fragments, restore envelopes, release the relays.

    It may be stopped at any time and started again: nothing is lost or done twice.
    """
    if watch and once:
        raise SettingsError("expected --watch or --once, found both", hint="choose one of them")
    settings = load(folder)
    be_nice()
    is_shown = sys.stderr.isatty() and not as_json
    # Beside a progress bar only what needs attention is readable.
    level = "warning" if is_shown else settings.log.level
    logs.configure(output_format=settings.log.output_format, level=level)
    rounds = Rounds(
        folder=folder,
        clock=system_clock(settings),
        error_limit_ms=settings.clock.error_limit_ms,
        bytes_per_s=bytes_per_s,
        # Collecting can wait for room; the ledger of a call that is open cannot.
        disk=ReservingDisk(settings.disk.min_free_bytes),
    )
    calls = [] if call_id is None else [_require_id(folder, call_id)]
    with Bars(is_shown=is_shown) as bars:

        def report(call: str, found: Collecting) -> None:
            done = found.collected_count + found.void_count
            bars.show(f"collecting {call}", done, done + found.staged_count)

        results = run(rounds.run(calls, is_watching=watch, report=report))
    left = sum(result.progress.staged_count for result in results)
    if as_json:
        print_json({"calls": [_document(result) for result in results]})
    else:
        for result in results:
            _print(result)
    if left:
        # Printed as an error only where a document does not say so already.
        error = UnavailableError(
            f"{left} staged submissions could not be collected yet",
            hint="run collect again; bistro-server reconcile names what is missing and where",
        )
        if as_json:
            sys.exit(error.exit_code)
        raise error


def be_nice() -> None:
    """Let everything else on this machine go first, where there is such a thing."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)


def _require_id(folder: ServerFolder, call_id: str) -> str:
    try:
        return folder.call(call_id).call
    except FormatError as exc:
        raise SettingsError(exc.message, hint="see bistro-server call list") from exc


def _document(result: Collected) -> Json:
    found = result.progress
    return {
        "call": result.call,
        "collected": found.collected_count,
        "failures": result.failures,
        "lapsed": found.lapsed_count,
        "staged": found.staged_count,
        "ticketed": found.ticketed_count,
        "unreleased": found.unreleased_count,
        "void": found.void_count,
    }


def _print(result: Collected) -> None:
    found = result.progress
    click.echo(
        f"call {result.call}: {found.collected_count} collected, {found.staged_count} staged, "
        f"{found.ticketed_count} not yet staged, {found.void_count} void, "
        f"{found.lapsed_count} lapsed; {found.unreleased_count} fragments to release"
    )
    for reason in result.failures.values():
        click.echo(f"  {reason}", err=True)
