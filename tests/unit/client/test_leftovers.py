"""What a killed client leaves behind is deleted, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bistro.errors import SettingsError, UnavailableError
from bistro.storage.durable import temporary_for
from bistro_client import keyring
from bistro_client.home import Folder, Home
from bistro_client.journal import Journal
from bistro_client.leftovers import sweep_home
from tests.support.clocks import ManualClock
from tests.unit.client.worlds import world

HOUR_S = 3_600


def left(path: Path) -> Path:
    """A temporary file of somebody who was killed before its rename."""
    found = temporary_for(path)
    found.parent.mkdir(parents=True, exist_ok=True)
    found.write_bytes(b"half")
    return found


async def test_temporary_files_go_when_the_submission_is_taken_up(tmp_path: Path) -> None:
    """Beside the journal and below; what has its own name stays."""
    async with world(tmp_path) as w:
        done = await w.submitter().submit(w.wish())
        folder = w.home.folder(done.id)
        kept = sorted(path for path in folder.path.rglob("*") if path.is_file())
        for path in (folder.journal, folder.evidence, folder.receipt(0, "anna.example")):
            left(path)
        Journal.open(folder).close()
        assert sorted(path for path in folder.path.rglob("*") if path.is_file()) == kept


async def test_temporary_files_of_whoever_is_at_work_stay(tmp_path: Path) -> None:
    """A second process gets no lock, and so deletes nothing."""
    async with world(tmp_path) as w:
        done = await w.submitter().submit(w.wish())
        folder = w.home.folder(done.id)
        journal = Journal.open(folder)
        path = left(folder.journal)
        with pytest.raises(UnavailableError, match="in use"):
            Journal.open(folder)
        journal.close()
        assert path.exists()


def test_a_half_made_key_does_not_stay(tmp_path: Path) -> None:
    """A private key that nobody knows is deleted when the key is made."""
    home = Home(tmp_path)
    half = left(home.key_file)
    key = keyring.create(home.key_file)
    assert not half.exists()
    with pytest.raises(SettingsError):
        keyring.create(home.key_file)
    assert keyring.load(home.key_file).public == key.public


@pytest.mark.parametrize(("age_s", "stays"), [(HOUR_S // 2, True), (2 * HOUR_S, False)])
def test_a_folder_without_a_journal_goes_after_an_hour(
    tmp_path: Path, age_s: int, *, stays: bool
) -> None:
    """A younger one may be of somebody who is just about to write its journal."""
    clock, home = ManualClock(), Home(tmp_path)
    empty, begun = home.submissions / "empty", home.submissions / "begun"
    for path in (empty, begun):
        path.mkdir(parents=True)
    Folder(begun).journal.write_bytes(b"damaged, but a journal")
    then = clock.now() / 1_000 - age_s
    for path in (empty, begun):
        os.utime(path, (then, then))
    sweep_home(home, clock)
    assert empty.exists() is stays
    assert begun.exists()
