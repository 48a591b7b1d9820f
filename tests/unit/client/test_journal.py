"""One process owns a submission; a damaged journal is no lost submission."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bistro.errors import ConflictError, SettingsError, StorageError, UnavailableError
from bistro.protocol.submission import SubmissionState
from bistro_client.discarding import discard
from bistro_client.home import Home
from bistro_client.journal import Journal, read_journal
from tests.support.disks import FaultyDisk
from tests.unit.client.worlds import ticketed, world


async def test_two_processes_do_not_work_on_one_submission(tmp_path: Path) -> None:
    """The second is told to wait; exit 5, and nothing is harmed."""
    async with world(tmp_path) as w:
        await ticketed(w)
        folder = w.only_folder()
        owner = Journal.open(folder)
        with pytest.raises(UnavailableError, match="in use by another process") as caught:
            await w.submitter().resume(folder)
        assert f"bistro resume {folder.id}" in caught.value.hint
        owner.close()
        assert (await w.submitter().resume(folder)).state is SubmissionState.STAGED


async def test_two_clients_resuming_at_once_make_one_submission(tmp_path: Path) -> None:
    """One of them works, the other one is turned away; in whatever order."""
    async with world(tmp_path) as w:
        await ticketed(w)
        folder = w.only_folder()
        results = await asyncio.gather(  # noqa: TID251 - both outcomes are wanted
            *(w.submitter().resume(folder) for _ in range(2)), return_exceptions=True
        )
        kinds = sorted(type(one).__name__ for one in results)
        assert kinds == ["Submission", "UnavailableError"]
        assert len(w.held) == 3
        assert all(len(names) == 1 for names in w.held.values())


@pytest.mark.parametrize("content", [b"", b"{", b'{"version":0}', b"\x00" * 500])
async def test_a_damaged_journal_names_the_way_back(tmp_path: Path, content: bytes) -> None:
    """Exit 1, nothing is overwritten; ``--recover`` goes on from the copy with the same bytes."""
    async with world(tmp_path) as w:
        await ticketed(w)
        folder = w.only_folder()
        before = read_journal(folder)
        folder.journal.write_bytes(content)
        for attempt in (w.submitter().resume(folder), w.submitter().look(folder)):
            with pytest.raises(StorageError, match="its journal is damaged") as caught:
                await attempt
            assert f"bistro resume {folder.id} --recover" in caught.value.hint
        assert folder.journal.read_bytes() == content
        done = await w.submitter().resume(folder, recover=True)
        assert done.state is SubmissionState.STAGED
        assert done.sealed == before.sealed
        assert done.ticket == before.ticket
        assert folder.journal.with_suffix(".damaged").read_bytes() == content


async def test_a_newer_programs_journal_is_not_damaged(tmp_path: Path) -> None:
    """It is left as it is, also by ``--recover``: an older state would replace a newer one."""
    async with world(tmp_path) as w:
        await ticketed(w)
        folder = w.only_folder()
        newer = folder.journal.read_bytes().replace(b'"version":1}', b'"version":2}')
        folder.journal.write_bytes(newer)
        for attempt in (
            w.submitter().resume(folder),
            w.submitter().look(folder),
            w.submitter().resume(folder, recover=True),
        ):
            with pytest.raises(StorageError, match="is of version 2") as caught:
                await attempt
            assert "a newer bistro wrote it" in caught.value.hint
        assert folder.journal.read_bytes() == newer


async def test_a_missing_journal_is_recovered_too(tmp_path: Path) -> None:
    """The copy beside it is enough to list the submission."""
    async with world(tmp_path) as w:
        await ticketed(w)
        folder = w.only_folder()
        folder.journal.unlink()
        with pytest.raises(StorageError, match="missing"):
            await w.submitter().resume(w.only_folder())
        done = await w.submitter().resume(folder, recover=True)
        assert done.state is SubmissionState.STAGED


async def test_a_journal_of_another_submission_is_refused(tmp_path: Path) -> None:
    """A folder that was renamed, or a file put in the wrong place."""
    async with world(tmp_path) as w:
        await w.submitter().submit(w.wish())
        folder = w.only_folder()
        moved = folder.path.with_name("2026-01-01-000000-spring-ffffff")
        folder.path.rename(moved)
        with pytest.raises(StorageError, match="expected id"):
            read_journal(w.only_folder())


async def test_without_a_copy_there_is_nothing_to_recover(tmp_path: Path) -> None:
    """It was never sealed, or both are gone: the hint says what to do."""
    async with world(tmp_path) as w:
        await ticketed(w)
        folder = w.only_folder()
        folder.sealed.write_bytes(b"{}")
        folder.journal.write_bytes(b"{}")
        with pytest.raises(StorageError, match="no copy"):
            await w.submitter().resume(folder, recover=True)
        folder.sealed.unlink()
        with pytest.raises(StorageError, match="no copy"):
            await w.submitter().resume(folder, recover=True)
        with pytest.raises(StorageError) as caught:
            await w.submitter().resume(folder)
        assert "never sealed" in caught.value.hint


async def test_a_failed_write_keeps_the_state_before(tmp_path: Path) -> None:
    """Neither the value in memory nor the next step runs ahead of the disk."""
    async with world(tmp_path) as w:
        await ticketed(w)
        disk = FaultyDisk()
        journal = Journal.open(w.only_folder(), disk=disk)
        before = journal.submission
        disk.fail_at(0, "not-stored")
        with pytest.raises(StorageError):
            await journal.change(lambda s: s.assign(0, "anna.example"))
        assert journal.submission == before
        assert read_journal(journal.folder) == before
        after = await journal.change(lambda s: s.assign(0, "anna.example"))
        assert read_journal(journal.folder) == after
        writes = len(disk.calls)
        await journal.change(lambda s: s.assign(0, "anna.example"))
        assert len(disk.calls) == writes
        journal.close()


async def test_what_was_sealed_is_never_discarded(tmp_path: Path) -> None:
    """The one function that deletes a submission refuses."""
    async with world(tmp_path) as w:
        await ticketed(w)
        journal = Journal.open(w.only_folder())
        with pytest.raises(ConflictError):
            discard(journal)
        journal.close()
        assert w.only_folder().fragment(0).exists()


def test_submissions_are_found_by_the_beginning_of_their_names(tmp_path: Path) -> None:
    """One match is enough, two are too many, none is said."""
    home = Home(tmp_path)
    for name in ("2026-a", "2026-b", "2026-ab"):
        folder = home.folder(name)
        folder.path.mkdir(parents=True)
        folder.journal.write_bytes(b"{}")
    (home.submissions / "never-begun").mkdir()
    assert [folder.id for folder in home.folders()] == ["2026-a", "2026-ab", "2026-b"]
    assert home.find("2026-b").id == "2026-b"
    assert home.find("2026-a").id == "2026-a"
    for name in ("2026", "nothing", ""):
        with pytest.raises(SettingsError):
            home.find(name)
