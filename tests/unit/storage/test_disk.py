"""The machine's disk: what is written in parts lies there as one, on every kernel."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bistro.storage.disk import Disk, ReservingDisk, SystemDisk

PARTS = [memoryview(b"one"), memoryview(b""), memoryview(bytes(5_000)), memoryview(b"two")]
WHOLE = b"".join(PARTS)


def written(disk: Disk, path: Path) -> bytes:
    """What is in a file after one call that took everything."""
    fd = disk.open(path, os.O_RDWR | os.O_CREAT)
    assert disk.write_parts(fd, PARTS, offset=2) == len(WHOLE)
    disk.start(fd)
    disk.sync(fd)
    disk.close(fd)
    return path.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere parts are written one by one")
class TestOnLinux:
    """With what its kernels have, and have not."""

    def test_parts_lie_one_behind_the_other(self, tmp_path: Path) -> None:
        """In one call."""
        assert written(SystemDisk(), tmp_path / "file") == bytes(2) + WHOLE

    def test_an_older_kernel_keeps_them_in_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It says that it does not know the flag, and is asked without."""
        asked: list[int] = []
        pwritev = os.pwritev

        def older(fd: int, parts: Sequence[memoryview], offset: int, flags: int = 0) -> int:
            asked.append(flags)
            if flags:
                raise OSError(errno.EOPNOTSUPP, "not supported")
            return pwritev(fd, parts, offset)

        monkeypatch.setattr(os, "pwritev", older)
        assert written(SystemDisk(), tmp_path / "file") == bytes(2) + WHOLE
        assert asked[-1] == 0

    def test_a_full_disk_is_not_asked_twice(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Only the flag can be left out."""
        asked: list[int] = []

        def full(fd: int, parts: Sequence[memoryview], offset: int, flags: int = 0) -> int:
            asked.append(flags)
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "pwritev", full)
        with pytest.raises(OSError, match="No space"):
            written(SystemDisk(), tmp_path / "file")
        assert len(asked) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no free space of an open file there")
def test_parts_take_nothing_from_the_reserve(tmp_path: Path) -> None:
    """They count together."""
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    assert written(ReservingDisk(free // 2), tmp_path / "some") == bytes(2) + WHOLE
    with pytest.raises(OSError, match="are kept for what cannot wait"):
        written(ReservingDisk(2 * free), tmp_path / "none")
