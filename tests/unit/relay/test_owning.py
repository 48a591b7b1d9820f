"""What root does in a relay's folder is done as the folder's owner."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

OTHER = 65_534
PROGRAM = """
import os, sys
from pathlib import Path
from bistro_relay.cli.owning import become_owner
os.chdir(sys.argv[1])
become_owner(Path("."))
Path("made").write_text("by a command")
print(*os.getresuid(), *os.getresgid(), os.getgroups())
"""


def made_in(folder: Path) -> str:
    """Who a command is after it has entered a folder, having written a file there."""
    arguments = [sys.executable, "-c", PROGRAM, str(folder)]
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_root_becomes_the_owner_of_the_folder_for_good(tmp_path: Path) -> None:
    """No file is left that the relay could not read, and there is no way back."""
    folder = tmp_path / "relay"
    folder.mkdir()
    os.chown(folder, OTHER, OTHER)
    ids = " ".join([str(OTHER)] * 6)
    assert made_in(folder).startswith(ids)
    assert (folder / "made").stat().st_uid == OTHER


def test_who_owns_the_folder_stays_who_he_is(tmp_path: Path) -> None:
    """Also root, of a folder that is root's."""
    assert made_in(tmp_path).startswith(" ".join([str(os.getuid())] * 3))
    assert (tmp_path / "made").stat().st_uid == os.getuid()
