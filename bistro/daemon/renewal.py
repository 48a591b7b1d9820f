"""Certificates that are replaced while a daemon runs: noticed, read, and used from then on.

A certificate and its key are two files, and cannot be replaced at once. So files are read only
when they have stayed as they are from one look to the next; and what cannot be used changes
nothing: the daemon goes on with what it has.

Source: docs/spec/api.md, rules for all routes; docs/spec/timestamps.md, key and certificate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

from bistro.daemon import logs
from bistro.errors import BistroError

POLL_S: Final = 2.0
"""Pause between two looks: what was replaced is in use within two of them."""

T = TypeVar("T")

_State = tuple[tuple[int, int, int] | None, ...]

_log = logs.get_logger("renewal")


class Renewal(Generic[T]):
    """Files that are read again when they were replaced.

    Made before they are read for the first time, so that no change is missed.

    Args:
        paths: The files; that one is missing may be right.
        load: Reads them; blocks; raises a ``BistroError`` where they cannot be used.
    """

    def __init__(self, paths: Sequence[Path], load: Callable[[], T]) -> None:
        self._paths = tuple(paths)
        self._load = load
        self._tried = self._seen = self._look()

    def _look(self) -> _State:
        return tuple(map(_state, self._paths))

    async def run(self, take: Callable[[T], None]) -> None:
        """Hand over what was replaced, until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                found = await self.step()
            except BistroError as exc:
                _log.warning("certificate_refused", message=exc.message, hint=exc.hint)
                continue
            if found is not None:
                take(found)
                _log.info("certificate_renewed")

    async def step(self) -> T | None:
        """What was replaced before the last step, and stayed; ``None`` where nothing was.

        Raises:
            BistroError: It cannot be used; said once for each state of the files.
        """
        seen = await asyncio.to_thread(self._look)
        is_settled, self._seen = seen == self._seen, seen
        if not is_settled or seen == self._tried:
            return None
        self._tried = seen
        return await asyncio.to_thread(self._load)


def _state(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does; ``None`` where none can be seen."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
