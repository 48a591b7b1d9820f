"""The sequencer: order, time, uniqueness, and nobody harmed by anybody else."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bistro.crypto.signing import LocalSigner
from bistro.errors import (
    BistroError,
    DeadlinePassedError,
    FormatError,
    OverloadedError,
    StorageError,
    UnavailableError,
)
from bistro.instant import UnixMillis
from bistro.ledger.ledger import Appended, Ledger
from bistro.ledger.sequencer import BatchReport, Draft, Sequencer
from tests.support.clocks import NOON, ManualClock
from tests.support.disks import FaultyDisk, How
from tests.support.running import running
from tests.unit.ledger.drafts import (
    KEY,
    commitment,
    draft,
    entry,
    open_ledger,
    require_appended,
    require_proven,
    sequencing,
)


async def test_a_draft_becomes_an_entry_with_its_time_and_a_proof(tmp_path: Path) -> None:
    """Index, time and proof; the time is when it was received, not when it was stamped."""
    clock = ManualClock()
    async with sequencing(tmp_path, clock) as sequencer:
        clock.advance(400)
        first = await sequencer.submit(draft(0, NOON + 100))
        second = await sequencer.submit(draft(1, NOON + 300))
    assert (first.index, first.time, first.is_duplicate) == (0, NOON + 100, False)
    assert (second.index, second.time) == (1, NOON + 300)
    require_proven(first, 0)
    require_proven(second, 1)


async def test_what_waits_together_is_one_batch_in_order_of_receipt(tmp_path: Path) -> None:
    """And equal times keep the order in which they came."""
    reports: list[BatchReport] = []
    clock = ManualClock()
    async with sequencing(tmp_path, clock, report=reports.append) as sequencer:
        clock.advance(50)
        received = [30, 10, 20, 10]
        results = require_appended(
            await sequencer.submit_all(
                [draft(number, NOON + at) for number, at in enumerate(received)]
            )
        )
    assert [one.index for one in results] == [3, 0, 2, 1]
    assert [one.time - NOON for one in results] == received
    assert reports == [BatchReport(4, 0, {}, 40, 1)]


async def test_time_never_goes_back(tmp_path: Path) -> None:
    """A request received before the last entry's time gets that time."""
    clock = ManualClock()
    async with sequencing(tmp_path, clock) as sequencer:
        await sequencer.submit(draft(0, NOON))
        late = await sequencer.submit(draft(1, NOON - 60_000))
        clock.step(-900)
        clamped = await sequencer.submit(draft(2, NOON - 900))
    assert late.time == clamped.time == NOON


@settings(max_examples=20)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 12), st.integers(-2_000, 0)), min_size=1, max_size=8),
        max_size=6,
    )
)
def test_any_load_gives_each_key_one_entry_in_order(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[int, int]]]
) -> None:
    """First come, first stamped; asking again returns the first entry, forever."""

    async def scenario() -> None:
        first: dict[int, Appended] = {}
        clock = ManualClock()
        async with sequencing(tmp_path_factory.mktemp("l"), clock) as sequencer:
            for batch in batches:
                clock.advance(100)
                drafts = [draft(number, clock.now() + age) for number, age in batch]
                results = require_appended(await sequencer.submit_all(drafts))
                for (number, _), one in zip(batch, results, strict=True):
                    require_proven(one, number)
                    known = first.setdefault(number, one)
                    assert (one.index, one.time) == (known.index, known.time)
            assert sorted(one.index for one in first.values()) == list(range(len(first)))
            in_order = sorted(first.values(), key=lambda one: one.index)
            assert [one.time for one in in_order] == sorted(one.time for one in in_order)

    asyncio.run(scenario())


async def test_a_refusal_concerns_one_draft_alone(tmp_path: Path) -> None:
    """It gets its error; the others their entries, and the time is not moved by it."""

    def refuse(_: UnixMillis) -> bytes:
        raise DeadlinePassedError("too late")

    clock = ManualClock()
    async with sequencing(tmp_path, clock) as sequencer:
        results = await sequencer.submit_all(
            [
                draft(0, NOON - 9),
                Draft(b"refused", NOON, refuse),
                Draft(b"long", NOON, lambda _: bytes(5_000)),
                draft(1, NOON - 5),
            ]
        )
        with pytest.raises(DeadlinePassedError):
            await sequencer.submit(Draft(b"refused", NOON, refuse))
    assert [type(one) for one in results] == [
        Appended,
        DeadlinePassedError,
        FormatError,
        Appended,
    ]
    first, last = require_appended([results[0], results[3]])
    assert [first.time, last.time] == [NOON - 9, NOON - 5]


async def test_a_refused_key_may_be_asked_for_again(tmp_path: Path) -> None:
    """A refusal is no entry here: after an extension the commitment can be ticketed."""
    async with sequencing(tmp_path, ManualClock()) as sequencer:
        sequencer.max_wait_ms = 10
        with pytest.raises(OverloadedError):
            await sequencer.submit(draft(0, NOON - 11))
        sequencer.max_wait_ms = None
        assert (await sequencer.submit(draft(0, NOON - 11))).index == 0


async def test_repetitions_within_a_batch_share_the_first_entry(tmp_path: Path) -> None:
    """The earliest received wins; drafts without a key are all new."""
    reports: list[BatchReport] = []
    async with sequencing(tmp_path, ManualClock(), report=reports.append) as sequencer:
        drafts = [
            draft(0, NOON),
            draft(0, NOON - 5),
            *[Draft(None, NOON, lambda time: entry(7, time))] * 2,
        ]
        later, first, *plain = require_appended(await sequencer.submit_all(drafts))
    assert (first.is_duplicate, later.is_duplicate) == (False, True)
    assert (first.index, first.time) == (later.index, later.time) == (0, NOON - 5)
    assert [one.index for one in plain] == [1, 2]
    assert (reports[0].appended_count, reports[0].duplicate_count) == (3, 1)


async def test_duplicates_are_served_from_memory_tiles_and_after_a_restart(tmp_path: Path) -> None:
    """Also while the clock may not stamp."""
    clock = ManualClock()
    for _ in range(2):
        async with sequencing(tmp_path, clock) as sequencer:
            await sequencer.submit_all([draft(number) for number in range(300)])
            await sequencer._ledger.publish()
            clock.bound_ms = None
            for number in (0, 299):
                again = await sequencer.submit(draft(number))
                assert (again.index, again.is_duplicate) == (number, True)
                require_proven(again, number)
            with pytest.raises(UnavailableError, match="clock error"):
                await sequencer.submit(draft(300))
            clock.bound_ms = 10


async def test_a_cancelled_waiter_harms_nobody(tmp_path: Path) -> None:
    """Not yet stamped, it is dropped; the others are answered."""
    ledger = await open_ledger(tmp_path)
    sequencer = Sequencer(ledger, ManualClock())
    tasks = [
        asyncio.ensure_future(sequencer.submit(draft(number)))  # noqa: TID251
        for number in range(4)
    ]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    async with running(sequencer.run()):
        done = await asyncio.wait_for(asyncio.wait({tasks[0], tasks[2], tasks[3]}), 5)
        assert not done[1]
    assert tasks[1].cancelled()
    assert ledger.size == 3
    await ledger.close()


class SlowDisk(FaultyDisk):
    """A disk whose first sync after ``slow`` waits until a test lets it go on."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.is_slow = False

    def sync(self, fd: int) -> None:
        if self.is_slow:
            self.entered.set()
            self.go_on.wait(10)
        super().sync(fd)


async def test_nobody_is_answered_before_the_sync_returns(tmp_path: Path) -> None:
    """A waiter that leaves meanwhile harms nobody, and a cancelled part finishes its batch."""
    disk = SlowDisk()
    ledger = await open_ledger(tmp_path, disk=disk)
    sequencer = Sequencer(ledger, ManualClock())
    async with running(sequencer.run()) as part:
        disk.is_slow = True
        tasks = [
            asyncio.ensure_future(sequencer.submit(draft(number)))  # noqa: TID251
            for number in range(3)
        ]
        await asyncio.to_thread(disk.entered.wait, 5)
        assert ledger.size == 0
        assert ledger.checkpoint() is None
        waiting = asyncio.ensure_future(sequencer.submit(draft(9)))  # noqa: TID251
        await asyncio.sleep(0)
        tasks[1].cancel()
        part.cancel()
        await asyncio.sleep(0.01)
        assert not tasks[0].done()
        disk.go_on.set()
        await asyncio.wait({part})
    assert (await tasks[0]).index == 0
    assert (await tasks[2]).index == 2
    with pytest.raises(UnavailableError, match="it was shut down"):
        await waiting
    with pytest.raises(UnavailableError, match="it was shut down"):
        await sequencer.submit(draft(10))
    await ledger.close()


async def test_a_part_ends_that_is_stopped_while_it_waits_for_the_disk(tmp_path: Path) -> None:
    """The batch is answered, and nothing more is waited for."""
    disk = SlowDisk()
    ledger = await open_ledger(tmp_path, disk=disk)
    sequencer = Sequencer(ledger, ManualClock())
    async with running(sequencer.run()) as part:
        disk.is_slow = True
        task = asyncio.ensure_future(sequencer.submit(draft(0)))  # noqa: TID251
        await asyncio.to_thread(disk.entered.wait, 5)
        part.cancel()
        await asyncio.sleep(0)
        disk.go_on.set()
        async with asyncio.timeout(5):
            await asyncio.wait({part})
    assert (await task).index == 0
    await ledger.close()


@pytest.mark.parametrize("how", ["not-stored", "stored", "full"])
@pytest.mark.parametrize("step", [0, 1])
async def test_a_failed_append_acknowledges_nothing_and_stops(
    tmp_path: Path, step: int, how: How
) -> None:
    """All waiters hear that they may ask again; the part ends with the disk's error."""
    disk = FaultyDisk()
    ledger = await open_ledger(tmp_path, disk=disk)
    sequencer = Sequencer(ledger, ManualClock(), batch_limit=2)
    async with running(sequencer.run()) as part:
        await sequencer.submit(draft(0))
        disk.fail_at(step, how)
        results = await sequencer.submit_all([draft(number) for number in range(1, 6)])
        await asyncio.wait({part})
        assert isinstance(part.exception(), StorageError)
    assert [type(one) for one in results] == [UnavailableError] * 5
    assert ledger.size == 1
    with pytest.raises(UnavailableError, match="has stopped"):
        await sequencer.submit(draft(7))
    second = Sequencer(ledger, ManualClock())
    async with running(second.run()) as part:
        with pytest.raises(UnavailableError, match="has stopped"):
            await second.submit(draft(8))
        await asyncio.wait({part})
        assert isinstance(part.exception(), StorageError)
    await ledger.close()
    async with sequencing(tmp_path, ManualClock()) as again:
        assert (await again.submit(draft(0))).is_duplicate
        results = await again.submit_all([draft(1), draft(2)])
        assert [one.index for one in require_appended(results)] == [1, 2]


async def test_a_clock_that_was_set_stops_before_stamping(tmp_path: Path) -> None:
    """The ledger itself is whole, and goes on when the clock is right again."""
    clock = ManualClock()
    ledger = await open_ledger(tmp_path)
    sequencer = Sequencer(ledger, clock)
    async with running(sequencer.run()) as part:
        await sequencer.submit(draft(0))
        clock.step(3_600_000)
        with pytest.raises(UnavailableError, match="the clock was set by 1 h"):
            await sequencer.submit(draft(1, clock.now()))
        await asyncio.wait({part})
        assert isinstance(part.exception(), StorageError)
    assert ledger.size == 1
    await ledger.close()


class AwaySigner(LocalSigner):
    """A signer that cannot be used until told so."""

    is_away = True

    async def sign(self, texts: Sequence[bytes]) -> list[bytes]:
        if self.is_away:
            raise UnavailableError("the key service does not answer")
        return await super().sign(texts)


async def test_a_signer_that_is_away_costs_a_batch_not_the_ledger(tmp_path: Path) -> None:
    """Nothing was written, so the next batch may succeed."""
    signer = AwaySigner(KEY)
    ledger = await Ledger.open(tmp_path / "l", signer=signer)
    sequencer = Sequencer(ledger, ManualClock())
    async with running(sequencer.run()):
        with pytest.raises(UnavailableError, match="key service"):
            await sequencer.submit(draft(0))
        signer.is_away = False
        assert (await sequencer.submit(draft(0))).index == 0
    await ledger.close()


async def test_a_full_queue_refuses_before_memory_grows(tmp_path: Path) -> None:
    """All of a bulk request or none; the answer says when to come again."""
    ledger = await open_ledger(tmp_path)
    sequencer = Sequencer(ledger, ManualClock(), queue_limit=3)
    waiting = asyncio.ensure_future(  # noqa: TID251
        sequencer.submit_all([draft(number) for number in range(2)])
    )
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError) as caught:
        await sequencer.submit_all([draft(2), draft(3)])
    assert (caught.value.retry_after_s or 0) >= 1.0
    async with running(sequencer.run()):
        assert len(await waiting) == 2
        assert (await sequencer.submit(draft(2))).index == 2
    await ledger.close()


async def test_large_queues_are_cut_into_batches(tmp_path: Path) -> None:
    """None larger than the limit, and all are answered."""
    reports: list[BatchReport] = []
    async with sequencing(
        tmp_path, ManualClock(), batch_limit=10, report=reports.append
    ) as sequencer:
        results = await sequencer.submit_all([draft(number) for number in range(25)])
    assert [one.index for one in require_appended(results)] == list(range(25))
    assert [one.appended_count for one in reports] == [10, 10, 5]


async def test_nothing_that_waited_is_stamped_after_a_barrier_s_rule(tmp_path: Path) -> None:
    """A ``closed`` entry ends its batch; later drafts see that it is durable."""
    closed: list[Appended] = []

    def ticket(number: int, received_at: int) -> Draft:
        def build(time: UnixMillis) -> bytes:
            if closed:
                raise DeadlinePassedError("closed")
            return entry(number, time)

        return Draft(commitment(number), UnixMillis(received_at), build)

    async with sequencing(tmp_path, ManualClock()) as sequencer:
        results = await sequencer.submit_all(
            [
                ticket(0, NOON + 2),
                ticket(1, NOON),
                draft(99, NOON + 1, is_barrier=True, on_durable=closed.append),
                ticket(2, NOON + 3),
            ]
        )
    assert [one.index if isinstance(one, Appended) else type(one) for one in results] == [
        DeadlinePassedError,
        0,
        1,
        DeadlinePassedError,
    ]
    assert closed == [results[2]]


async def test_a_bug_in_one_draft_stops_the_part_and_tells_every_waiter(tmp_path: Path) -> None:
    """It is not hidden, and nobody waits forever."""
    ledger = await open_ledger(tmp_path)
    sequencer = Sequencer(ledger, ManualClock())
    async with running(sequencer.run()) as part:
        results = await sequencer.submit_all(
            [draft(0), Draft(b"bug", NOON, lambda _: b"" * (1 // 0))]
        )
        await asyncio.wait({part})
        assert isinstance(part.exception(), ZeroDivisionError)
    assert all(isinstance(one, BistroError) for one in results)
    await ledger.close()


async def test_a_lost_tile_stops_the_part_when_a_duplicate_needs_it(tmp_path: Path) -> None:
    """The asker hears that it cannot be proven now, the operator what is missing."""
    ledger = await open_ledger(tmp_path)
    sequencer = Sequencer(ledger, ManualClock())
    async with running(sequencer.run()) as part:
        await sequencer.submit_all([draft(number) for number in range(300)])
        await ledger.publish()
        (tmp_path / "tile/entries/000").unlink()
        with pytest.raises(UnavailableError, match="entry 0 cannot be proven"):
            await sequencer.submit(draft(0))
        await asyncio.wait({part})
        assert isinstance(part.exception(), StorageError)
    await ledger.close()


async def test_a_duplicate_nobody_waits_for_is_not_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed connections cost nothing."""
    async with sequencing(tmp_path, ManualClock()) as sequencer:
        await sequencer.submit(draft(0))
        proven: list[int] = []
        gate = asyncio.Event()
        prove = sequencer._ledger.prove

        async def watched(index: int) -> Appended:
            proven.append(index)
            await gate.wait()
            return await prove(index)

        monkeypatch.setattr(sequencer._ledger, "prove", watched)
        tasks = [asyncio.ensure_future(sequencer.submit(draft(0))) for _ in range(3)]  # noqa: TID251
        while not proven:  # noqa: ASYNC110
            await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.sleep(0)
        gate.set()
        assert (await tasks[2]).index == 0
        assert len(proven) == 2
