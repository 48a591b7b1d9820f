"""``bistro forecast`` before a real destination and real relays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bistro_client.forecasting import SAMPLE_SIZE
from tests.integration.test_client_path import Filer, filing
from tests.unit.client.commands import Ran, running_bistro


async def forecast(filer: Filer, *options: str | Path) -> Ran:
    """Run the command for two files."""
    folder = filer.w.root / "bid"
    folder.mkdir(exist_ok=True)
    for name, size in (("a.pdf", 3_000_000), ("b.pdf", 7)):
        (folder / name).write_bytes(bytes(size))
    where = ("--to", filer.wire.url, "--home", filer.home.root)
    return await running_bistro("forecast", folder, *where, *options)


def facts(ran: Ran) -> dict[str, Any]:
    # The servers of this process write their logs to the same place.
    line = next(line for line in ran.out.splitlines() if line.startswith('{"forecast"'))
    found: dict[str, Any] = json.loads(line)["forecast"]
    return found


async def test_a_forecast_says_when_to_start_and_changes_nothing(tmp_path: Path) -> None:
    """The latest start lies before the deadline; nothing is pinned, sent or left on disk."""
    async with filing(tmp_path) as filer:
        ran = await forecast(filer)
        assert ran.code == 0, ran.err
        for words in ("YOU CAN BE ON TIME: start by", "closes", "sealing: about", "at 1 Mbit/s"):
            assert words in ran.out
        for name in filer.w.relays:
            assert f"{name}: " in ran.out
        found = facts(await forecast(filer, "--json"))
        assert found["latest_start"] < found["closes"]
        assert found["bytes"] == 3_000_007
        assert found["needed_bytes"] > found["bytes"]
        assert found["disk_needed_bytes"] == found["needed_bytes"]
        assert not list(filer.home.root.rglob("*"))
        assert not [path for path in filer.wire.asked if path.startswith("POST")]


async def test_a_thin_line_is_told_beforehand(tmp_path: Path) -> None:
    """So is a relay that is down."""
    async with filing(tmp_path) as filer:
        await filer.w.stop("bert.example")
        found = facts(await forecast(filer, "--line", "1k", "--json"))
        (line,) = found["staging"]
        assert line["line_bits"] == 1_000
        assert not line["is_in_time"]
        assert found["least_line_bits"] > 1_000
        problems = {one["name"]: one["problem"] for one in found["relays"]}
        assert problems["bert.example"]
        assert not problems["anna.example"]


async def test_after_the_deadline_it_says_too_late_and_what_to_do(tmp_path: Path) -> None:
    """Exit 3; the next step is to ask all the same."""
    async with filing(tmp_path) as filer:
        filer.w.clock.advance(3_600_000)
        ran = await forecast(filer, "--call", "spring")
        assert ran.code == 3
        ran.require_two_lines()
        assert "NOT on time" in ran.err
        assert (await forecast(filer, "--call", "spring", "--json")).code == 3


async def test_limits_are_told_before_anything_is_sealed(tmp_path: Path) -> None:
    """As ``submit`` would refuse it, with the limit and what was found."""
    async with filing(tmp_path, files_limit=1) as filer:
        ran = await forecast(filer)
        assert ran.code == 3
        assert "at most 1 files" in ran.err
        assert SAMPLE_SIZE > 3_000_000
