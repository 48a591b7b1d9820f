"""The one-writer lock."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bistro.errors import StorageError, UnavailableError
from bistro.storage.locks import FileLock

HOLDER = """
import sys, pathlib
from bistro.storage.locks import FileLock
lock = FileLock.take(pathlib.Path(sys.argv[1]), what="the ledger")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_holder_is_refused_also_in_one_process(tmp_path: Path) -> None:
    """The message names what is locked and who holds it; giving back frees it."""
    lock = FileLock.take(tmp_path / "lock", what="ledger x")
    with pytest.raises(UnavailableError, match=r"ledger x .*process id \d+"):
        FileLock.take(tmp_path / "lock", what="ledger x")
    lock.release()
    lock.release()
    FileLock.take(tmp_path / "lock", what="ledger x").release()


def test_the_lock_ends_with_its_holder_however_it_ends(tmp_path: Path) -> None:
    """Nothing stale is left by ``kill -9``."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(UnavailableError, match=f"process id {holder.pid}"):
            FileLock.take(tmp_path / "lock", what="the ledger")
        holder.kill()
        holder.wait(10)
    FileLock.take(tmp_path / "lock", what="the ledger").release()


def test_a_lock_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    """For example where the folder is missing."""
    with pytest.raises(StorageError, match="open"):
        FileLock.take(tmp_path / "no" / "lock", what="x")


def test_a_disk_that_fails_at_the_end_is_named_and_the_lock_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no bug: the message says which file, and a second call does nothing."""
    lock = FileLock.take(tmp_path / "lock", what="x")
    close = os.close

    def failing(fd: int) -> None:
        close(fd)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", failing)
        with pytest.raises(StorageError, match=r"close .*lock: Input/output error"):
            lock.release()
    lock.release()
    FileLock.take(tmp_path / "lock", what="x").release()


def test_a_lock_that_the_system_cannot_give_is_held_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other process is blamed, and no file stays open."""

    def failing(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    open_before = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", failing)
        with pytest.raises(StorageError, match=r"lock .*No locks available"):
            FileLock.take(tmp_path / "lock", what="x")
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before
    FileLock.take(tmp_path / "lock", what="x").release()


def test_a_full_disk_does_not_keep_a_lock_from_its_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number in it is for people only; without it the lock holds all the same."""

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        lock = FileLock.take(tmp_path / "lock", what="x")
    with pytest.raises(UnavailableError, match="process id unknown"):
        FileLock.take(tmp_path / "lock", what="x")
    lock.release()
