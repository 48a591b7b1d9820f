"""The machine's disk: what is written in parts lies there as one, on every kernel."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import pytest

from bistro.storage.disk import Disk, ReservingDisk, SystemDisk, read_once

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


@pytest.mark.parametrize("is_older", [False, True])
def test_what_is_read_once_is_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_older: bool
) -> None:
    """From any place, to the end, and nothing behind it; older kernels are asked in their way."""

    def older(fd: int, rooms: Sequence[memoryview], offset: int, flags: int) -> int:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    if is_older:
        monkeypatch.setattr(os, "preadv", older, raising=False)
    (tmp_path / "file").write_bytes(WHOLE)
    room = bytearray(4_000)
    with FileIO(tmp_path / "file") as stream:
        for offset, size in ((0, 4_000), (2_000, len(WHOLE) - 2_000), (len(WHOLE), 0), (1, 4_000)):
            assert read_once(stream, memoryview(room), offset=offset) == size
            assert room[:size] == WHOLE[offset : offset + size]


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    """It is not taken for a kernel that cannot."""
    with FileIO(tmp_path / "file", "wb") as stream, pytest.raises(OSError, match=r"Bad|not read"):
        read_once(stream, memoryview(bytearray(1)), offset=0)


@pytest.mark.skipif(sys.platform == "win32", reason="no free space of an open file there")
def test_parts_take_nothing_from_the_reserve(tmp_path: Path) -> None:
    """They count together."""
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    assert written(ReservingDisk(free // 2), tmp_path / "some") == bytes(2) + WHOLE
    with pytest.raises(OSError, match="are kept for what cannot wait"):
        written(ReservingDisk(2 * free), tmp_path / "none")
