"""Durable files: every step fails twice, not stored and stored, and nothing half is ever seen."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bistro.errors import StorageError, UnknownObjectError
from bistro.storage.disk import SystemDisk
from bistro.storage.durable import (
    AppendFile,
    ReadFile,
    delete_file,
    make_directories,
    read_file,
    sync_directory,
    write_atomically,
)
from tests.support.disks import FaultyDisk, How, KilledError

STEPS = ["write", "sync", "rename", "sync_directory"]


def test_a_replacement_syncs_data_before_the_name_and_the_name_before_returning(
    tmp_path: Path,
) -> None:
    """The one order in which a power cut at any moment leaves old or new, whole."""
    disk = FaultyDisk()
    write_atomically(tmp_path / "a", b"new", disk=disk)
    assert disk.calls == STEPS
    assert read_file(tmp_path / "a", max_size=3) == b"new"


@pytest.mark.parametrize("how", ["not-stored", "stored", "kill"])
@pytest.mark.parametrize("step", range(len(STEPS)))
def test_a_failed_replacement_leaves_the_old_or_the_new_whole(
    tmp_path: Path, step: int, how: How
) -> None:
    """The caller hears of it, and no reader ever sees less than one of the two."""
    path = tmp_path / "a"
    path.write_bytes(b"old content")
    with pytest.raises((StorageError, KilledError)):
        write_atomically(path, b"new", disk=FaultyDisk(at=step, how=how))
    assert path.read_bytes() in {b"old content", b"new"}
    if how != "kill":
        assert [child.name for child in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    """The message says what to do: free space."""
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(StorageError, match="no space left") as caught:
        write_atomically(path, b"new" * 100, disk=FaultyDisk(at=0, how="full"))
    assert "free some space" in caught.value.hint
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_name_can_be_synced_later_once_for_many_files(tmp_path: Path) -> None:
    """Publishing many tiles costs one directory sync."""
    disk = FaultyDisk()
    write_atomically(tmp_path / "a", b"1", disk=disk, sync_name=False)
    assert "sync_directory" not in disk.calls
    sync_directory(tmp_path, disk=disk)
    assert disk.calls[-1] == "sync_directory"


def test_a_file_on_disk_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    """Ledgers and envelopes are nobody else's business."""
    write_atomically(tmp_path / "a", b"1")
    assert (tmp_path / "a").stat().st_mode & 0o077 == 0


def test_reading_says_missing_and_too_long(tmp_path: Path) -> None:
    """A missing small file is ``None``; one above its limit is an error, not a prefix."""
    assert read_file(tmp_path / "a", max_size=10) is None
    (tmp_path / "a").write_bytes(b"12345")
    with pytest.raises(StorageError, match="at most 4 bytes"):
        read_file(tmp_path / "a", max_size=4)
    with pytest.raises(StorageError):
        read_file(tmp_path, max_size=4)


def test_directories_are_made_durably_and_only_where_missing(tmp_path: Path) -> None:
    """Each new name is synced in its parent; making them again changes nothing."""
    disk = FaultyDisk()
    make_directories(tmp_path / "a" / "b", disk=disk)
    assert disk.calls == ["make_directory", "sync_directory"] * 2
    make_directories(tmp_path / "a" / "b", disk=disk)
    assert len(disk.calls) == 4
    with pytest.raises(StorageError, match="make directory"):
        make_directories(tmp_path / "c", disk=FaultyDisk(at=0))


def test_a_directory_made_by_somebody_else_meanwhile_is_fine(tmp_path: Path) -> None:
    """Two processes may begin the same folder."""

    class RacingDisk(SystemDisk):
        def make_directory(self, path: Path) -> None:
            super().make_directory(path)
            super().make_directory(path)

    make_directories(tmp_path / "a", disk=RacingDisk())
    assert (tmp_path / "a").is_dir()


def test_deleting_is_durable_and_says_whether_there_was_anything(tmp_path: Path) -> None:
    """A name is gone for good when the call has returned."""
    (tmp_path / "a").write_bytes(b"1")
    disk = FaultyDisk()
    assert delete_file(tmp_path / "a", disk=disk)
    assert disk.calls == ["delete", "sync_directory"]
    assert not delete_file(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"1")
    with pytest.raises(StorageError, match="delete"):
        delete_file(tmp_path / "a", disk=FaultyDisk(at=0))


def test_appending_reads_back_and_goes_on_after_reopening(tmp_path: Path) -> None:
    """Size and content continue where they were."""
    with AppendFile.create(tmp_path / "a") as file:
        file.append(b"one")
        file.append(memoryview(b"two"))
        file.sync()
        assert (file.size, file.read(offset=1, size=4)) == (6, b"netw")
    with AppendFile.open(tmp_path / "a") as file:
        file.append(b"!")
        file.truncate(4)
        file.renew(2, 4)
        assert file.read(offset=0, size=99) == b"onet"
        assert file.read(offset=99, size=1) == b""


def test_a_short_write_is_continued(tmp_path: Path) -> None:
    """A system call may take less than it was given."""

    class ShyDisk(SystemDisk):
        def write(self, fd: int, data: bytes | memoryview, *, offset: int) -> int:
            return super().write(fd, bytes(data)[:2], offset=offset)

        def read(self, fd: int, *, offset: int, size: int) -> bytes:
            return super().read(fd, offset=offset, size=min(size, 3))

    with AppendFile.create(tmp_path / "a", disk=ShyDisk()) as file:
        file.append(b"abcdefg")
        assert file.read(offset=0, size=7) == b"abcdefg"


@pytest.mark.parametrize("how", ["not-stored", "stored"])
@pytest.mark.parametrize("action", ["append", "sync", "truncate"])
def test_after_a_failure_a_file_refuses_everything_but_closing(
    tmp_path: Path, action: str, how: How
) -> None:
    """A second sync could succeed although the first lost the data: it is never tried."""
    disk = FaultyDisk()
    file = AppendFile.create(tmp_path / "a", disk=disk)
    file.append(b"1")
    disk.fail_at(0, how)
    actions: dict[str, Callable[[], None]] = {
        "append": lambda: file.append(b"2"),
        "sync": file.sync,
        "truncate": lambda: file.truncate(0),
    }
    with pytest.raises(StorageError, match="injected"):
        actions[action]()
    count = len(disk.calls)
    for again in actions.values():
        with pytest.raises(StorageError, match="stopped, because"):
            again()
    assert len(disk.calls) == count
    file.close()
    file.close()


def test_creating_over_and_opening_nothing_are_errors(tmp_path: Path) -> None:
    """Neither makes or destroys anything."""
    (tmp_path / "a").write_bytes(b"1")
    with pytest.raises(StorageError, match="create"):
        AppendFile.create(tmp_path / "a")
    with pytest.raises(UnknownObjectError):
        AppendFile.open(tmp_path / "b")
    with pytest.raises(StorageError):
        ReadFile.open(tmp_path / "a" / "b")


def test_closing_waits_for_the_thread_that_still_writes(tmp_path: Path) -> None:
    """Else it would go on with a descriptor number that belongs to another file by then."""
    entered, leave = threading.Event(), threading.Event()

    class SlowDisk(SystemDisk):
        def write(self, fd: int, data: bytes | memoryview, *, offset: int) -> int:
            entered.set()
            leave.wait(5)
            return super().write(fd, data, offset=offset)

    file = AppendFile.create(tmp_path / "a", disk=SlowDisk())
    writer = threading.Thread(target=file.append, args=(b"data",))
    writer.start()
    entered.wait(5)
    closer = threading.Thread(target=file.close)
    closer.start()
    assert closer.is_alive()
    leave.set()
    writer.join(5)
    closer.join(5)
    assert (tmp_path / "a").read_bytes() == b"data"
    with pytest.raises(StorageError, match="closed"):
        file.append(b"more")


def test_a_failing_close_and_a_nameless_error_are_told(tmp_path: Path) -> None:
    """A foreign error never passes unchanged."""

    class BadDisk(SystemDisk):
        def close(self, fd: int) -> None:
            os.close(fd)
            raise OSError(errno.EIO, "input/output error")

        def sync_directory(self, path: Path) -> None:
            raise OSError

    with pytest.raises(StorageError, match="close"):
        AppendFile.create(tmp_path / "a", disk=BadDisk()).close()
    with pytest.raises(StorageError, match="OSError"):
        sync_directory(tmp_path, disk=BadDisk())
