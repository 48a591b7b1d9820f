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
from tests.crash.subjects import Subject
from tests.crash.victims import Warm
from tests.crash.worker import SUBJECTS
from tests.support.tools import require_tool

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


SEEDS: Final = {"tickets": (4, 5, 6, 9, 10, 11, 3, 13), "relays": (3, 2, 5, 7, 8, 10, 11, 12)}
"""Of runs in which a broken service is looked for."""


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a short name: there are sockets below it."""
    with tempfile.TemporaryDirectory(prefix="crash-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def campaign(home: Path, *options: str) -> tuple[Result, dict[str, Any]]:
    """Some runs; exit, and JSON by subject."""
    require_tool("strace")
    file = home / "results.json"
    done = CliRunner().invoke(main, ["--home", str(home), "--json", str(file), *options])
    assert file.exists(), done.output
    return done, json.loads(file.read_text())


@pytest.mark.parametrize(
    ("subject", "seed", "checked"),
    [
        ("tickets", 433, {"entries", "asked again", "log check"}),
        ("relays", 149, {"receipts", "fragments compared", "custody entries"}),
    ],
)
def test_a_service_that_dies_in_many_ways_keeps_its_word(
    home: Path, subject: str, seed: int, checked: set[str]
) -> None:
    """A small sample: kills, failing calls and power cuts, warm processes and full ones."""
    done, every = campaign(
        home, "--subject", subject, "--seed", str(seed), "--runs", "4", "--full", "0.2"
    )
    assert done.exit_code == 0, done.output
    found = every[subject]
    assert found["failed"] == found["not_tested"] == []
    assert sum(found["runs"].values()) == 4
    assert set(found["runs"]) == {"full", "warm"}
    assert checked <= {what for what, count in found["checked"].items() if count}
    assert any(way.startswith("power cut") for way in found["deaths"])


@pytest.mark.parametrize(
    ("subject", "sabotage", "mode", "words"),
    [
        ("tickets", "never-sync", "cut", "lost|does not serve again"),
        ("tickets", "sync-late", "cut", "lost|does not serve again"),
        ("tickets", "restore-old-copy", "kill", "lost, the log ends at"),
        ("relays", "never-sync", "cut", "lost|does not serve again|promised, and"),
        ("relays", "sync-late", "cut", "lost|does not serve again|promised, and"),
        ("relays", "restore-old-copy", "kill", "promised, and answered unknown-object"),
        ("relays", "flip-bits", "kill", "answered storage|other bytes than were staged"),
        ("relays", "release-unrecorded", "kill", "not on record|does not serve again"),
        ("relays", "expire-early", "kill", "was to be held until|answered unknown-object"),
    ],
)
async def test_a_service_that_breaks_its_word_is_found(
    home: Path, subject: str, sabotage: str, mode: Mode, words: str
) -> None:
    """Answers before it is durable, an old copy, other bytes, releases that nobody recorded."""
    require_tool("strace")
    modules, make = SUBJECTS[subject]
    warm = await Warm.start(modules)
    service = make(home / "templates", warm, sabotage)
    try:
        folder = await find_faults(home, service, warm, mode, words)
    finally:
        await service.close()
        await warm.close()
    assert folder
    assert (Path(folder) / "report.txt").exists()


async def find_faults(home: Path, service: Subject, warm: Warm, mode: Mode, words: str) -> str:
    """Where the first run is kept that found what these words say; empty: none did."""
    for seed in SEEDS[service.name]:
        report = await run(seed, service, warm, Wish(full_share=0.0, mode=mode), home)
        assert not report.problem
        if any(re.search(words, fault) for fault in report.findings.faults):
            return report.folder
    return ""
