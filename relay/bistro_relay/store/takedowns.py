"""Signed takedowns, one small file each, named by their SHA-256: a command writes, serve reads.

Files rather than rows, because the command is another process and the database has one only;
they stay as the trace of what was done.

Source: docs/spec/relay-life.md, takedown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bistro.crypto.digest import HASH_SIZE
from bistro.errors import StorageError
from bistro.storage.durable import (
    SYSTEM_DISK,
    Disk,
    delete_file,
    make_directories,
    read_file,
    storage_errors,
    sync_directory,
    well_formed,
    write_atomically,
)
from bistro.wire.lines import parse_hex
from bistro.wire.relay_notes import MAX_NOTE_SIZE, name_of

FOLDER: Final = "takedowns"

_SUFFIX: Final = ".note"
_NEXT: Final = f"remove that file from {FOLDER}/"


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

    def settle(self) -> None:
        """Make durable what is there: a command may have died between a name and its sync.

        Raises:
            StorageError: The names may or may not last.
        """
        for folder in (self._folder.parent, self._folder):
            sync_directory(folder, disk=self._disk)

    def names(self) -> set[bytes]:
        """The names of all that are kept.

        Raises:
            StorageError: The folder cannot be read, or a note has a name of another kind.
        """
        if not self._folder.is_dir():
            return set()
        with storage_errors("list", self._folder):
            found = [path.stem for path in self._folder.glob(f"*{_SUFFIX}")]
        with well_formed(self._folder, hint=_NEXT):
            return {parse_hex("takedown", stem, size=HASH_SIZE) for stem in found}

    def load(self, name: bytes) -> bytes | None:
        """The signed note of that name.

        Raises:
            StorageError: It cannot be read, or is another one.
        """
        path = self._path(name)
        found = read_file(path, max_size=MAX_NOTE_SIZE, disk=self._disk)
        if found is not None and name_of(found) != name:
            raise StorageError(
                f"{path}: expected a note with that hash, found {name_of(found).hex()}", hint=_NEXT
            )
        return found

    def delete(self, name: bytes) -> None:
        """Forget one, if it is there."""
        delete_file(self._path(name), disk=self._disk)

    def _path(self, name: bytes) -> Path:
        return self._folder / f"{name.hex()}{_SUFFIX}"
