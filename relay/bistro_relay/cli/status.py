"""``status``: what is held for whom, from the running relay or from its folder.

Source: docs/spec/commands.md, bistro-relay.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import aiohttp
import click
from rich.console import Console
from rich.table import Table

from bistro.clock import SystemClock
from bistro.errors import UnavailableError
from bistro.wire.document import encode_json
from bistro_relay.app.composition import Surroundings
from bistro_relay.app.serving import control_socket, open_services
from bistro_relay.cli.reporting import directory_option
from bistro_relay.http.public import CONTROL_STATUS
from bistro_relay.settings import Settings, load_settings

_TIMEOUT: Final = aiohttp.ClientTimeout(total=30)
_ATTEMPTS: Final = 20
_PAUSE_S: Final = 0.1
_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_STEP: Final = 1_000

Facts = dict[str, Any]


@click.command()
@directory_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def status(directory: Path, *, as_json: bool) -> None:
    """Show what is held for whom, free space and load."""
    facts = asyncio.run(fetch_status(load_settings(directory)))
    if as_json:
        click.echo(encode_json(facts).decode())
    else:
        show(facts, Console(highlight=False, markup=False))


async def fetch_status(settings: Settings) -> Facts:
    """The relay's status, whether it serves or not.

    Raises:
        UnavailableError: Its process is just starting or stopping, or hangs.
    """
    for attempt in range(_ATTEMPTS):
        if (found := await ask_running(settings)) is not None:
            return found
        clock = SystemClock(settings.clock.assumed_error_ms)
        try:
            async with open_services(settings, Surroundings(clock)) as services:
                await services.room.load(services.uploads)
                return dict(await services.overview.status(is_serving=False))
        except UnavailableError:
            # Somebody holds the folder but does not answer yet, or not any more.
            if attempt == _ATTEMPTS - 1:
                raise
            await asyncio.sleep(_PAUSE_S)
    raise AssertionError


async def ask_running(settings: Settings) -> Facts | None:
    """What the running relay says, or None if none answers."""
    connector = aiohttp.UnixConnector(path=str(control_socket(settings)))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session,
            session.get(f"http://control{CONTROL_STATUS.template}") as response,
        ):
            if not response.ok:
                return None
            found: Facts = json.loads(await response.read())
            return found
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


def format_size(size: int) -> str:
    """Bytes as people say them: ``3.2 GB``."""
    amount, unit = float(size), 0
    while amount >= _STEP and unit < len(_UNITS) - 1:
        amount, unit = amount / _STEP, unit + 1
    return f"{size} B" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def show(facts: Facts, console: Console) -> None:
    """Print a status for a person."""
    bound = facts["clock_error_ms"]
    console.print(f"{facts['name']}, run by {facts['operator']}: {facts['state']}", style="bold")
    head = Table(box=None, show_header=False, pad_edge=False)
    head.add_row("address", facts["base_url"])
    head.add_row("fingerprint", facts["fingerprint"])
    refusal = facts["refusing_because"]
    head.add_row("new uploads", f"refused: {refusal}" if refusal else "taken")
    if facts["next"]:
        head.add_row("", f"next: {facts['next']}")
    head.add_row("free", format_size(facts["free_bytes"]))
    head.add_row("load", f"{facts['load'] / 10:.1f} %")
    head.add_row("clock error", "unknown" if bound is None else f"at most {bound} ms")
    console.print(head)
    console.print()
    if not facts["destinations"]:
        console.print("No destination is allowed yet: bistro-relay allow URL")
        return
    _show_destinations(facts, console)
    console.print()
    _show_calls(facts, console)


def _show_destinations(facts: Facts, console: Console) -> None:
    table = Table("destination", "used", "quota", box=None, pad_edge=False)
    for one in facts["destinations"]:
        quota = one["quota_bytes"]
        shown = "none" if quota is None else format_size(quota)
        table.add_row(one["server"], format_size(one["used_bytes"]), shown)
    console.print(table)


def _show_calls(facts: Facts, console: Console) -> None:
    table = Table("call", box=None, pad_edge=False)
    for name in ("arriving", "held", "bytes held", "released", "expired"):
        table.add_column(name, justify="right")
    for one in facts["calls"]:
        table.add_row(
            one["origin"],
            str(one["receiving_count"]),
            str(one["held_count"]),
            format_size(one["held_bytes"]),
            str(one["released_count"]),
            str(one["expired_count"]),
        )
    console.print(table if facts["calls"] else "No call is known yet.")
