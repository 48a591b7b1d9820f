"""strace as the witness: no answer of ``bistro-server serve`` precedes its fdatasync."""

from __future__ import annotations

import random  # noqa: TID251 - seeded
import shutil
from pathlib import Path

import pytest

from tests.crash.cuts import TRACED
from tests.crash.deaths import Death
from tests.crash.lives import Plan, live
from tests.crash.order import OrderFindings, examine
from tests.crash.tickets.subject import FAR_MS, new_stage
from tests.crash.traces import read_events
from tests.support.tools import require_tool

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


async def traced(tmp_path: Path, *, sabotage: str = "") -> OrderFindings:
    """The order in which a real server, started from nothing, wrote, synced and answered."""
    require_tool("strace")
    folder, trace = tmp_path / "service", tmp_path / "trace"
    stage = await new_stage(folder, {"spring": FAR_MS}, b"order")
    stage.sabotage = sabotage
    stage.begin_life(folder)
    plan = Plan(Death("kill", after_s=1.5), serving_s=1.5, trace=trace)
    launch = stage.launch(folder, tmp_path / "serve.log")
    facts = await live(launch, None, plan, stage.load, random.Random(3))
    assert facts.has_served, launch.log.read_text()
    shutil.rmtree(folder)
    with trace.open(encoding="ascii", errors="replace") as lines:
        findings = examine(read_events(lines), set())
    # What clients hold has been seen leaving: the trace has everything.
    assert findings.promises >= stage.promise_count > 10
    return findings


async def test_every_answer_leaves_after_its_entry_was_synced(tmp_path: Path) -> None:
    """Write returned, then sync begun and returned, then the answer: for every single one."""
    findings = await traced(tmp_path)
    assert findings.early == []
    assert findings.syncs > 1


async def test_a_server_that_syncs_too_late_is_noticed(tmp_path: Path) -> None:
    """The same evidence against a server whose syncs return before they are done."""
    findings = await traced(tmp_path, sabotage="sync-late")
    assert findings.early


def test_all_calls_that_matter_are_traced() -> None:
    """A trace without sends or syncs would accuse nobody."""
    assert {"write", "sendto", "sendmsg", "pwrite64", "fdatasync", "fsync"} <= set(TRACED)
