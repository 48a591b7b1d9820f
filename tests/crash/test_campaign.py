"""The crash campaign in small, and what it finds where there is something to find."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.crash.__main__ import main
from tests.crash.runs import Mode, Wish, run
from tests.crash.tickets.subject import TicketSubject
from tests.crash.victims import Warm
from tests.support.tools import require_tool

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def campaign(tmp_path: Path, *options: str) -> tuple[Result, dict[str, Any]]:
    """Some runs; exit and JSON."""
    require_tool("strace")
    file = tmp_path / "results.json"
    done = CliRunner().invoke(
        main, ["--home", str(tmp_path / "runs"), "--json", str(file), *options]
    )
    assert file.exists(), done.output
    return done, json.loads(file.read_text())


def test_a_server_that_dies_in_many_ways_keeps_its_word(tmp_path: Path) -> None:
    """A small sample: kills, failing calls and power cuts, warm processes and full ones."""
    done, found = campaign(tmp_path, "--seed", "20", "--runs", "4", "--full", "0.2")
    assert done.exit_code == 0, done.output
    assert found["failed"] == found["not_tested"] == []
    assert sum(found["runs"].values()) == 4
    assert found["checked"]["tickets"] > 300
    assert any(way.startswith("power cut") for way in found["deaths"])


@pytest.mark.parametrize(
    ("sabotage", "mode", "words"),
    [
        ("never-sync", "cut", "lost|does not serve again"),
        ("sync-late", "cut", "lost|does not serve again"),
        ("restore-old-copy", "kill", "lost, the log ends at"),
    ],
)
async def test_a_server_that_breaks_its_word_is_found(
    tmp_path: Path, sabotage: str, mode: Mode, words: str
) -> None:
    """One that answers before it is durable, and one that goes back to an old copy of its log."""
    require_tool("strace")
    warm = await Warm.start(TicketSubject.modules)
    try:
        subject = TicketSubject(tmp_path / "templates", warm, sabotage=sabotage)
        wish, faults, folders = Wish(full_share=0.0, mode=mode), list[str](), list[str]()
        for seed in range(1, 9):
            report = await run(seed, subject, warm, wish, tmp_path)
            assert not report.problem
            faults += [fault for fault in report.findings.faults if re.search(words, fault)]
            if faults:
                folders.append(report.folder)
                break
    finally:
        await warm.close()
    assert faults
    assert (Path(folders[0]) / "report.txt").exists()
