"""The command line: which cases, how many rounds, where the results go."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from bistro.errors import BistroError
from tests.bench.cases import cases_of
from tests.bench.cases.client import MIB, SEAL_SIZE
from tests.bench.measuring import GROUPS, Case, NotMeasured, Result, compare
from tests.bench.reporting import print_report, title, write_json

ROUNDS = 5


@click.command()
@click.option("--only", type=click.Choice(GROUPS), help="Measure this group alone.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), default="bench.json"
)
@click.option("--rounds", type=click.IntRange(min=1), default=ROUNDS, show_default=True)
@click.option(
    "--seal-mib",
    type=click.IntRange(min=1),
    default=SEAL_SIZE // MIB,
    show_default=True,
    help="Size of what client.seal seals.",
)
def main(only: str | None, json_file: Path, rounds: int, seal_mib: int) -> None:
    """Measure ours beside floors; print a table and write bench.json."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    results: list[Result] = []
    failures: dict[str, str] = {}
    # Progress goes to standard error: standard output is the report.
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for case in cases_of(only, seal_size=seal_mib * MIB):
            _measure(case, rounds, progress, results, failures)
    write_json(json_file, results)
    print_report(console, results, failures, rounds=rounds)
    sys.exit(1 if failures else 0)


def _measure(
    case: Case, rounds: int, progress: Progress, results: list[Result], failures: dict[str, str]
) -> None:
    task = progress.add_task(title(case), total=2 * rounds)
    try:
        results += compare(case, rounds=rounds, tick=lambda: progress.advance(task))
    except (NotMeasured, BistroError, OSError) as exc:
        failures[title(case)] = str(exc)
    progress.remove_task(task)


if __name__ == "__main__":
    main()
