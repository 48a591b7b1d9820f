"""The command line: how many runs, from which seed.

Exit code 0: every promise was kept; 1: one was broken; 5: a run could not be done.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tests.kills.campaign import Orders, Result, conduct
from tests.kills.runs import Report

BROKEN = 1
NOT_TESTED = 5
_SHOWN_EACH = 25


@click.command()
@click.option("--seed", type=click.IntRange(min=0), help="Of the first run; drawn if not given.")
@click.option("--runs", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--per-town", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--minutes", type=click.FloatRange(min=0), default=0.0, help="Begin no run later.")
@click.option("--sabotage", type=click.Choice(["forget"]), help="Break the client first.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False))
def main(  # noqa: PLR0913 - one argument for each option
    *,
    seed: int | None,
    runs: int,
    per_town: int,
    jobs: int,
    minutes: float,
    sabotage: str | None,
    json_file: Path | None,
) -> None:
    """Kill the filer's program at random moments, let it go on, and count what was promised."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    if shutil.which("strace") is None:
        console.print("strace is missing: install the Debian package strace", style="red")
        sys.exit(NOT_TESTED)
    home = Path(tempfile.mkdtemp(prefix="bistro-kills-"))
    orders = Orders(
        seed=secrets.randbelow(10**9) if seed is None else seed,
        runs=runs,
        per_town=per_town,
        jobs=jobs,
        home=home,
        sabotage=sabotage or "",
        minutes=minutes,
    )
    console.print(f"seed {orders.seed}, folders below {home}", markup=False)
    done = 0

    def tell(report: Report) -> None:
        nonlocal done
        done += 1
        for fault in (*report.faults, *filter(None, [report.problem])):
            console.print(f"seed {report.seed}: {fault}", markup=False)
        if done % _SHOWN_EACH == 0:
            console.print(f"{done} of {runs} runs", style="dim")

    result = asyncio.run(conduct(orders, tell))
    show(console, orders, result)
    if json_file is not None:
        text = json.dumps({"seed": orders.seed, **vars(result)}, indent=2, sort_keys=True)
        json_file.write_text(f"{text}\n", encoding="utf-8")
    is_good = not result.faults and not result.problems
    if is_good:
        shutil.rmtree(home)
    sys.exit(BROKEN if result.faults else 0 if is_good else NOT_TESTED)


def show(console: Console, orders: Orders, result: Result) -> None:
    """Print everything as a table."""
    verdict = "every promise kept"
    if result.faults or result.problems:
        verdict = f"{len(result.faults)} faults, {len(result.problems)} runs say nothing"
    last = orders.seed + result.run_count - 1
    table = Table(
        title=f"client kills: {result.run_count} runs, {verdict}",
        caption=f"seeds {orders.seed} to {last}, {orders.jobs} at a time, {result.took_s:.0f} s",
    )
    table.add_column("way to die", no_wrap=True)
    table.add_column("lives", justify="right")
    table.add_column("killed", justify="right")
    for way, count in sorted(result.deaths.items()):
        table.add_row(way, f"{count:,}", f"{result.hits[way]:,}")
    table.add_row("all", f"{result.deaths.total():,}", f"{result.hits.total():,}")
    table.add_section()
    for state, count in sorted(result.states.items()):
        table.add_row(f"found after a kill: {state}", f"{count:,}")
    table.add_section()
    for what, count in sorted(result.checked.items()):
        table.add_row(f"checked: {what}", f"{count:,}")
    console.print(table)
    for line in (*result.faults, *result.problems):
        console.print(line, style="red", markup=False)


if __name__ == "__main__":
    main()
