"""``status``: what is held for whom, from the running relay or from its folder.

Source: docs/spec/commands.md, bistro-relay.
"""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from bistro.instant import UnixMillis, format_rfc3339
from bistro.wire.document import encode_json
from bistro_relay.app.composition import Services
from bistro_relay.cli.asking import ask
from bistro_relay.cli.reporting import directory_option
from bistro_relay.http.public import CONTROL_STATUS
from bistro_relay.settings import Settings, load_settings

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_STEP: Final = 1_000
_BAR_WIDTH: Final = 16
_NEARLY: Final = 0.9
_OPERATOR: Final = "operator: "

Facts = dict[str, Any]


@click.command()
@directory_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def status(directory: Path, *, as_json: bool) -> None:
    """Show what is held for whom, what is left, and what was ordered."""
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

    async def of_stopped(services: Services) -> bytes:
        return encode_json(await services.overview.status(is_serving=False))

    found: Facts = json.loads(await ask(settings, CONTROL_STATUS.template, of_stopped))
    return found


def format_size(size: int) -> str:
    """Bytes as people say them: ``3.2 GB``."""
    amount, unit = float(size), 0
    while amount >= _STEP and unit < len(_UNITS) - 1:
        amount, unit = amount / _STEP, unit + 1
    return f"{size} B" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def show(facts: Facts, console: Console) -> None:
    """Print a status for a person."""
    is_well = facts["state"] == "serving" and facts["accepting"]
    state = "draining" if facts["draining_since"] is not None else facts["state"]
    title = Table.grid(expand=True)
    title.add_column(ratio=1)
    title.add_column(justify="right")
    title.add_row(
        Text(f"{facts['name']}, run by {facts['operator']}", style="bold"),
        Text(f"● {state}", style="bold green" if is_well else "bold yellow"),
    )
    console.print(title)
    console.print(Rule(style="dim"))
    console.print(_head(facts))
    console.print()
    if not facts["destinations"]:
        console.print("No destination is allowed yet: bistro-relay allow URL")
        return
    console.print(_destinations(facts))
    console.print()
    console.print(_calls(facts) if facts["calls"] else "No call is known yet.")


def _head(facts: Facts) -> Table:
    head = Table.grid(padding=(0, 2))
    head.add_column(style="dim", no_wrap=True)
    head.add_column()
    head.add_row("address", facts["base_url"])
    head.add_row("fingerprint", facts["fingerprint"])
    refusal, drained = facts["refusing_because"], _draining(facts)
    load = f"taken; load {facts['load'] / 10:.1f} %"
    head.add_row("uploads", drained or (f"refused: {refusal}" if refusal else load))
    if facts["next"] and not drained:
        # A hint says first what clients may do, and then what this reader may.
        _, _, own = facts["next"].rpartition(_OPERATOR)
        head.add_row("", Text(f"next: {own}", style="bold"))
    head.add_row("collection", _collection(facts))
    used = sum(one["used_bytes"] for one in facts["destinations"])
    head.add_row("disk", _gauge(used, used + facts["free_bytes"], "free", facts["free_bytes"]))
    limit, traffic = facts["traffic_limit_bytes"], facts["traffic_bytes"]
    if limit is None:
        head.add_row("traffic", f"{format_size(traffic)} this month, no limit")
    else:
        head.add_row("traffic", _gauge(traffic, limit, "left this month", max(0, limit - traffic)))
    bound = facts["clock_error_ms"]
    known = "its error is unknown" if bound is None else f"right within {bound} ms"
    head.add_row("clock", known)
    return head


def _draining(facts: Facts) -> str | None:
    """How far a relay is that takes nothing new; None for any other."""
    if facts["draining_since"] is None:
        return None
    since = f"refused since {_time(facts['draining_since'])}"
    arriving = sum(one["receiving_count"] for one in facts["calls"])
    held = sum(one["held_count"] for one in facts["calls"])
    if not arriving and not held:
        return f"{since}; drained: nothing is held any more, you may switch it off"
    until = facts["last_hold_until"]
    end = "" if until is None else f", released or over by {_time(until)}"
    return f"{since}; {arriving:,} still arrive, {held:,} are held{end}"


def _collection(facts: Facts) -> str:
    if facts["paused_until"] is not None:
        return f"rests until {_time(facts['paused_until'])}"
    rate = facts["bytes_per_s"]
    return "handed over" if rate is None else f"handed over at {format_size(rate)}/s at most"


def _gauge(used: int, total: int, word: str, left: int) -> Table:
    part = used / total if total else 1.0
    style = "red" if part > _NEARLY else "green"
    line = Table.grid(padding=(0, 1))
    # Blocks rather than a bar of rich, which is blank where there are no colours.
    full = min(_BAR_WIDTH, math.ceil(part * _BAR_WIDTH))
    bar = Text("█" * full, style=style).append("░" * (_BAR_WIDTH - full), style="dim")
    line.add_row(bar, f"{format_size(used)} used, {format_size(left)} {word}")
    return line


def _time(at: int) -> str:
    """A time without seconds, as people read it."""
    return format_rfc3339(UnixMillis(at))[:16].replace("T", " ") + " UTC"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column(first, ratio=1, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _destinations(facts: Facts) -> Table:
    table = _table("destination", "held", "of quota", "accepted", "delivered")
    for one in facts["destinations"]:
        quota = one["quota_bytes"]
        table.add_row(
            one["server"],
            format_size(one["used_bytes"]),
            "no quota" if quota is None else format_size(quota),
            format_size(one["accepted_bytes"]),
            format_size(one["delivered_bytes"]),
        )
    return table


def _calls(facts: Facts) -> Table:
    table = _table("call", "arriving", "held", "bytes held", "released", "expired")
    for one in facts["calls"]:
        table.add_row(
            one["origin"],
            f"{one['receiving_count']:,}",
            f"{one['held_count']:,}",
            format_size(one["held_bytes"]),
            f"{one['released_count']:,}",
            f"{one['expired_count']:,}",
        )
    return table
