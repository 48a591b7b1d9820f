"""Locks that are held for one small write only, so that waiting for them is short."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bistro.errors import UnavailableError
from bistro.storage.locks import FileLock

_TRIES: Final = 50
_PAUSE_S: Final = 0.1


@contextmanager
def briefly_locked(path: Path, *, what: str) -> Iterator[None]:
    """Hold the lock file ``path`` for the block; blocks while another process has it.

    Raises:
        UnavailableError: It was held for seconds: its holder hangs.
    """
    lock = _take(path, what=what)
    try:
        yield
    finally:
        lock.release()


def _take(path: Path, *, what: str) -> FileLock:
    for _ in range(_TRIES):
        try:
            return FileLock.take(path, what=what)
        except UnavailableError:
            time.sleep(_PAUSE_S)
    return FileLock.take(path, what=what)
