"""The sequencer when waiters leave, disks and signers fail, clocks are set and drafts have bugs."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from bistro.crypto.signing import LocalSigner
from bistro.errors import BistroError, StorageError, UnavailableError
from bistro.ledger.appended import Appended
from bistro.ledger.ledger import Ledger
from bistro.ledger.sequencer import Draft, Sequencer
from tests.support.clocks import NOON, ManualClock
from tests.support.disks import FaultyDisk, How
from tests.support.running import running
from tests.unit.ledger.drafts import (
    KEY,
    draft,
    open_ledger,
    require_appended,
    sequencing,
)
from tests.unit.ledger.failing import failing_append


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
        assert await asyncio.to_thread(disk.entered.wait, 5)
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
        assert await asyncio.to_thread(disk.entered.wait, 5)
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
    failing = failing_append(tmp_path, step, how, batch_limit=2)
    async with failing as (ledger, sequencer, part):
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
    assert [isinstance(one, BistroError) for one in results] == [True, True]
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
