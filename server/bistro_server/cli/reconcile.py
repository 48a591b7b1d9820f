"""``bistro-server reconcile``: every ticket, where it stands, and what is missing.

Source: docs/spec/collection.md, reconcile; docs/spec/commands.md.
"""

from __future__ import annotations

import sys

import click

from bistro.errors import VerificationError
from bistro.wire.document import Json, encode_json
from bistro_server.cli.running import dir_option, json_option, load, run, shown, system_clock
from bistro_server.services.folder import ServerFolder
from bistro_server.services.reconciling import Account, Reconciliation
from bistro_server.settings import ServerSettings


@click.command()
@click.option("--call", "call_id", metavar="ID", required=True, help="The call.")
@dir_option
@json_option
def reconcile(folder: ServerFolder, call_id: str, *, as_json: bool) -> None:
    """Account for every ticket of a call.

    Exit code 0 only if nothing is missing unexplained.
    """
    settings = load(folder)
    missing_count = run(_reconcile(folder, settings, call_id, as_json=as_json))
    if missing_count:
        error = VerificationError(
            f"{missing_count} tickets lack something that nobody else answers for",
            hint="restore it from a copy, or run collect and open again",
        )
        if as_json:
            sys.exit(error.exit_code)
        raise error


async def _reconcile(
    folder: ServerFolder, settings: ServerSettings, call_id: str, *, as_json: bool
) -> int:
    """Print all accounts as they come; how many are not explained."""
    missing_count = 0
    limit_ms = settings.clock.error_limit_ms
    opened = Reconciliation.opened(folder, call_id, system_clock(settings), error_limit_ms=limit_ms)
    async with opened as found:
        counts = await found.counts()
        if as_json:
            # One canonical document, written piece by piece: a call may have a million tickets.
            head = encode_json({"call": call_id, "counts": dict(counts)}).decode()
            click.echo(head[:-1] + ',"tickets":[', nl=False)
        separator = ""
        async for account in found.accounts():
            missing_count += not all(gap.is_explained for gap in account.gaps)
            if as_json:
                click.echo(separator + encode_json(_document(account)).decode(), nl=False)
                separator = ","
            else:
                _print(account)
        if as_json:
            click.echo(f'],"unexplained":{missing_count}}}')
        else:
            states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
            click.echo(f"call {call_id}: {states or 'no tickets'}; {missing_count} unexplained")
    return missing_count


def _document(account: Account) -> Json:
    return {
        "commitment": account.commitment.hex(),
        "gaps": [
            {
                "code": gap.code,
                "explained": gap.is_explained,
                "fragment": gap.fragment,
                "relay": gap.relay,
                "text": gap.text,
            }
            for gap in account.gaps
        ],
        "index": account.index,
        "outcome": account.outcome,
        "state": account.state,
        "ticketed_at": account.ticketed_at,
    }


def _print(account: Account) -> None:
    outcome = "" if account.outcome in {None, account.state} else f" ({account.outcome})"
    click.echo(
        f"{account.commitment.hex()}  {account.state}{outcome}  entry {account.index}, "
        f"{shown(account.ticketed_at)}"
    )
    for gap in account.gaps:
        mark = "  -" if gap.is_explained else "  !"
        click.echo(f"{mark} {gap.code}: {gap.text}")
