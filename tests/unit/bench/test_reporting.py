"""What people and programs read."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from tests.bench.measuring import Core, Measure, Result
from tests.bench.reporting import print_report, write_json

RESULT = Result(
    Measure("ticket.rate", "tickets/s", goal=0.4, needs_busy_core=True),
    value=40_000,
    floor=100_000,
    core=Core(0.99, 0.99),
    floor_core=Core(0.9494, 0.94),
    notes=("sent by wrk",),
)


def printed(*results: Result, failures: dict[str, str] | None = None) -> str:
    output = io.StringIO()
    print_report(Console(file=output, width=140), results, failures or {}, rounds=5)
    return output.getvalue()


def test_the_table_says_when_a_rate_does_not_count() -> None:
    """And why."""
    text = printed(RESULT)
    assert "ticket.rate does not count: floor: its core was 94.9 % busy, needs 95" in text
    assert "99.0 %" in text
    assert "note: sent by wrk" in text


def test_what_could_not_be_measured_is_named() -> None:
    """A case that is missing must not look like one that does not exist."""
    text = printed(failures={"relay.large": "[Errno 28] disk full"})
    assert "relay.large was not measured: [Errno 28] disk full" in text


def test_the_file_is_a_list_of_rows(tmp_path: Path) -> None:
    """As docs/reference/benchmarks.md says."""
    write_json(tmp_path / "bench.json", [RESULT])
    assert json.loads((tmp_path / "bench.json").read_text()) == [RESULT.row()]
