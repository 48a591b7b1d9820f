"""A copy of all that cannot be made again: key, nonces, promises, evidence; no fragments.

A ZIP file, so that any system can unpack it: unpacked, it is a home (``--home DIR``). What is
sealed but not collected yet needs its fragments too, and those stay where they are.

Source: docs/spec/commands.md, keys backup; docs/spec/journal.md.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bistro.storage.durable import SYSTEM_DISK, Disk, write_atomically
from bistro_client import keyring, messages
from bistro_client.home import Home

_LEFT_OUT: Final = frozenset({".fragment", ".tmp", ".lock"})
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Backup:
    """What was written where."""

    path: Path
    file_count: int
    submission_count: int


def back_up(home: Home, target: Path, *, disk: Disk = SYSTEM_DISK) -> Backup:
    """Write a copy to ``target``, durable and readable by its owner only.

    Raises:
        SettingsError: There is no key yet, or ``target`` exists, or the system's keyring does
            not give a key.
        StorageError: It could not be written.
    """
    if not home.key_file.exists():
        raise messages.no_key(home.key_file)
    if target.exists():
        raise messages.target_exists(target)
    content = io.BytesIO()
    count = 0
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _files(home.root):
            info = zipfile.ZipInfo(path.relative_to(home.root).as_posix(), _EPOCH)
            info.external_attr = 0o600 << 16
            archive.writestr(info, _content(home, path), zipfile.ZIP_DEFLATED)
            count += 1
    write_atomically(target, content.getvalue(), disk=disk)
    return Backup(target, count, len(home.folders()))


def _content(home: Home, path: Path) -> bytes:
    """What a file holds; of a key in the system's keyring the key, or the copy would be none."""
    data = path.read_bytes()
    return keyring.private_part(data) if path.parent == home.keys else data


def _files(root: Path) -> Iterator[Path]:
    """Everything small: promises and journals, a few KB a submission."""
    for path in sorted(root.rglob("*")):
        is_left_out = path.suffix in _LEFT_OUT or path.name == "lock" or path.name.startswith(".")
        if path.is_file() and not is_left_out:
            yield path
