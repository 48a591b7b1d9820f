"""The table for people and ``bench.json`` for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import workplace
from tests.bench.measuring import Case, Result, percent
from tests.bench.proc import file_system
from tests.bench.processes import CORES


def write_json(path: Path, results: Sequence[Result]) -> None:
    """Write the rows of all results."""
    rows = [result.row() for result in results]
    path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def print_report(
    console: Console, results: Sequence[Result], failures: Mapping[str, str], *, rounds: int
) -> None:
    """Print the table, and below it what a reader must know to believe it."""
    table = Table(title=f"Median of {rounds}, floor and ours taking turns")
    table.add_column("name", no_wrap=True)
    for title in ("ours", "floor"):
        table.add_column(title, justify="right")
    table.add_column("unit", no_wrap=True)
    for title in ("ratio", "goal", "busy", "floor busy"):
        table.add_column(title, justify="right")
    table.add_column("counts")
    for result in results:
        table.add_row(
            result.measure.name,
            _number(result.value),
            _number(result.floor),
            result.measure.unit,
            "-" if result.ratio is None else f"{result.ratio:.2f}",
            _goal(result),
            _share(result.core.busy),
            _share(result.floor_core.busy),
            "[red]no[/]" if result.doubts else "yes",
        )
    console.print(table)
    _print_remarks(console, results)
    for name, reason in failures.items():
        console.print(f"{name} was not measured: {reason}", style="red", markup=False)
    console.print(_machine())


def _print_remarks(console: Console, results: Sequence[Result]) -> None:
    for result in results:
        for doubt in result.doubts:
            console.print(f"{result.measure.name} does not count: {doubt}", style="red")
        if result.floor_core.is_scaled:
            console.print(f"{result.measure.name}: the floor is scaled to a whole, busy core")
    for note in dict.fromkeys(note for result in results for note in result.notes):
        console.print(f"note: {note}")


def title(case: Case) -> str:
    """The names of a case's measures."""
    return ", ".join(measure.name for measure in case.measures)


def _machine() -> str:
    place = workplace.root()
    kind = file_system(place)
    disk = f"{place} on {kind}"
    if kind in workplace.IN_MEMORY:
        disk += " (IN MEMORY: being durable costs nothing there)"
    load = os.getloadavg()[0]
    return (
        f"Python {platform.python_version()}, {platform.machine()}, server on core "
        f"{_cores(CORES.server)}, load on {_cores(CORES.load)}, load average {load:.1f}, {disk}"
    )


def _cores(cores: frozenset[int]) -> str:
    return ",".join(map(str, sorted(cores)))


def _number(number: float | None) -> str:
    if number is None:
        return "-"
    return f"{number:,.0f}" if number >= 1_000 else f"{number:.3g}"


def _share(share: float | None) -> str:
    return "" if share is None else percent(share)


def _goal(result: Result) -> str:
    if result.measure.goal is None:
        return "-"
    colour = "green" if result.is_reached else "red"
    return f"[{colour}]{result.measure.goal:g}[/]"
