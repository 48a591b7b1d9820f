"""Sealing: true to the files, durable before it counts, and nothing left behind if it fails."""

from __future__ import annotations

import base64
import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bistro.crypto.sealing import Opener
from bistro.errors import ConflictError, LimitExceededError, SettingsError, StorageError
from bistro.protocol.archive import ArchiveReader, FileData, FileEnd, ManifestRead
from bistro.protocol.fragmenting import StripeReader
from bistro.protocol.submission import Sealed, SubmissionState
from bistro.wire.clauses import Spread
from bistro_client.fragments import open_fragment
from bistro_client.home import Folder
from bistro_client.listening import Silent, Task
from bistro_client.sealing import Stopped, Watch
from tests.support.disks import FaultyDisk, How, PartingDisk
from tests.unit.client.test_gathering import as_nobody
from tests.unit.client.worlds import World, sealed_of, world


def restore(folder: Folder, sealed: Sealed, use: tuple[int, ...]) -> dict[str, bytes]:
    """The files of a filing, from these fragments of the spool and the file key."""
    layout = sealed.cut.layout
    reader = StripeReader(k=layout.k, n=layout.n, envelope_size=layout.envelope_size)
    opener = Opener.with_file_key(base64.b64decode(folder.file_key.read_bytes()))
    archive = ArchiveReader(files_limit=100, size_limit=2**30)
    events = []
    fragments, at = {index: open_fragment(folder, layout, index) for index in use}, 0
    while size := reader.next_size:
        pieces = {index: one.read(offset=at, size=size) for index, one in fragments.items()}
        events += archive.feed(opener.feed(reader.feed(pieces)))
        at += size
    events += archive.feed(opener.finish())
    archive.finish()
    for one in fragments.values():
        one.close()
    files: dict[str, bytes] = {}
    data = b""
    for event in events:
        if isinstance(event, FileData):
            data += event.data
        if isinstance(event, FileEnd):
            files[event.file.path], data = data, b""
        if isinstance(event, ManifestRead):
            assert event.manifest.encode() == folder.manifest.read_bytes()
    return files


@pytest.mark.parametrize("use", [(0, 1), (1, 2)])
async def test_any_k_fragments_give_the_files_back(tmp_path: Path, use: tuple[int, ...]) -> None:
    """What lies in the spool is the filing, whole."""
    async with world(tmp_path) as w:
        files = w.files(0, 2_000, 1_300_000)
        done = await w.submitter().submit(w.wish(files, form="permit-7"))
        found = restore(w.only_folder(), sealed_of(done), use)
        assert found == {f"filing/{path.name}": path.read_bytes() for path in files.iterdir()}
        assert b'"form":"permit-7"' in w.only_folder().manifest.read_bytes()


async def test_padding_and_copies_are_sealed_too(tmp_path: Path) -> None:
    """With k = 1 all fragments are one file: nothing is copied."""
    async with world(tmp_path, spread=Spread(1, 2)) as w:
        done = await w.submitter().submit(w.wish(w.files(100_000)))
        assert [path.name for path in w.only_folder().spool.iterdir()] == ["0.fragment"]
        assert len(restore(w.only_folder(), sealed_of(done), (1,))) == 1


class Meddler(Silent):
    """Calls ``change`` at the first bytes that are read, or when reading begins."""

    def __init__(self, change: Callable[[], object], *, is_early: bool = False) -> None:
        self.change: Callable[[], object] | None = change
        self.is_early = is_early

    def begin(self, task: Task, total: int) -> None:
        if task is Task.SEALING and self.is_early:
            self.meddle()

    def advance(self, task: Task, size: int) -> None:
        if task is Task.SEALING:
            self.meddle()

    def meddle(self) -> None:
        change, self.change = self.change, None
        if change is not None:
            change()


@pytest.mark.parametrize("is_early", [True, False])
@pytest.mark.parametrize("how", ["grown", "cut", "other"])
async def test_a_file_that_changes_while_it_is_read_ends_the_submission(
    tmp_path: Path, *, how: str, is_early: bool
) -> None:
    """Exit 3, the file is named, nothing was promised and nothing is kept.

    A change of the same size before the file is opened is no change: it is filed as it is read.
    """
    async with world(tmp_path) as w:
        path = w.files(2_500_000) / "report-0.pdf"
        os.utime(path, ns=(1, 1))
        data = path.read_bytes()
        new = {"grown": data + b"x", "cut": data[:-1], "other": b"x" + data[1:]}[how]
        meddler = Meddler(lambda: path.write_bytes(new), is_early=is_early)
        submitting = w.submitter(listener=meddler).submit(w.wish(w.root / "filing"))
        if is_early and how == "other":
            done = await submitting
            found = restore(w.only_folder(), sealed_of(done), (0, 1))
            assert found == {"filing/report-0.pdf": new}
            return
        with pytest.raises(ConflictError, match=r"report-0\.pdf.*changed while it was read"):
            await submitting
        require_nothing_kept(w)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes among files")
@pytest.mark.parametrize("how", ["link", "pipe"])
async def test_what_takes_a_files_place_is_not_filed(tmp_path: Path, how: str) -> None:
    """Others may write to the folder: a link leads anywhere, a pipe never ends."""
    async with world(tmp_path) as w:
        path = w.files(5_000) / "report-0.pdf"
        secret = tmp_path / "secret"
        secret.write_bytes(bytes(5_000))

        def swap() -> None:
            path.unlink()
            if how == "link":
                path.symlink_to(secret)
            else:
                os.mkfifo(path)

        meddler = Meddler(swap, is_early=True)
        said = {"link": "it is a link now", "pipe": "it is no file any more"}[how]
        with pytest.raises(ConflictError, match=rf"report-0\.pdf.*{said}"):
            await w.submitter(listener=meddler).submit(w.wish(w.root / "filing"))
        require_nothing_kept(w)


async def test_a_link_that_was_named_is_followed(tmp_path: Path) -> None:
    """Whoever names it means what it leads to."""
    async with world(tmp_path) as w:
        path = w.files(5_000) / "report-0.pdf"
        link = tmp_path / "named.pdf"
        link.symlink_to(path)
        done = await w.submitter().submit(w.wish(link))
        found = restore(w.only_folder(), sealed_of(done), (0, 1))
        assert found == {"named.pdf": path.read_bytes()}


async def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    """Exit 2, and nothing is kept."""
    async with world(tmp_path) as w:
        path = w.files(5_000) / "report-0.pdf"
        meddler = Meddler(path.unlink, is_early=True)
        with pytest.raises(SettingsError, match=r"report-0\.pdf: the file was there and is gone"):
            await w.submitter(listener=meddler).submit(w.wish(w.root / "filing"))
        require_nothing_kept(w)


async def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """Exit 2, and nothing is kept."""
    with as_nobody() as open_folder:
        async with world(open_folder) as w:
            path = w.files(5_000) / "report-0.pdf"
            path.chmod(0)
            with pytest.raises(SettingsError, match=r"report-0\.pdf: cannot be read: Permission"):
                await w.submitter().submit(w.wish(w.root / "filing"))
            require_nothing_kept(w)


def require_nothing_kept(w: World) -> None:
    assert w.home.folders() == []
    assert list(w.home.submissions.iterdir()) == []
    assert not [one for one in w.wire.asked if one.endswith("/tickets")]


class FullDisk(PartingDisk):
    """A disk on which fragments find no room after so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.spooled: set[int] = set()

    def open(self, path: Path, flags: int) -> int:
        fd = super().open(path, flags)
        if path.suffix == ".fragment":
            self.spooled.add(fd)
        return fd

    def write(self, fd: int, data: bytes | memoryview, *, offset: int) -> int:
        if fd in self.spooled and offset + len(data) > self.room:
            raise OSError(28, "No space left on device")
        return super().write(fd, data, offset=offset)

    def close(self, fd: int) -> None:
        self.spooled.discard(fd)
        super().close(fd)


async def test_a_disk_that_fills_while_sealing_loses_nothing(tmp_path: Path) -> None:
    """Exit 1 with what to do; the half is deleted, the same command works once there is room."""
    async with world(tmp_path) as w:
        with pytest.raises(StorageError, match="No space left") as caught:
            await w.submitter(disk=FullDisk(100_000)).submit(w.wish(w.files(1_000_000)))
        assert "free some space" in caught.value.hint
        require_nothing_kept(w)
        done = await w.submitter().submit(w.wish(w.root / "filing"))
        assert done.state is SubmissionState.STAGED


async def test_a_disk_that_is_too_small_is_known_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is half written that cannot fit."""
    async with world(tmp_path) as w:
        monkeypatch.setattr("bistro_client.sealing.shutil.disk_usage", lambda _: _Usage())
        with pytest.raises(StorageError, match="1,000 are free"):
            await w.submitter().submit(w.wish())
        require_nothing_kept(w)


class _Usage:
    free = 1_000


@pytest.mark.timeout(90)
@pytest.mark.parametrize("how", ["not-stored", "stored", "full"])
async def test_every_failing_call_of_the_disk_is_survived(tmp_path: Path, how: How) -> None:
    """One call after the other fails: what was begun can be finished, with one ticket each."""
    async with world(tmp_path) as w:
        wish = w.wish(w.files(1_000))
        for at in range(1_000):
            disk = FaultyDisk(at=at, how=how)
            with contextlib.suppress(StorageError):
                await w.submitter(disk=disk).submit(wish)
            if len(disk.calls) <= at:
                break
        assert at > 30
        for folder in w.home.folders():
            done = await w.submitter().resume(folder)
            assert done.state is SubmissionState.STAGED
            assert not done.missing
        note = await w.destination.api.fetch_checkpoint("spring")
        assert int(note.text.split(b"\n")[1]) == 1 + len(w.home.folders())


async def test_the_envelope_is_measured_before_it_is_made(tmp_path: Path) -> None:
    """Files within the limit, whose envelope is not, are refused before anything is written."""
    async with world(tmp_path, envelope_limit=6_000) as w:
        with pytest.raises(LimitExceededError, match="at most 6,000 bytes"):
            await w.submitter().submit(w.wish(w.files(5_500)))
        require_nothing_kept(w)


async def test_sealing_can_be_stopped(tmp_path: Path) -> None:
    """A thread at work looks whether anybody still wants the result."""
    stop = threading.Event()
    watch = Watch(stop=stop)
    watch.done(Task.SEALING, 1)
    stop.set()
    with pytest.raises(Stopped):
        watch.done(Task.SEALING, 1)
