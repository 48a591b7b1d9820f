"""Folders whose names last: those of this process, of threads of it, and of killed ones."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from bistro.errors import StorageError
from bistro.storage.blobs import BlobStore
from bistro.storage.disk import SystemDisk
from bistro.storage.durable import Folders
from tests.support.disks import FaultyDisk, How, KilledError


class Syncs(SystemDisk):
    """The real disk; which directories were synced, in order.

    Attributes:
        gate: Syncing waits for it.
    """

    def __init__(self) -> None:
        self.synced: list[Path] = []
        self.gate = threading.Event()
        self.gate.set()

    def sync_directory(self, path: Path) -> None:
        assert self.gate.wait(5)
        super().sync_directory(path)
        self.synced.append(path)


def test_a_folder_is_made_with_what_is_missing_above_and_synced_once(tmp_path: Path) -> None:
    """The base and what is above it are left alone."""
    disk = Syncs()
    folders = Folders(tmp_path, disk=disk)
    for name in ("a/b", "a/c", "a/b", "a"):
        folders.require(tmp_path / name)
    assert disk.synced == [tmp_path, tmp_path / "a", tmp_path / "a"]
    assert (tmp_path / "a" / "b").is_dir()


def test_the_name_of_a_folder_that_a_killed_process_made_is_synced(tmp_path: Path) -> None:
    """Killed between making it and syncing its name, it leaves a folder that may go."""
    with pytest.raises(KilledError):
        Folders(tmp_path, disk=FaultyDisk(at=1, how="kill")).require(tmp_path / "a")
    assert (tmp_path / "a").is_dir()
    disk = Syncs()
    Folders(tmp_path, disk=disk).require(tmp_path / "a")
    assert disk.synced == [tmp_path]


@pytest.mark.parametrize("how", ["not-stored", "stored"])
@pytest.mark.parametrize("step", [0, 1])
def test_a_folder_whose_making_failed_is_not_relied_on(tmp_path: Path, step: int, how: How) -> None:
    """Asked for again, it is made or found, and its name is synced."""
    disk = FaultyDisk(at=step, how=how)
    folders = Folders(tmp_path, disk=disk)
    with pytest.raises(StorageError):
        folders.require(tmp_path / "a")
    folders.require(tmp_path / "a")
    assert disk.calls[-1] == "sync_directory"
    assert (tmp_path / "a").is_dir()


def test_whoever_finds_a_folder_waits_until_its_name_is_durable(tmp_path: Path) -> None:
    """Another thread may have made it and not synced it yet."""
    disk = Syncs()
    disk.gate.clear()
    folders = Folders(tmp_path, disk=disk)
    done: list[int] = []

    def require() -> None:
        folders.require(tmp_path / "a")
        done.append(len(disk.synced))

    threads = [threading.Thread(target=require) for _ in range(2)]
    for thread in threads:
        thread.start()
    while not (tmp_path / "a").is_dir():
        threads[0].join(0.001)
    assert done == []
    disk.gate.set()
    for thread in threads:
        thread.join()
    assert done == [1, 1]


async def test_a_store_of_blobs_relies_on_no_folder_that_it_found(tmp_path: Path) -> None:
    """Its own, and the one of the blob, are synced before a blob is durable."""

    async def write(disk: SystemDisk) -> None:
        store = BlobStore(tmp_path / "blobs", disk=disk)
        async with store.writing("ab12") as blob:
            await blob.write(b"x")

    with pytest.raises(KilledError):
        await write(FaultyDisk(at=3, how="kill"))
    assert (tmp_path / "blobs" / "ab").is_dir()
    disk = Syncs()
    await write(disk)
    assert disk.synced == [tmp_path, tmp_path / "blobs", tmp_path / "blobs" / "ab"]
