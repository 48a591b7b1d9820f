"""A full disk is answered while nothing is lost; the ledger goes on when there is room."""

import asyncio
import errno
from pathlib import Path

import pytest

from bistro.crypto.signing import LocalSigner
from bistro.errors import UnavailableError
from bistro.ledger.appended import Appended
from bistro.ledger.ledger import Ledger
from bistro.ledger.sequencer import Sequencer
from bistro.storage.disk import SystemDisk
from tests.support.clocks import ManualClock
from tests.support.running import running
from tests.support.static_log import read_log
from tests.unit.ledger.drafts import KEY, draft, require_proven


class CrowdedDisk(SystemDisk):
    """The real disk; while it is full no file grows, but what files have can be overwritten."""

    is_full = False

    def write(self, fd: int, data: bytes | memoryview, *, offset: int) -> int:
        if self.is_full and offset + len(data) > self.size(fd):
            raise OSError(errno.ENOSPC, "no space left on device")
        return super().write(fd, data, offset=offset)


async def test_a_full_disk_refuses_and_the_ledger_goes_on(tmp_path: Path) -> None:
    """What fits into reserved room is taken; the refused are told to come again, and may."""
    disk, clock = CrowdedDisk(), ManualClock()
    ledger = await Ledger.open(tmp_path / "l", signer=LocalSigner(KEY), disk=disk)
    sequencer = Sequencer(ledger, clock)

    async def submit(begin: int) -> list[Appended | Exception]:
        drafts = [draft(number, clock.now()) for number in range(begin, begin + 50)]
        return list(await sequencer.submit_all(drafts))

    async with running(sequencer.run()):
        disk.is_full = True
        taken = 0
        results = await submit(taken)
        while all(isinstance(one, Appended) for one in results):
            taken += 50
            results = await submit(taken)
        assert taken > 0
        for _ in range(3):
            assert all(isinstance(one, UnavailableError) for one in results)
            assert "no room for more entries" in str(results[0])
            assert (ledger.failure, ledger.size) == (None, taken)
            results = await submit(taken)
        disk.is_full = False
        for begin in (taken, taken + 50):
            for number, one in enumerate(await submit(begin), begin):
                assert isinstance(one, Appended)
                assert one.index == number
                require_proven(one, number)
    await ledger.close()
    ledger = await Ledger.open(tmp_path / "l", signer=LocalSigner(KEY))
    assert ledger.size == taken + 100
    await ledger.close()


async def test_publishing_waits_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tickets go on meanwhile; the published checkpoint stays the old one until there is room."""
    monkeypatch.setattr("bistro.ledger.ledger._ROOM_PAUSE_S", 0.01)
    disk, clock = CrowdedDisk(), ManualClock()
    directory = tmp_path / "l"
    ledger = await Ledger.open(directory, signer=LocalSigner(KEY), disk=disk, publish_after=256)
    sequencer = Sequencer(ledger, clock)
    async with running(sequencer.run()) as part:
        for begin in range(0, 300, 100):
            drafts = [draft(number, clock.now()) for number in range(begin, begin + 100)]
            disk.is_full = begin == 200
            results = await sequencer.submit_all(drafts)
            assert all(isinstance(one, Appended) for one in results)
        for attempt in (ledger.publish, ledger.publish_checkpoint):
            with pytest.raises(UnavailableError, match="no space left"):
                await attempt()
        assert not part.done()
        assert not [path for path in directory.rglob(".*.tmp") if "wal" not in path.parts]
        assert ledger._parts.view.published == 0
        disk.is_full = False
        while ledger._parts.view.published == 0:  # noqa: ASYNC110 - the part has no event for it
            await asyncio.sleep(0.001)
        assert await ledger.publish_checkpoint()
        assert len(read_log(directory, KEY.verifier.format())) == 300
    assert (await ledger.check()).size == 300
    await ledger.close()
