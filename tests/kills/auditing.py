"""What the destination and its relays have at the end: each submission once, each byte right.

Everything is counted in what others hold, not in what clients believe.
"""

from __future__ import annotations

import hashlib
import json
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bistro.api import routes
from tests.kills.runs import Report
from tests.support.town import Ran, Town
from tests.support.town import run as command

_LATER_MS: Final = 2 * 3_600_000 + 60_000
"""After ``stage_by`` of the town's call."""


@dataclass
class Audit:
    """What was found: how much of what was checked, and what is wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def expect(self, what: str, *, expected: int, found: int) -> None:
        """Two numbers that must be the same."""
        self.counts[what] += found
        if expected != found:
            self.faults.append(f"{what}: expected {expected}, found {found}")


def audit(town: Town, reports: Sequence[Report]) -> Audit:
    """Count tickets and fragments, collect, open, and compare every file; blocks.

    The destination starts anew with a clock that is after the deadline; nothing is filed
    here any more.
    """
    found = Audit()
    good = [report for report in reports if report.commitment]
    # Version 1 of the terms is the log's first entry.
    found.expect("tickets", expected=len(good), found=_log_size(town) - 1)
    found.expect("fragments at relays", expected=3 * len(good), found=relay_held(town))
    _operate(town, found, "collect", "--call=spring")
    town.server.stop()
    town.server.start(shift_ms=_LATER_MS)
    town.server.await_ready()
    _operate(town, found, "open", "--call=spring", shift_ms=_LATER_MS)
    inbox = town.server.root / "inbox" / "spring"
    folders = {path.parent.name: path.parent for path in inbox.glob("*/files")}
    found.expect("filings in the inbox", expected=len(good), found=len(folders))
    for report in good:
        folder = folders.get(report.commitment)
        files = {} if folder is None else _files(folder / "files")
        found.counts["files compared"] += len(files)
        if files != report.manifest:
            found.faults.append(f"seed {report.seed}: the inbox does not hold what was filed")
    return found


def _operate(town: Town, found: Audit, *arguments: str, shift_ms: int | None = None) -> str:
    ran: Ran = town.operate(*arguments, shift_ms=shift_ms)
    if ran.code != 0:
        found.faults.append(f"{' '.join(arguments)}: ended with {ran.code}: {ran.err[-500:]}")
    return ran.out or "{}"


def _log_size(town: Town) -> int:
    url = town.server.url + routes.LOG_CHECKPOINT.path(call="spring")
    with urllib.request.urlopen(url, timeout=10) as answer:
        return int(answer.read().split(b"\n")[1])


def relay_held(town: Town) -> int:
    """Fragments that relays hold, each as often as it is held."""
    count = 0
    for relay in town.relays:
        ran = command("bistro-relay", "status", "--dir", relay.root, "--json").require(0)
        count += sum(one["held_count"] for one in json.loads(ran.out)["calls"])
    return count


def _files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
