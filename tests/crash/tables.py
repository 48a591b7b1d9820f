"""What a campaign has shown, as a table and as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from tests.crash.campaign import Orders, Result
from tests.crash.runs import RunReport

_CUT = "power cut"


def show(console: Console, orders: Orders, result: Result) -> None:
    """Print everything."""
    lives = sum(count for way, count in result.deaths.items() if not way.startswith(_CUT))
    cuts = sum(result.deaths.values()) - lives
    table = Table(title=headline(orders, result), caption=_caption(orders, result))
    table.add_column("way to die", no_wrap=True)
    table.add_column("lives and cuts", justify="right")
    table.add_column("struck", justify="right")
    for way, count in sorted(result.deaths.items()):
        table.add_row(way, f"{count:,}", f"{result.hits[way]:,}")
    table.add_section()
    table.add_row("lives", f"{lives:,}")
    table.add_row("power cuts", f"{cuts:,}")
    for kind, count in sorted(result.runs.items()):
        table.add_row(f"runs, {kind}", f"{count:,}")
    table.add_section()
    for what, count in sorted(result.findings.counts.items()):
        table.add_row(f"checked: {what}", f"{count:,}")
    console.print(table)
    for report in (*result.failed, *result.problems):
        show_run(console, report)


def headline(orders: Orders, result: Result) -> str:
    """The verdict in one sentence."""
    count = result.runs.total()
    if result.failed:
        return f"{orders.subject}: BROKEN in {len(result.failed)} of {count} runs"
    if result.problems:
        return f"{orders.subject}: {len(result.problems)} of {count} runs say nothing"
    return f"{orders.subject}: {count} runs, every promise kept"


def _caption(orders: Orders, result: Result) -> str:
    last = orders.seed + result.runs.total() - 1
    return f"seeds {orders.seed} to {last}, {orders.jobs} at a time, {result.took_s:.0f} s"


def show_run(console: Console, report: RunReport) -> None:
    """Print what happened in a run that is not good."""
    console.print(f"seed {report.seed}, {report.kind}, kept in {report.folder}", markup=False)
    for step in report.steps:
        console.print(f"  {step}", markup=False)
    for fault in report.findings.faults:
        console.print(f"  broken: {fault}", style="red", markup=False)
    if report.problem:
        console.print(f"  not tested: {report.problem}", style="yellow", markup=False)


def to_json(orders: Orders, result: Result) -> dict[str, Any]:
    """The same for programs."""
    return {
        "subject": orders.subject,
        "seed": orders.seed,
        "runs": dict(result.runs),
        "seconds": round(result.took_s, 1),
        "deaths": {
            way: {"count": count, "struck": result.hits[way]}
            for way, count in sorted(result.deaths.items())
        },
        "checked": dict(result.findings.counts),
        "failed": [_run_json(report) for report in result.failed],
        "not_tested": [_run_json(report) for report in result.problems],
    }


def _run_json(report: RunReport) -> dict[str, Any]:
    return {
        "seed": report.seed,
        "kind": report.kind,
        "folder": report.folder,
        "steps": report.steps,
        "faults": report.findings.faults,
        "problem": report.problem,
    }
