"""``collect``, ``open`` and ``reconcile`` as real processes: typed, refused, killed."""

from __future__ import annotations

import asyncio
import json
import os
import random  # noqa: TID251 - seeded below
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bistro.clock import SystemClock
from bistro.instant import UnixMillis
from tests.integration.test_collecting import envelopes, fragment_files, is_collected
from tests.support.clocks import ManualClock
from tests.support.world import World, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SERVER = [sys.executable, "-c", "from bistro_server.cli import main; main()"]
ENVIRONMENT = {**os.environ, "BISTRO_SERVER_CLOCK__ASSUMED_ERROR_MS": "50"}  # noqa: TID251
LONG_MS = 60_000


def now_clock() -> ManualClock:
    """A clock that stands where the processes' clock is now: relays check their signatures."""
    return ManualClock(SystemClock().now())


def start(found: World, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SERVER, *arguments, "--dir", str(found.site.folder.root)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def command(found: World, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a real process, while the daemons here go on."""
    process = start(found, *arguments)
    out, err = await asyncio.to_thread(process.communicate, timeout=60)
    return process.returncode, out, err


async def document(found: World, *arguments: str) -> tuple[int, Any]:
    code, out, _ = await command(found, *arguments, "--json")
    return code, json.loads(out)


async def test_a_collector_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """SIGKILL, again and again: in the end every envelope is here once and relays are empty."""
    chance = random.Random(20_261_122)
    async with world(tmp_path, clock=now_clock()) as found:
        filings = []
        for number in range(30):
            size = 3_000_000 if number % 10 == 0 else 3_000
            data = chance.randbytes(size)
            filings.append(await found.submit({"data.bin": data}, filer=f"f{number}"))
        for _ in range(12):
            process = start(found, "collect", "--call", "spring")
            await asyncio.sleep(chance.uniform(0.6, 2.2))
            process.kill()
            await asyncio.to_thread(process.communicate)
        code, report = await document(found, "collect", "--call", "spring")
        assert code == 0
        (call,) = report["calls"]
        assert (call["collected"], call["staged"], call["unreleased"]) == (30, 0, 0)
        assert all(is_collected(found, filing) for filing in filings)
        assert len(envelopes(found)) == len(filings)
        assert fragment_files(found) == []
        for relay in found.relays.values():
            origin = found.site.call.origin
            assert await relay.services.uploads.staged(origin, after=0, limit=9) == ()


async def test_collect_says_what_is_left_and_how_to_go_on(tmp_path: Path) -> None:
    """Exit 5 while something staged is missing; its document says the same."""
    async with world(tmp_path, clock=now_clock()) as found:
        await found.submit(indexes=(0, 1))
        await found.stop("bert.example")
        code, out, err = await command(found, "collect", "--call", "spring")
        assert code == 5
        assert "0 collected, 1 staged" in out
        assert "error: 1 staged submissions could not be collected yet" in err
        assert "next: run collect again" in err
        code, report = await document(found, "collect")
        assert code == 5
        assert list(report["calls"][0]["failures"]) == ["bert.example"]
        code, out, err = await command(found, "reconcile", "--call", "spring")
        assert code == 0
        assert "silent: relay bert.example signed a receipt to hold fragment 1" in out
        await found.start("bert.example")
        code, out, err = await command(found, "collect")
        assert (code, err.count("error")) == (0, 0)
        assert "1 collected, 0 staged" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["collect", "--call", "nowhere"], 3, "no such call"),
        (["collect", "--call", "No Such"], 2, "call id"),
        (["collect", "--watch", "--once"], 2, "found both"),
        (["open", "--call", "nowhere"], 3, "no such call"),
        (["open", "--call", "No Such"], 2, "call id"),
        (["open"], 2, "--call"),
        (["open", "--call", "spring"], 3, "sealed until"),
        (["reconcile", "--call", "nowhere"], 3, "no such call"),
    ],
)
async def test_commands_refuse_plainly(
    tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    """One message with a next step, the documented exit code, never a traceback."""
    async with world(tmp_path, clock=now_clock()) as found:
        done, _, err = await command(found, *arguments)
        assert done == code, err
        assert said in err
        assert "next:" in err
        assert "Traceback" not in err


async def test_a_call_is_collected_opened_and_reconciled(tmp_path: Path) -> None:
    """With the commands alone, after real deadlines."""
    # The call began two minutes ago, by the clock of the daemons here, which catches up later.
    began = ManualClock(UnixMillis(SystemClock().now() - 120_000))
    over = UnixMillis(began.now() + LONG_MS + 1_001)
    deadlines: dict[str, Any] = {
        "closes": UnixMillis(began.now() + LONG_MS),
        "stage_by": over,
        "repair_by": over,
    }
    async with world(tmp_path, clock=began, **deadlines) as found:
        filing = await found.submit()
        await found.collect()
        found.clock.advance(SystemClock().now() - found.clock.now())
        code, report = await document(found, "open", "--call", "spring")
        assert (code, report["outcomes"]) == (0, {"opened": 1})
        assert (Path(report["inbox"]) / filing.commitment.hex() / "evidence.json").is_file()
        code, report = await document(found, "reconcile", "--call", "spring")
        assert (code, report["unexplained"], report["counts"]) == (0, 0, {"opened": 1})
        assert report["tickets"][0]["outcome"] == "opened"
        code, out, _ = await command(found, "open", "--call", "spring")
        assert (code, "1 opened" in out) == (0, True)
        (envelope,) = found.site.call.folder.envelopes.glob("*/*.age")
        envelope.unlink()
        code, out, err = await command(found, "reconcile", "--call", "spring")
        assert code == 4
        assert "! envelope-missing" in out
        assert "1 tickets lack something" in err
        code, report = await document(found, "reconcile", "--call", "spring")
        assert (code, report["unexplained"]) == (4, 1)
