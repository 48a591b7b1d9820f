"""The sequencer: order, time, uniqueness, and refusals that concern one draft alone."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bistro.errors import DeadlinePassedError, FormatError, OverloadedError, UnavailableError
from bistro.instant import UnixMillis
from bistro.ledger.appended import Appended
from bistro.ledger.sequencer import BatchReport, Draft, Sequencer
from tests.support.clocks import NOON, ManualClock
from tests.support.running import running
from tests.unit.ledger.drafts import (
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
