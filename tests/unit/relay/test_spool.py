"""The spool: slots of a file without a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from bistro.errors import StorageError
from bistro.storage.disk import SystemDisk
from bistro_relay.store.spool import SLOT_SIZE, SpoolFile
from tests.support.disks import FaultyDisk


class HaltingDisk(SystemDisk):
    """Takes and gives three bytes at a time."""

    def write(self, fd: int, data: bytes | memoryview, *, offset: int) -> int:
        return super().write(fd, data[:3], offset=offset)

    def read(self, fd: int, *, offset: int, size: int) -> bytes:
        return super().read(fd, offset=offset, size=min(size, 3))


def test_slots_do_not_touch_each_other(tmp_path: Path) -> None:
    """Pieces come in any order and size, and system calls may stop anywhere."""
    spool = SpoolFile(tmp_path, disk=HaltingDisk())
    spool.write([(1, 0, b"first"), (0, SLOT_SIZE - 4, b"last"), (2, 0, b"third")])
    spool.write([(1, 5, b" half")])
    assert spool.read(1, size=10) == b"first half"
    assert spool.read(0, size=SLOT_SIZE)[-4:] == b"last"
    assert spool.read(2, size=5) == b"third"
    spool.close()


def test_it_has_no_name_and_takes_over_one_that_a_crash_left(tmp_path: Path) -> None:
    """So it is gone with the process."""
    left = tmp_path / "waiting.tmp"
    left.write_bytes(bytes(3 * SLOT_SIZE))
    spool = SpoolFile(tmp_path)
    spool.write([(0, 0, b"new")])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageError, match="expected 4 bytes, found fewer"):
        spool.read(0, size=4)
    spool.close()


def test_what_was_cleared_is_gone(tmp_path: Path) -> None:
    """And takes no room."""
    spool = SpoolFile(tmp_path)
    spool.clear()
    spool.write([(7, 0, b"x")])
    spool.clear()
    with pytest.raises(StorageError, match="found fewer"):
        spool.read(7, size=1)
    spool.close()


@pytest.mark.parametrize("at", [0, 1])
def test_each_step_may_fail_and_the_next_attempt_succeeds(tmp_path: Path, at: int) -> None:
    """Taking its name away, writing."""
    disk = FaultyDisk(at=at)
    spool = SpoolFile(tmp_path, disk=disk)
    with pytest.raises(StorageError):
        spool.write([(0, 0, b"one")])
    disk.heal()
    spool.write([(0, 0, b"two")])
    assert spool.read(0, size=3) == b"two"
    assert list(tmp_path.iterdir()) == []
    spool.close()
