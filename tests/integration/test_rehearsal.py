"""``bistro rehearse`` at a real destination with real relays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.integration.test_client_path import Filer, filing
from tests.unit.client.commands import Ran, running_bistro


async def rehearse(filer: Filer, *options: str) -> Ran:
    where = ("--to", filer.wire.url, "--call", "spring", "--home", filer.home.root)
    return await running_bistro("rehearse", *where, "--patience", "5s", *options)


def verdicts(ran: Ran) -> list[dict[str, Any]]:
    # The servers of this process write their logs to the same place.
    line = next(line for line in ran.out.splitlines() if line.startswith('{"rehearsal"'))
    found: list[dict[str, Any]] = json.loads(line)["rehearsal"]
    return found


async def test_a_rehearsal_goes_through_good_and_bad_filings(tmp_path: Path) -> None:
    """All as they must be, all withdrawn, and nothing left in the filer's home."""
    async with filing(tmp_path, files_limit=500) as filer:
        ran = await rehearse(filer, "--yes", "--json")
        assert ran.code == 0, ran.err
        found = verdicts(ran)
        assert all(one["is_as_expected"] for one in found)
        names = [one["name"] for one in found]
        assert names.count("a withdrawal") == 4
        assert "more bytes than the call allows" in names
        assert not filer.home.folders()
        assert not filer.home.key_file.exists()


async def test_a_rehearsal_shows_what_will_not_do(tmp_path: Path) -> None:
    """With every relay down nothing can be staged: exit 3, and each failure in words."""
    async with filing(tmp_path) as filer:
        await filer.w.stop_all()
        ran = await rehearse(filer, "--yes", "--json")
        assert ran.code == 3
        failed = [one for one in verdicts(ran) if not one["is_as_expected"]]
        assert failed
        assert all("no relay takes fragments" in one["text"] for one in failed)


async def test_without_a_terminal_it_must_be_meant(tmp_path: Path) -> None:
    """Nothing is sent to a call that may count."""
    async with filing(tmp_path) as filer:
        ran = await rehearse(filer)
        assert ran.code == 2
        ran.require_two_lines()
        assert not filer.wire.asked
