"""Deletes what a killed client left unfinished: temporary files, and folders of nothing.

A file is written beside its place and renamed; whoever is killed between the two leaves the
temporary one, which nobody reads. It may hold a key, so it does not stay.

Source: docs/spec/journal.md, folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from bistro.clock import Clock
from bistro.errors import UnavailableError
from bistro.storage.durable import TEMPORARY_SUFFIX
from bistro.storage.locks import FileLock
from bistro_client.home import Folder, Home

_ABANDONED_MS: Final = 3_600_000
_NS_PER_MS: Final = 1_000_000


def sweep_folder(folder: Path) -> None:
    """Delete all temporary files of ``folder`` and below; the caller is their only writer."""
    _sweep(folder.rglob(f".*{TEMPORARY_SUFFIX}"))


def sweep_beside(path: Path) -> None:
    """Delete what was to become the file ``path``; the caller is its only writer."""
    _sweep(path.parent.glob(f".{path.name}.*{TEMPORARY_SUFFIX}"))


def _sweep(found: Iterable[Path]) -> None:
    for path in list(found):
        # What cannot be deleted now costs room and nothing else.
        with suppress(OSError):
            path.unlink()


def sweep_home(home: Home, clock: Clock) -> None:
    """Delete folders of submissions that were never begun, an hour after they were made.

    A client that was killed before its first journal has left them. A younger one may belong
    to a client that is just about to write it.
    """
    if not home.submissions.is_dir():
        return
    for path in home.submissions.iterdir():
        folder = Folder(path)
        if not folder.has_begun and _is_abandoned(path, clock):
            _delete(folder)


def _is_abandoned(path: Path, clock: Clock) -> bool:
    try:
        return clock.now() - path.stat().st_mtime_ns // _NS_PER_MS > _ABANDONED_MS
    except FileNotFoundError:
        return False


def _delete(folder: Folder) -> None:
    with suppress(UnavailableError):
        lock = FileLock.take(folder.lock, what=f"submission {folder.id}")
        try:
            if not folder.has_begun:
                shutil.rmtree(folder.path, ignore_errors=True)
        finally:
            lock.release()
