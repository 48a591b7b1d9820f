"""A relay whose disk fails, so that the kernel stops writing to it.

Needs the right to mount a file system that lies in a file; skipped without.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bistro.errors import StorageError
from tests.support.paper import Sealed
from tests.support.relays import allowed_relay, serving_relay
from tests.support.small_fragments import fetched, line_to, receipt_of, staging

SIZE_BYTES = 268_435_456


def _tried(*command: str) -> str:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip(f"{command[0]} is missing")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    return done.stdout.strip()


class Disk:
    """A real ext4 that turns read-only, and is mended again.

    Attributes:
        folder: Where it is mounted.
    """

    def __init__(self, image: Path, folder: Path) -> None:
        self._image = image
        self.folder = folder
        folder.mkdir()
        with image.open("wb") as file:
            file.truncate(SIZE_BYTES)
        _tried("mkfs.ext4", "-q", "-F", str(image))
        self._mount()

    def _mount(self) -> None:
        _tried("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.folder))

    def settle(self) -> None:
        """Keep for good what stands there now, as what a test writes by itself does not."""
        subprocess.run(["sync", "-f", str(self.folder)], check=True)

    def fail(self) -> None:
        """What an I/O error of the medium does."""
        device = Path(_tried("findmnt", "-no", "SOURCE", str(self.folder))).name
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("1")

    def mend(self) -> None:
        """As an administrator does."""
        self.end()
        subprocess.run(["fsck.ext4", "-fy", str(self._image)], check=False, capture_output=True)
        self._mount()

    def end(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path / "image", tmp_path / "disk")
    yield found
    found.end()


def are_of_the_store(error: BaseException | None) -> bool:
    """Whether only the disk has failed: perhaps several parts have met it."""
    if isinstance(error, BaseExceptionGroup):
        return all(are_of_the_store(one) for one in error.exceptions)
    return isinstance(error, StorageError)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("size", [1_000, 3_000_000])
async def test_a_read_only_file_system_is_answered_and_stops_the_relay(
    disk: Disk, size: int
) -> None:
    """With 500 and the reason; no start until it is mended; then all that was promised is held."""
    held, late = Sealed(1, size=size), Sealed(2, size=size)
    async with allowed_relay(disk.folder / "relay") as (settings, call):
        disk.settle()
        with contextlib.suppress(StorageError):  # its database cannot be closed in order
            async with serving_relay(settings) as relay:
                line = await line_to(relay)
                promised = receipt_of((await line.ask(staging(call, held))).fields)
                disk.fail()
                answer = await line.ask(staging(call, late))
                assert answer.status == 500
                assert json.loads(answer.body)["code"] == "storage"
                await asyncio.wait({relay.task})
                line.close()
        assert are_of_the_store(relay.task.exception())
        with pytest.raises(StorageError, match="Read-only file system") as refused:
            async with serving_relay(settings):
                pass
        assert "mount it for writing" in refused.value.hint
        disk.mend()
        async with serving_relay(settings) as relay:
            line = await line_to(relay)
            again = await line.ask(staging(call, held))
            assert receipt_of(again.fields).entry == promised.entry
            assert (await line.ask(staging(call, late))).status == 201
            assert await fetched(relay, call, [held]) == [held.fragment(0)]
            line.close()
