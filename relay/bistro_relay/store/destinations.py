"""Allowed destinations, one small file each: ``allow`` writes them, ``serve`` reads them.

Files rather than rows, because ``allow`` is another process and the database has one only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bistro.crypto.signing import VerifierKey
from bistro.errors import StorageError
from bistro.ids import MAX_HOST_NAME_LENGTH, MAX_URL_LENGTH, require_base_url, require_host_name
from bistro.instant import UnixMillis
from bistro.storage.durable import (
    SYSTEM_DISK,
    Disk,
    make_directories,
    read_file,
    storage_errors,
    well_formed,
    write_atomically,
)
from bistro.wire.document import Fields, encode_json

FOLDER: Final = "destinations"

_SUFFIX: Final = ".json"
_MAX_SIZE: Final = 4_096
_MAX_KEY_LENGTH: Final = 512
_VERSION: Final = 1

Stamp = tuple[tuple[str, int, int], ...]
"""Names, times and sizes of all files: it changes when any of them does."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A destination whose fragments are taken.

    Attributes:
        server: Its name.
        url: Where its discovery is.
        key: Its terms key when it was allowed; rotations lead on from it.
        quota_bytes: Most bytes held for it, or None: the relay's default.
        allowed_at: When it was first allowed.
    """

    server: str
    url: str
    key: VerifierKey
    quota_bytes: int | None
    allowed_at: UnixMillis

    def encode(self) -> bytes:
        """The file's content, canonical JSON."""
        return encode_json(
            {
                "version": _VERSION,
                "server": self.server,
                "url": self.url,
                "key": self.key.format(),
                "quota_bytes": self.quota_bytes,
                "allowed_at": self.allowed_at,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The destination that a file describes, or ``FormatError``."""
        fields = Fields("destination", data, max_size=_MAX_SIZE)
        fields.constant("version", _VERSION)
        found = cls(
            server=fields.text("server", MAX_HOST_NAME_LENGTH),
            url=fields.text("url", MAX_URL_LENGTH),
            key=VerifierKey.parse(fields.text("key", _MAX_KEY_LENGTH)),
            quota_bytes=fields.optional_uint("quota_bytes"),
            allowed_at=fields.instant("allowed_at"),
        )
        fields.end()
        require_host_name(found.server)
        require_base_url(found.url)
        return found


class DestinationFiles:
    """The folder of allowed destinations.

    Args:
        directory: The relay's data folder.
        disk: The system calls to use.
    """

    def __init__(self, directory: Path, *, disk: Disk = SYSTEM_DISK) -> None:
        self._folder = directory / FOLDER
        self._disk = disk

    def save(self, destination: Destination) -> None:
        """Write a destination, durably; it replaces the one of the same name."""
        make_directories(self._folder, disk=self._disk)
        write_atomically(self._path(destination.server), destination.encode(), disk=self._disk)

    def load(self, server: str) -> Destination | None:
        """The destination of that name, if it is allowed.

        Raises:
            StorageError: Its file is not one.
        """
        path = self._path(server)
        data = read_file(path, max_size=_MAX_SIZE, disk=self._disk)
        if data is None:
            return None
        with well_formed(path, hint="remove the file and allow the destination again"):
            found = Destination.decode(data)
        if found.server != server:
            raise StorageError(f"{path}: expected {server}, found {found.server}")
        return found

    def load_all(self) -> dict[str, Destination]:
        """All allowed destinations by name."""
        found = (self.load(name.removesuffix(_SUFFIX)) for name, _, _ in self.stamp())
        return {one.server: one for one in found if one is not None}

    def stamp(self) -> Stamp:
        """What tells whether anything has changed, without reading the files."""
        if not self._folder.is_dir():
            return ()
        with storage_errors("list", self._folder):
            entries = [
                (path.name, status.st_mtime_ns, status.st_size)
                for path in self._folder.glob(f"*{_SUFFIX}")
                if not path.name.startswith(".") and (status := path.stat())
            ]
        return tuple(sorted(entries))

    def _path(self, server: str) -> Path:
        require_host_name(server)
        return self._folder / f"{server}{_SUFFIX}"
