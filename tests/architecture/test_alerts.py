"""Alerts, dashboard and runbook speak of the same things, and of metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.sources import ROOT, documented_names

FOLDER = ROOT / "deploy" / "prometheus"
RULES = FOLDER / "alerts.yml"
TESTS = FOLDER / "alerts.test.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "bistro.json"
RUNBOOK = ROOT / "docs" / "guides" / "runbook.md"
FOREIGN = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
}
"""Of the Prometheus client."""


def alerts(page: Path) -> list[str]:
    """The names of the alerts in a file of rules, or of tests of them."""
    return re.findall(
        r"^ +(?:- )?alert(?:name)?: (\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE
    )


def metrics_in(text: str) -> set[str]:
    """Names of our metrics, without what histograms add to them."""
    found = set(re.findall(r"\b(?:bistro|process)_[a-z0-9_]+", text))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}


def expressions() -> str:
    """The file of rules without its annotations."""
    return re.sub(r"^ +summary: .*$", "", RULES.read_text(encoding="utf-8"), flags=re.MULTILINE)


def panels() -> list[dict[str, Any]]:
    document = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [one for one in document["panels"] if one["type"] != "row"]


def test_alerts_are_made_from_metrics_that_exist() -> None:
    """An alert over a name that nobody counts never fires."""
    known = documented_names("reference/metrics.md") | FOREIGN
    named = metrics_in(expressions())
    assert len(named) > 10
    assert named <= known


def test_the_dashboard_shows_metrics_that_exist() -> None:
    """A panel over a name that nobody counts is empty, which looks like calm."""
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    assert len(shown) > 10
    assert metrics_in("\n".join(shown)) <= documented_names("reference/metrics.md") | FOREIGN


def test_the_dashboard_s_panels_have_places_of_their_own() -> None:
    """Two that lie on each other hide one."""
    numbers = [panel["id"] for panel in panels()]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels()]
    assert len(set(numbers)) == len(set(places)) == len(panels())


def test_every_alert_has_its_section_in_the_runbook() -> None:
    """Whoever is called at night finds what to do under the alert's name, and nothing else."""
    sections = re.findall(r"^## (Bistro\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    assert sections == alerts(RULES)


def test_every_alert_is_tested() -> None:
    """Twice at least: that it fires, and that it does not before."""
    tested = alerts(TESTS)
    assert set(tested) == set(alerts(RULES))
    assert all(tested.count(name) >= 2 for name in tested)


def test_links_within_the_runbook_lead_somewhere() -> None:
    """At night nobody wants to search."""
    text = RUNBOOK.read_text(encoding="utf-8")
    titles = {
        title.lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", text, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= titles


@pytest.mark.parametrize("command", [("check", RULES), ("test", TESTS)])
def test_prometheus_takes_the_rules_and_their_tests_pass(command: tuple[str, Path]) -> None:
    """With Prometheus' own tool, where it is installed."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    verb, page = command
    done = subprocess.run(
        [promtool, verb, "rules", str(page)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
