"""Signed takedowns, one small file each, named by their SHA-256: a command writes, serve reads.

Files rather than rows, because the command is another process and the database has one only;
they stay as the trace of what was done.

Source: docs/spec/relay-life.md, takedown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bistro.storage.durable import (
    SYSTEM_DISK,
    Disk,
    delete_file,
    make_directories,
    read_file,
    storage_errors,
    write_atomically,
)
from bistro.wire.relay_notes import MAX_NOTE_SIZE, name_of

FOLDER: Final = "takedowns"

_SUFFIX: Final = ".note"


class TakedownFiles:
    """The folder of takedowns.

    Args:
        directory: The relay's data folder.
        disk: The system calls to use.
    """

    def __init__(self, directory: Path, *, disk: Disk = SYSTEM_DISK) -> None:
        self._folder = directory / FOLDER
        self._disk = disk

    def save(self, note: bytes) -> bytes:
        """Keep a signed note, durably; its name."""
        name = name_of(note)
        make_directories(self._folder, disk=self._disk)
        write_atomically(self._path(name), note, disk=self._disk)
        return name

    def names(self) -> set[bytes]:
        """The names of all that are kept."""
        if not self._folder.is_dir():
            return set()
        with storage_errors("list", self._folder):
            found = [path.stem for path in self._folder.glob(f"[0-9a-f]*{_SUFFIX}")]
        return {bytes.fromhex(stem) for stem in found}

    def load(self, name: bytes) -> bytes | None:
        """The signed note of that name."""
        return read_file(self._path(name), max_size=MAX_NOTE_SIZE, disk=self._disk)

    def delete(self, name: bytes) -> None:
        """Forget one, if it is there."""
        delete_file(self._path(name), disk=self._disk)

    def _path(self, name: bytes) -> Path:
        return self._folder / f"{name.hex()}{_SUFFIX}"
