"""``python -m tests.e2e.demo``: plays the demo, shows the table, writes the report."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.e2e.demo.companions import PerformanceError
from tests.e2e.demo.filings import Shape
from tests.e2e.demo.performance import Order, perform
from tests.e2e.demo.report import render
from tests.e2e.demo.sabotage import Sabotage
from tests.e2e.demo.story import Story
from tests.e2e.demo.table import show

_NEEDED_BYTES = 1_000_000_000
_LONGEST_ROOT = 70
_ENDS = {
    0: "every promise was kept",
    1: "BROKEN: see above",
    2: "the demo could not begin",
    130: "interrupted",
}
_QUICK = Shape(count=10, closes_s=9, rush_s=6)


@click.command()
@click.option("--seed", type=int, default=2026, show_default=True, help="Of the filings.")
@click.option("--keep", is_flag=True, help="Keep the folder with all data and logs.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("demo-report.html"),
    show_default=True,
    help="Where the report goes.",
)
@click.option("--quick", is_flag=True, help="Ten filings before a deadline 9 s away.")
@click.option(
    "--sabotage",
    type=click.Choice([kind.value for kind in Sabotage]),
    multiple=True,
    help="Break this on purpose: the demo must notice, and fail.",
)
def main(*, seed: int, keep: bool, report: Path, quick: bool, sabotage: tuple[str, ...]) -> None:
    """The whole path with real processes on loopback, every promise checked.

    Exit code 0 if every single promise was kept, 1 if one was broken, 2 if the demo could not
    even begin, 130 if it was interrupted. No process and, without --keep, no data is left.
    """
    console = Console(highlight=False, soft_wrap=False)
    began = time.monotonic()

    def say(text: str, *, style: str = "", indent: int = 0) -> None:
        """One line or more behind the seconds since the start."""
        grid = Table.grid(padding=(0, 2 + indent, 0, 0))
        grid.add_row(Text(f"{time.monotonic() - began:5.1f} s", style="dim"), Text(text, style))
        console.print(grid)

    root = Path(tempfile.mkdtemp(prefix="bistro-demo-"))
    order = Order(
        root=root,
        seed=seed,
        shape=_QUICK if quick else Shape(),
        sabotage=frozenset(Sabotage(kind) for kind in sabotage),
        begin=lambda title: say(title, style="bold"),
        tell=lambda text: say(text, indent=2),
    )
    try:
        _require_room(root)
        story = asyncio.run(_until_told_to_stop(order))
        report.write_text(render(story), encoding="utf-8")
        show(console, story)
        console.print(f"report: {report.absolute()}")
        code = 0 if story.verdicts.are_kept else 1
    except PerformanceError as exc:
        console.print(Text(str(exc)))
        code = 2
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = 130
    finally:
        if keep:
            console.print(f"kept: {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)
    say(_ENDS[code], style="bold green" if code == 0 else "bold red")
    sys.exit(code)


async def _until_told_to_stop(order: Order) -> Story:
    """Play; SIGTERM ends it as Ctrl-C does, with nothing left running."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await perform(order)


def _require_room(root: Path) -> None:
    """Refuse a folder on too small a disk, or with too long a name for Unix sockets in it."""
    if len(str(root)) > _LONGEST_ROOT:
        raise PerformanceError(f"{root}: too long for Unix sockets; set TMPDIR to a shorter folder")
    free = shutil.disk_usage(root).free
    if free < _NEEDED_BYTES:
        raise PerformanceError(
            f"{root}: expected {_NEEDED_BYTES:,} free bytes, found {free:,}; set TMPDIR"
        )


if __name__ == "__main__":
    main()
