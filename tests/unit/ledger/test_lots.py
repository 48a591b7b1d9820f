"""Lots: many claims in columns get what each would get by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bistro.errors import (
    BistroError,
    DeadlinePassedError,
    OverloadedError,
    StorageError,
    UnavailableError,
)
from bistro.instant import UnixMillis
from bistro.ledger.appended import Appended, Stamped
from bistro.ledger.claims import Claim, Lot, Result
from bistro.ledger.ledger import Ledger
from bistro.ledger.sequencer import BatchReport, Sequencer
from tests.support.clocks import NOON, ManualClock
from tests.support.disks import How
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
from tests.unit.ledger.failing import failing_append


class NumberClaim(Claim):
    """A number that its lot gave up."""

    __slots__ = ("_lot", "number")

    def __init__(self, lot: NumberLot, number: int) -> None:
        super().__init__(commitment(number), lot.received_at)
        self._lot = lot
        self.number = number

    def build(self, time: UnixMillis) -> bytes:
        return self._lot.build_one(self.number, time)

    def settle(self, result: Result) -> None:
        self._lot.heard.append((self.number, result))


class NumberLot(Lot):
    """Entries of some numbers; remembers what it heard."""

    __slots__ = ("error", "gone", "heard", "numbers", "parted")

    def __init__(self, numbers: Sequence[int], received_at: int = NOON) -> None:
        super().__init__([commitment(number) for number in numbers], UnixMillis(received_at))
        self.numbers = list(numbers)
        self.gone: set[int] = set()
        self.parted: list[int] = []
        self.heard: list[tuple[int, Result]] = []
        self.error: BistroError | None = None

    def _keep(self, numbers: list[int]) -> None:
        self.numbers = numbers
        self.keys = [commitment(number) for number in numbers]

    def prune(self) -> None:
        if self.gone:
            self._keep([number for number in self.numbers if number not in self.gone])

    def part(self, positions: Sequence[int]) -> list[Claim]:
        claims: list[Claim] = [NumberClaim(self, self.numbers[at]) for at in positions]
        self.parted += [self.numbers[at] for at in positions]
        self._keep([one for at, one in enumerate(self.numbers) if at not in positions])
        return claims

    def build_one(self, number: int, time: UnixMillis) -> bytes:
        if self.error is not None:
            raise self.error
        return entry(number, time)

    def build(self, time: UnixMillis) -> list[bytes]:
        return [self.build_one(number, time) for number in self.numbers]

    def settle(self, stamped: Stamped, begin: int) -> None:
        self.heard += [(one, stamped[begin + at]) for at, one in enumerate(self.numbers)]

    def fail(self, error: BistroError) -> None:
        self.heard += [(number, error) for number in self.numbers]


def results(lot: NumberLot) -> list[Appended]:
    """What a lot heard, all of it tickets, each proven."""
    for number, result in lot.heard:
        require_proven(result, number)
    return require_appended([result for _, result in lot.heard])


def errors(lot: NumberLot) -> set[type]:
    return {type(result) for _, result in lot.heard}


async def hear(*lots: NumberLot, count: int) -> None:
    """Let the sequencer work until so many results were heard."""
    async with asyncio.timeout(5):
        while sum(len(lot.heard) for lot in lots) < count:  # noqa: ASYNC110 - a poll is all there is
            await asyncio.sleep(0.001)


async def test_a_lot_becomes_entries_in_its_order(tmp_path: Path) -> None:
    """With one time, and a proof for each."""
    async with sequencing(tmp_path, ManualClock()) as sequencer:
        lot = NumberLot([5, 3, 4])
        sequencer.enqueue([lot])
        await hear(lot, count=3)
    assert [number for number, _ in lot.heard] == [5, 3, 4]
    assert [(one.index, one.time) for one in results(lot)] == [(0, NOON), (1, NOON), (2, NOON)]


async def test_lots_and_claims_are_one_batch_in_order_of_receipt(tmp_path: Path) -> None:
    """Time never goes back between them."""
    reports: list[BatchReport] = []
    clock = ManualClock()
    clock.advance(50)
    async with sequencing(tmp_path, clock, report=reports.append) as sequencer:
        late, early = NumberLot([1, 2], NOON + 20), NumberLot([3, 4], NOON + 5)
        sequencer.enqueue([late])
        sequencer.enqueue([early])
        single = await sequencer.submit(draft(9, NOON + 10))
        await hear(late, early, count=4)
    assert [one.index for one in results(early)] == [0, 1]
    assert (single.index, single.time) == (2, NOON + 10)
    assert [one.index for one in results(late)] == [3, 4]
    assert [one.time for one in results(late)] == [NOON + 20] * 2
    assert reports == [BatchReport(5, 0, {}, 45, 1)]


async def test_repetitions_get_the_first_entry_wherever_it_stands(tmp_path: Path) -> None:
    """Within a lot, in another of the batch, in a claim before or behind, or in the log."""
    async with sequencing(tmp_path, ManualClock()) as sequencer:
        (known,) = require_appended(await sequencer.submit_all([draft(0)]))
        first, second = NumberLot([1, 0, 2, 1]), NumberLot([3, 2, 3, 7])
        sequencer.enqueue([first])
        before = asyncio.ensure_future(sequencer.submit(draft(7)))  # noqa: TID251
        await asyncio.sleep(0)
        sequencer.enqueue([second])
        behind = await sequencer.submit(draft(3))
        await hear(first, second, count=8)
        before_entry = await before
    by_number: dict[int, set[int]] = {}
    for lot in (first, second):
        for (number, _), one in zip(lot.heard, results(lot), strict=True):
            by_number.setdefault(number, set()).add(one.index)
    assert all(len(indexes) == 1 for indexes in by_number.values())
    assert by_number[0] == {known.index}
    assert by_number[3] == {behind.index}
    assert by_number[7] == {before_entry.index}
    assert first.parted == [0, 1]
    assert sorted(second.parted) == [2, 3, 7]


async def test_a_refused_lot_concerns_nobody_else(tmp_path: Path) -> None:
    """It gets its error; the others their entries, and time is not moved by it."""
    reports: list[BatchReport] = []
    async with sequencing(tmp_path, ManualClock(), report=reports.append) as sequencer:
        refused, good = NumberLot([1, 2], NOON - 1), NumberLot([3, 4], NOON - 5)
        refused.error = DeadlinePassedError("too late")
        sequencer.enqueue([refused, good])
        single = await sequencer.submit(draft(1, NOON))
        await hear(refused, good, count=4)
    assert errors(refused) == {DeadlinePassedError}
    assert [one.index for one in results(good)] == [0, 1]
    assert (single.index, single.time) == (2, NOON)
    assert sum(one.refused.get("deadline-passed", 0) for one in reports) == 2


async def test_a_lot_that_waited_too_long_is_not_stamped(tmp_path: Path) -> None:
    """As a claim is not."""
    async with sequencing(tmp_path, ManualClock()) as sequencer:
        sequencer.max_wait_ms = 10
        lot = NumberLot([1, 2], NOON - 11)
        sequencer.enqueue([lot])
        await hear(lot, count=2)
        assert errors(lot) == {OverloadedError}
        assert (await sequencer.submit(draft(1))).index == 0


async def test_whoever_left_a_lot_is_not_stamped(tmp_path: Path) -> None:
    """The others are; a lot without anybody is none."""
    async with sequencing(tmp_path, ManualClock()) as sequencer:
        some, nobody = NumberLot([1, 2, 3]), NumberLot([4, 5])
        some.gone, nobody.gone = {2}, {4, 5}
        sequencer.enqueue([some, nobody])
        await hear(some, count=2)
        assert [number for number, _ in some.heard] == [1, 3]
        assert (await sequencer.submit(draft(2))).index == 2
    assert nobody.heard == []


async def test_a_lot_behind_a_barrier_waits_for_the_next_batch(tmp_path: Path) -> None:
    """It is built when the barrier's entry is durable."""
    before, behind = NumberLot([1, 2], NOON), NumberLot([3, 4], NOON + 2)

    def close(_: Appended) -> None:
        behind.error = DeadlinePassedError("closed")

    async with sequencing(tmp_path, ManualClock()) as sequencer:
        sequencer.enqueue([behind, before])
        barrier = await sequencer.submit(draft(9, NOON + 1, is_barrier=True, on_durable=close))
        await hear(before, behind, count=4)
    assert [one.index for one in results(before)] == [0, 1]
    assert barrier.index == 2
    assert errors(behind) == {DeadlinePassedError}


async def test_a_lot_is_not_divided(tmp_path: Path) -> None:
    """A batch ends before the one that would make it too large; a larger one is a batch."""
    reports: list[BatchReport] = []
    lots = [NumberLot(range(begin, begin + size)) for begin, size in ((0, 4), (10, 7), (20, 25))]
    async with sequencing(
        tmp_path, ManualClock(), batch_limit=10, report=reports.append
    ) as sequencer:
        sequencer.enqueue(lots)
        await hear(*lots, count=36)
    assert [one.appended_count for one in reports] == [4, 7, 25]


async def test_a_full_queue_counts_what_lots_ask_for(tmp_path: Path) -> None:
    """And takes again once they are answered."""
    async with sequencing(tmp_path, ManualClock(), queue_limit=5) as sequencer:
        lot = NumberLot(range(5))
        sequencer.enqueue([lot])
        with pytest.raises(OverloadedError):
            sequencer.enqueue([NumberLot([7])])
        await hear(lot, count=5)
        assert (await sequencer.submit(draft(7))).index == 5


@pytest.mark.parametrize("how", ["not-stored", "stored", "full"])
@pytest.mark.parametrize("step", [0, 1])
async def test_a_failed_append_acknowledges_none_of_a_lot(
    tmp_path: Path, step: int, how: How
) -> None:
    """Each hears once that it may ask again; so does what waits behind."""
    failing = failing_append(tmp_path, step, how, batch_limit=4)
    async with failing as (ledger, sequencer, part):
        first, second = NumberLot([1, 2, 1, 0]), NumberLot([5, 6])
        sequencer.enqueue([first, second])
        await hear(first, second, count=5)
        await asyncio.wait({part})
        assert isinstance(part.exception(), StorageError)
    assert errors(second) == {UnavailableError}
    told = {number: result for number, result in first.heard if number != 0}
    assert {type(result) for result in told.values()} == {UnavailableError}
    await ledger.close()
    async with sequencing(tmp_path, ManualClock()) as again:
        indexes = [
            one.index
            for one in require_appended(await again.submit_all([draft(0), draft(1), draft(2)]))
        ]
        assert indexes == [0, 1, 2]


Load = list[list[tuple[bool, list[int], int]]]


@settings(max_examples=25)
@given(
    st.lists(
        st.lists(
            st.tuples(
                st.booleans(),
                st.lists(st.integers(0, 14), min_size=1, max_size=6),
                st.integers(-2_000, 0),
            ),
            min_size=1,
            max_size=5,
        ),
        max_size=5,
    )
)
def test_any_mix_of_lots_and_claims_gives_each_key_one_entry(
    tmp_path_factory: pytest.TempPathFactory, load: Load
) -> None:
    """The same entry for everybody who asks for it, for ever."""

    async def scenario() -> None:
        first: dict[int, tuple[int, int]] = {}
        clock = ManualClock()
        async with sequencing(tmp_path_factory.mktemp("l"), clock) as sequencer:
            for batch in load:
                clock.advance(100)
                lots: list[NumberLot] = []
                waiting: list[Any] = []
                for is_lot, numbers, age in batch:
                    lot = NumberLot(numbers, clock.now() + age)
                    lots.append(lot)
                    waiting += [lot] if is_lot else lot.part(range(len(numbers)))
                sequencer.enqueue(waiting)
                await hear(*lots, count=sum(len(numbers) for _, numbers, _ in batch))
                for lot in lots:
                    for (number, _), one in zip(lot.heard, results(lot), strict=True):
                        place = one.index, one.time
                        assert first.setdefault(number, place) == place
            places = sorted(first.values())
            assert [index for index, _ in places] == list(range(len(first)))
            assert [time for _, time in places] == sorted(time for _, time in places)

    asyncio.run(scenario())


class PreparedLot(NumberLot):
    """Prepares its answers; remembers how far the ledger and what it heard were then."""

    __slots__ = ("fault", "ledger", "prepared")

    def __init__(self, numbers: Sequence[int], ledger: Ledger) -> None:
        super().__init__(numbers)
        self.ledger = ledger
        self.prepared: list[tuple[int, int]] = []
        self.fault: Exception | None = None

    def prepare(self, stamped: Stamped, begin: int) -> None:
        assert [stamped[begin + at].index for at in range(self.count)]
        self.prepared.append((self.ledger.size, len(self.heard)))
        if self.fault is not None:
            raise self.fault


async def test_a_lot_prepares_while_its_entries_are_not_durable_yet(tmp_path: Path) -> None:
    """The ledger has not grown, nothing was told; afterwards it hears what it prepared for."""
    ledger = await open_ledger(tmp_path)
    sequencer = Sequencer(ledger, ManualClock())
    async with running(sequencer.run()):
        first, second = PreparedLot([1, 2], ledger), PreparedLot([3], ledger)
        sequencer.enqueue([first, second])
        await hear(first, second, count=3)
    assert first.prepared == second.prepared == [(0, 0)]
    assert [one.index for one in results(first) + results(second)] == [0, 1, 2]
    await ledger.close()


@pytest.mark.parametrize("fault", [RuntimeError("a fault of ours"), UnavailableError("likewise")])
async def test_a_lot_that_fails_to_prepare_stops_the_ledger(
    tmp_path: Path, fault: Exception
) -> None:
    """Its record may last, so nothing may be appended behind what this process does not know."""
    ledger = await open_ledger(tmp_path)
    sequencer = Sequencer(ledger, ManualClock())
    async with running(sequencer.run()) as part:
        lot = PreparedLot([1, 2], ledger)
        lot.fault = fault
        sequencer.enqueue([lot])
        await hear(lot, count=2)
        await asyncio.wait({part})
        assert part.exception() is not None
    assert errors(lot) == {UnavailableError}
    assert ledger.failure is not None
    await ledger.close()
    async with sequencing(tmp_path, ManualClock()) as again:
        indexes = [require_appended([await again.submit(draft(one))])[0].index for one in (1, 2)]
    assert indexes == [0, 1]
