"""The command line: how many runs, from which seed, where the results go.

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
from typing import get_args

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.crash.campaign import Orders, Result, conduct
from tests.crash.runs import Mode, RunReport, Wish
from tests.crash.sabotage import SABOTAGES
from tests.crash.tables import show, show_run, to_json
from tests.crash.worker import SUBJECTS

BROKEN = 1
NOT_TESTED = 5
ALL = "all"
_DEFAULT_RUNS = 200


@click.command()
@click.option("--seed", type=click.IntRange(min=0), help="Of the first run; drawn if not given.")
@click.option("--runs", type=click.IntRange(min=1), help="How many; 200 if nothing is said.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="How long.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--subject",
    type=click.Choice([ALL, *SUBJECTS]),
    default=ALL,
    show_default=True,
    help="What is killed; of all, each gets its part of the runs or of the time.",
)
@click.option(
    "--full",
    type=click.FloatRange(min=0, max=1),
    default=0.1,
    show_default=True,
    help="Share of runs whose processes start from nothing; others are forked.",
)
@click.option("--mode", type=click.Choice(get_args(Mode)), default="mixed", show_default=True)
@click.option("--sabotage", type=click.Choice(list(SABOTAGES)), help="Break the service first.")
@click.option("--keep", is_flag=True, help="Keep the folders of good runs, too.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where runs have their folders; a new one among the temporary files by default.",
)
def main(  # noqa: PLR0913 - one for each option
    *,
    seed: int | None,
    runs: int | None,
    minutes: float | None,
    jobs: int,
    subject: str,
    full: float,
    mode: Mode,
    sabotage: str | None,
    keep: bool,
    json_file: Path | None,
    home: Path | None,
) -> None:
    """Kill a service in many ways under load, and check that it keeps its word."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    if shutil.which("strace") is None:
        console.print("strace is missing: install the Debian package strace", style="red")
        sys.exit(NOT_TESTED)
    if runs is None and minutes is None:
        runs = _DEFAULT_RUNS
    place = home or Path(tempfile.mkdtemp(prefix="bistro-crash-"))
    subjects = list(SUBJECTS) if subject == ALL else [subject]
    seed = secrets.randbelow(10**9) if seed is None else seed
    console.print(f"seed {seed}, folders below {place}", markup=False)
    results = []
    for at, name in enumerate(subjects):
        # Their parts differ by one at most, and there may be fewer runs than subjects.
        share = None if runs is None else (runs + at) // len(subjects)
        orders = Orders(
            seed=seed,
            runs=share,
            seconds=None if minutes is None else minutes * 60 / len(subjects),
            jobs=jobs,
            subject=name,
            home=place.absolute() / name,
            wish=Wish(full_share=full, mode=mode, keep=keep),
            sabotage=sabotage or "",
        )
        result = _conduct(orders)
        show(console, orders, result)
        results.append((orders, result))
    if json_file is not None:
        found = {orders.subject: to_json(orders, result) for orders, result in results}
        text = json.dumps(found, indent=2, sort_keys=True)
        json_file.write_text(f"{text}\n", encoding="utf-8")
    is_broken = any(result.failed for _, result in results)
    is_good = not is_broken and not any(result.problems for _, result in results)
    if is_good and home is None and not keep:
        shutil.rmtree(place)
    sys.exit(BROKEN if is_broken else 0 if is_good else NOT_TESTED)


def _conduct(orders: Orders) -> Result:
    """All runs of a subject, shown as they go on."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    ) as progress:
        bar = progress.add_task(orders.subject, total=orders.runs)

        def tell(report: RunReport) -> None:
            progress.advance(bar)
            if report.findings.faults or report.problem:
                show_run(progress.console, report)

        return asyncio.run(conduct(orders, tell))


if __name__ == "__main__":
    main()
