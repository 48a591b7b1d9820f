"""The command line: which profile, how much of it, where the plot goes.

Exit code 0: every promise was kept; 1: one was broken; 3: invalid, the generator was late;
5: it could not be measured.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from bistro.errors import BistroError
from tests.bench.measuring import NotMeasured
from tests.workload.page import render
from tests.workload.replay import Wish, allow_many_files, replay
from tests.workload.table import show
from tests.workload.windows import DEFAULT_S, MIN_S, REPLAYED, Replayed

BROKEN = 1
INVALID = 3
NOT_MEASURED = 5


@click.command()
@click.option("--profile", type=click.Choice(REPLAYED), required=True)
@click.option("--seconds", type=click.IntRange(min=MIN_S), default=DEFAULT_S, show_default=True)
@click.option("--minutes", type=click.IntRange(min=1), help="Instead of --seconds.")
@click.option(
    "--scale",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Factor of all rates.",
)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--reads", is_flag=True, help="Read statuses, too: 4 to 10 a filing.")
@click.option(
    "--page",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the plot goes; workload-<profile>.html by default.",
)
def main(  # noqa: PLR0913 - one for each option
    profile: Replayed,
    *,
    seconds: int,
    minutes: int | None,
    scale: float,
    seed: int,
    reads: bool,
    page: Path | None,
) -> None:
    """Replay a national deadline against a real server on this machine."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    allow_many_files()
    seconds = seconds if minutes is None else 60 * minutes
    wish = Wish(profile, seconds, scale, seed, reads)
    try:
        with Console(stderr=True).status("") as status:
            done = replay(wish, lambda what: status.update(f"{what} …"))
    except (NotMeasured, BistroError) as exc:
        console.print(f"not measured: {exc}", style="red", markup=False)
        sys.exit(NOT_MEASURED)
    page = page or Path(f"workload-{profile}.html")
    page.write_text(render(done), encoding="utf-8")
    show(console, done)
    console.print(f"plot: {page}", markup=False)
    if done.verdict.faults:
        sys.exit(BROKEN)
    sys.exit(0 if done.verdict.is_valid else INVALID)


if __name__ == "__main__":
    main()
