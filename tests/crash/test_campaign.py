"""The crash campaign in small, and what it finds where there is something to find."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from tests.crash.__main__ import main
from tests.crash.runs import Mode, Wish, run
from tests.crash.tickets.subject import TicketSubject
from tests.crash.victims import Warm
from tests.support.tools import require_tool

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


SHORT_LOGS: Final = (3, 4, 5, 7, 8, 9, 10, 11)
"""Seeds of runs that need not fill a long log first."""


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a short name: there are sockets below it."""
    with tempfile.TemporaryDirectory(prefix="crash-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def campaign(home: Path, *options: str) -> tuple[Result, dict[str, Any]]:
    """Some runs; exit and JSON."""
    require_tool("strace")
    file = home / "results.json"
    done = CliRunner().invoke(main, ["--home", str(home), "--json", str(file), *options])
    assert file.exists(), done.output
    return done, json.loads(file.read_text())


def test_a_server_that_dies_in_many_ways_keeps_its_word(home: Path) -> None:
    """A small sample: kills, failing calls and power cuts, warm processes and full ones."""
    done, found = campaign(home, "--seed", "29", "--runs", "4", "--full", "0.2")
    assert done.exit_code == 0, done.output
    assert found["failed"] == found["not_tested"] == []
    assert sum(found["runs"].values()) == 4
    assert set(found["runs"]) == {"full", "warm"}
    assert found["checked"]["tickets"] > 0
    assert found["checked"]["log check"] == 2
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
    home: Path, sabotage: str, mode: Mode, words: str
) -> None:
    """One that answers before it is durable, and one that goes back to an old copy of its log."""
    require_tool("strace")
    warm = await Warm.start(TicketSubject.modules)
    try:
        subject = TicketSubject(home / "templates", warm, sabotage=sabotage)
        wish, faults, folders = Wish(full_share=0.0, mode=mode), list[str](), list[str]()
        for seed in SHORT_LOGS:
            report = await run(seed, subject, warm, wish, home)
            assert not report.problem
            faults += [fault for fault in report.findings.faults if re.search(words, fault)]
            if faults:
                folders.append(report.folder)
                break
    finally:
        await warm.close()
    assert faults
    assert (Path(folders[0]) / "report.txt").exists()
