"""Two relays get one fragment where the first is slow; one receipt counts, and nothing is left."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bistro.protocol.submission import Submission, SubmissionState
from bistro.wire.clauses import Spread
from bistro_client.journal import read_journal
from bistro_client.listening import Task
from bistro_client.oversight import Limits
from tests.unit.client.relays import FakeRelay
from tests.unit.client.worlds import World, sealed_of, world

SOON = Limits(
    stall_s=20, dead_s=90, period_s=0.02, young_s=0.1, bearable_s=60, race_s=0.2, race_silence_s=0.5
)
LARGE = 3_000_000


def cast(w: World, *roles: str) -> None:
    """The relays are like this in the order in which they are first asked."""
    shared = list(roles)
    for relay in w.relays:
        relay.how, relay.roles = "cast", shared


def relay_like(w: World, how: str) -> FakeRelay:
    (found,) = [relay for relay in w.relays if relay.how == how]
    return found


def require_held_once(w: World, done: Submission) -> None:
    """Each fragment is held by the relay that the journal names, and by no other."""
    assert done.state is SubmissionState.STAGED
    holders = {index: names for (_, index), names in w.held.items()}
    assert holders == {one.index: [one.relay] for one in done.fragments}
    assert read_journal(w.only_folder()) == done


@pytest.mark.parametrize("how", ["trickles", "stalls"])
async def test_whoever_is_faster_wins_and_the_loser_is_told(tmp_path: Path, how: str) -> None:
    """Both fragments are needed; the free relay gets the slow one's as well, and is first."""
    async with world(tmp_path, spread=Spread(2, 2)) as w:
        cast(w, how, "good", "good")
        done = await w.submitter(limits=SOON).submit(w.wish(w.files(LARGE)))
        require_held_once(w, done)
        slow = relay_like(w, how)
        assert w.listener.keys.count("racing") == 1
        assert len(slow.ended) == 1
        assert not slow.uploads
        (attempt,) = done.attempts
        assert attempt.peer == slow.name
        assert "slower than" in attempt.message
        size = sealed_of(done).cut.layout.fragment_size
        assert w.listener.done[Task.UPLOADING] == 2 * size


@pytest.mark.parametrize("how", ["full", "stalls", "forged"])
async def test_a_rival_that_fails_costs_the_slow_one_nothing(tmp_path: Path, how: str) -> None:
    """The first relay's receipt counts; of the rival nothing is left but the attempt."""
    async with world(tmp_path, spread=Spread(2, 2)) as w:
        cast(w, "trickles", "good", how)
        done = await w.submitter(limits=SOON).submit(w.wish(w.files(LARGE)))
        rival = relay_like(w, how)
        assert rival.creations == 1
        held = [one.relay for one in done.fragments]
        assert rival.name not in held
        assert relay_like(w, "trickles").name in held
        assert done.state is SubmissionState.STAGED
        assert len(rival.ended) == (how == "stalls")
        assert [one.peer for one in done.attempts] == [rival.name] * (how != "stalls")


async def test_a_relay_that_fails_in_a_race_leaves_it_to_its_rival(tmp_path: Path) -> None:
    """No third try elsewhere while the second one is under way."""
    async with world(tmp_path, spread=Spread(2, 2)) as w:
        cast(w, "stalls", "good", "trickles")
        limits = Limits(
            stall_s=1, dead_s=2, period_s=0.02, young_s=0.1, race_s=0.2, race_silence_s=0.3
        )
        done = await w.submitter(limits=limits).submit(w.wish(w.files(LARGE)))
        require_held_once(w, done)
        assert sum(relay.creations for relay in w.relays) == 3
        assert any("took no byte" in one.message for one in done.attempts)


async def test_while_fragments_wait_for_their_turn_nothing_is_raced(tmp_path: Path) -> None:
    """Another fragment is worth more than the same one twice: any k of n are enough."""
    async with world(tmp_path, spread=Spread(1, 2)) as w:
        cast(w, "trickles", "good", "good")
        done = await w.submitter(limits=SOON).submit(w.wish(w.files(LARGE // 2)))
        assert done.state is SubmissionState.STAGED
        assert "racing" not in w.listener.keys


async def test_a_client_that_dies_in_a_race_goes_on_with_the_first(tmp_path: Path) -> None:
    """The rival is in no journal: what it took expires there, and nothing counts twice."""
    async with world(tmp_path, spread=Spread(2, 2)) as w:
        cast(w, "stalls", "good", "stalls")
        work = asyncio.ensure_future(  # noqa: TID251 - cancelled below
            w.submitter(limits=SOON).submit(w.wish(w.files(LARGE)))
        )
        for _ in range(3_000):
            if "racing" in w.listener.keys and all(one.creations for one in w.relays):
                break
            await asyncio.sleep(0.01)
        work.cancel()
        await asyncio.wait([work])
        before = read_journal(w.only_folder())
        assert len(before.missing) == 1
        for relay in w.relays:
            relay.how = "good"
        done = await w.submitter().resume(w.only_folder())
        require_held_once(w, done)
        assert done.fragments[before.missing[0].index].relay == before.missing[0].relay
