"""Relays that lie, break or are silent: fragments go elsewhere, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from bistro.errors import StorageError, UnavailableError
from bistro.protocol.submission import Step, SubmissionState
from bistro.wire.clauses import Spread
from bistro_client.journal import read_journal
from bistro_client.listening import Task
from tests.unit.client.worlds import World, sealed_of, ticketed, world


def indexes(w: World) -> set[int]:
    """Fragments that a relay holds with a receipt."""
    return {index for _, index in w.held}


@pytest.mark.parametrize("how", ["nonsense", "silent", "full", "forged", "short"])
async def test_a_relay_that_cannot_be_used_is_replaced(tmp_path: Path, how: str) -> None:
    """The two others are enough, and get one each; receipts that do not hold are no good."""
    async with world(tmp_path) as w:
        w.relays[0].how = how
        done = await w.submitter().submit(w.wish())
        assert done.state is SubmissionState.STAGED
        held = [one.relay for one in done.fragments if one.receipt]
        assert sorted(filter(None, held)) == [relay.name for relay in w.relays[1:]]
        assert "left-for-later" in w.listener.keys
        assert "concentrated" not in w.listener.keys
        if how in {"full", "forged", "short"} and w.relays[0].creations:
            assert "relay-failed" in w.listener.keys
            assert done.attempts


async def test_a_broken_upload_goes_on_at_the_byte_that_the_relay_has(tmp_path: Path) -> None:
    """What arrived is not sent again."""
    async with world(tmp_path) as w:
        for relay in w.relays:
            relay.how = "breaks"
        done = await w.submitter().submit(w.wish(w.files(3_000_000)))
        assert done.state is SubmissionState.STAGED
        size = sealed_of(done).cut.layout.fragment_size
        assert size > 1_048_576
        assert sum(relay.received_size for relay in w.relays) == 3 * size
        assert sum(relay.creations for relay in w.relays) == 3


async def test_an_upload_that_the_relay_forgot_is_begun_again(tmp_path: Path) -> None:
    """404 on the way back leads to a new upload at the same relay."""
    async with world(tmp_path) as w:
        w.relays[0].how, w.relays[0].then = "breaks", "gone"
        done = await w.submitter().submit(w.wish(w.files(3_000_000)))
        assert done.state is SubmissionState.STAGED
        assert indexes(w) == {0, 1, 2}
        assert sum(relay.creations for relay in w.relays) == 4


async def test_no_relay_at_all_leaves_the_ticket(tmp_path: Path) -> None:
    """Exit 5, everything on disk; resume stages the same bytes."""
    async with world(tmp_path) as w:
        for relay in w.relays:
            relay.how = "silent"
        with pytest.raises(UnavailableError) as caught:
            await w.submitter(limit_ms=5_000).submit(w.wish())
        for relay in w.relays:
            assert f"{relay.name}: " in caught.value.message
        assert w.listener.keys.count("waiting") == 1
        assert w.listener.keys.count("relay-unusable") == 3
        submission = read_journal(w.only_folder())
        assert submission.state is SubmissionState.TICKETED
        assert "on-time" in w.listener.keys
        for relay in w.relays:
            relay.how = "good"
        done = await w.submitter().resume(w.only_folder())
        assert done.state is SubmissionState.STAGED
        assert done.ticket == submission.ticket
        assert done.sealed == submission.sealed


async def test_waiting_for_relays_ends_when_it_is_too_late(tmp_path: Path) -> None:
    """Without a limit of its own the client goes on until ``stage_by``, and no longer."""
    async with world(tmp_path) as w:
        for relay in w.relays:
            relay.how = "nonsense"
        with pytest.raises(UnavailableError):
            await w.submitter(limit_ms=None).submit(w.wish())
        assert w.clock.now() <= w.destination.terms.stage_by
        assert w.clock.now() > w.destination.terms.stage_by - 60_000


async def test_enough_fragments_are_enough(tmp_path: Path) -> None:
    """With k receipts it is staged; the rest is left for another run, not waited for."""
    async with world(tmp_path) as w:
        w.relays[0].how = w.relays[1].how = "silent"
        w.relays[2].room = 2
        done = await w.submitter().submit(w.wish())
        assert done.state is SubmissionState.STAGED
        assert len(done.missing) == 1
        assert done.next_step is Step.UPLOAD
        assert "left-for-later" in w.listener.keys
        w.relays[0].how = "good"
        done = await w.submitter().resume(w.only_folder())
        assert not done.missing
        assert not done.unpresented


async def test_no_operator_gets_more_than_it_may_lose(tmp_path: Path) -> None:
    """At most n - k fragments go to one operator, while others can be used."""
    async with world(tmp_path, spread=Spread(2, 5)) as w:
        done = await w.submitter().submit(w.wish())
        counts = [sum(one.relay == relay.name for one in done.fragments) for relay in w.relays]
        assert sum(counts) == 5
        assert max(counts) <= 3


async def test_a_damaged_fragment_on_disk_is_named(tmp_path: Path) -> None:
    """No relay is blamed for what our own disk did, and nothing is sealed again."""
    async with world(tmp_path) as w:
        await ticketed(w)
        path = w.only_folder().fragment(1)
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(StorageError, match=r"1\.fragment.*missing or damaged"):
            await w.submitter().resume(w.only_folder())
        path.write_bytes(whole)
        done = await w.submitter().resume(w.only_folder())
        assert done.state is SubmissionState.STAGED


async def test_relays_are_used_while_the_destination_is_down(tmp_path: Path) -> None:
    """After the ticket only the receipts need the destination, and it may be shown them later."""
    async with world(tmp_path) as w:
        await ticketed(w)
        w.wire.down = True
        with pytest.raises(UnavailableError):
            await w.submitter(limit_ms=2_000).resume(w.only_folder())
        assert indexes(w) == {0, 1, 2}
        submission = read_journal(w.only_folder())
        assert submission.state is SubmissionState.STAGING
        assert not submission.missing
        w.wire.down = False
        done = await w.submitter().resume(w.only_folder())
        assert done.state is SubmissionState.STAGED


async def test_progress_counts_every_byte_once(tmp_path: Path) -> None:
    """What the listener was told adds up, also after failures."""
    async with world(tmp_path) as w:
        w.relays[0].how = "breaks"
        w.relays[1].how = "full"
        done = await w.submitter().submit(w.wish(w.files(3_000_000)))
        size = sealed_of(done).cut.layout.fragment_size
        assert len(done.missing) == 1
        assert w.listener.done[Task.UPLOADING] == 2 * size
