"""Never more than n - k fragments with one operator; what waits, and what waiting costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bistro.protocol.submission import Step, SubmissionState
from bistro_client.journal import read_journal
from tests.unit.client.worlds import World, world


def held(w: World) -> list[str]:
    """Relays by the fragments that they hold with a receipt."""
    return sorted(name for names in w.held.values() for name in names)


async def test_a_fragment_waits_for_the_operator_that_is_down(tmp_path: Path) -> None:
    """Staged with two of three; the third goes where the rule allows, when it can."""
    async with world(tmp_path) as w:
        down = w.relays[1]
        down.how = "silent"
        done = await w.submitter().submit(w.wish())
        assert done.state is SubmissionState.STAGED
        assert held(w) == ["anna.example", "cora.example"]
        assert done.next_step is Step.UPLOAD
        down.how = "good"
        done = await w.submitter().resume(w.only_folder())
        assert not done.missing
        assert not done.unpresented
        assert held(w) == ["anna.example", "bert.example", "cora.example"]


async def test_staged_is_said_once_and_at_once(tmp_path: Path) -> None:
    """Before the run lingers for what it does not need."""
    async with world(tmp_path) as w:
        w.relays[0].how = "silent"
        await w.submitter().submit(w.wish())
        assert w.listener.keys.count("staged") == 1
        assert w.listener.keys.index("staged") < w.listener.keys.index("left-for-later")


async def test_one_operator_is_better_than_lapsing_and_says_what_it_costs(tmp_path: Path) -> None:
    """After a minute with a single operator left it gets what is needed, and no more."""
    async with world(tmp_path) as w:
        w.relays[0].how = w.relays[1].how = "silent"
        before = w.clock.now()
        done = await w.submitter(limit_ms=None).submit(w.wish())
        assert done.state is SubmissionState.STAGED
        assert held(w) == ["cora.example", "cora.example"]
        text = w.listener.text("concentrated")
        assert "cora now gets 2 of 3" in text
        assert "cannot restore" in text
        assert w.clock.now() - before >= 40_000


async def test_near_the_deadline_nothing_waits_for_another_operator(tmp_path: Path) -> None:
    """With less than ten minutes until staging ends a crowded operator is taken at once."""
    async with world(tmp_path) as w:
        for relay in w.relays:
            relay.how = "silent"
        with pytest.raises(Exception, match="no relay takes fragments"):
            await w.submitter(limit_ms=0).submit(w.wish())
        assert read_journal(w.only_folder()).state is SubmissionState.TICKETED
        w.clock.advance(w.destination.terms.stage_by - w.clock.now() - 300_000)
        w.relays[2].how = "good"
        before = w.clock.now()
        done = await w.submitter(limit_ms=None).resume(w.only_folder())
        assert done.state is SubmissionState.STAGED
        assert held(w) == ["cora.example", "cora.example"]
        assert w.clock.now() - before < 40_000


async def test_a_relay_that_asks_for_time_gets_it(tmp_path: Path) -> None:
    """503 with a time: no second knock before, the fragment waits, and then goes there."""
    async with world(tmp_path) as w:
        busy = w.relays[0]
        busy.how, busy.retry_after_s = "busy", 7
        done = await w.submitter().submit(w.wish())
        assert done.state is SubmissionState.STAGED
        assert not done.missing
        assert held(w) == ["anna.example", "bert.example", "cora.example"]
        assert busy.creations == 2
        assert busy.waited_ms >= 7_000
