"""Merging runs of the duplicate index in the background, politely.

Sixteen neighbouring runs of a size become one, so a key is written again once for every power
of sixteen. A crash at any moment leaves the runs, the merged one, or both: what is covered by a
larger run is deleted at the next start.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from bistro.errors import BistroError, StorageError, UnavailableError
from bistro.ledger.runs import Run
from bistro.storage.background import stand_back
from bistro.storage.durable import waiting_for_room

FAN_IN: Final = 16

_SMALLEST: Final = 256
_REST_PER_WORK: Final = 3
"""Times as long as it worked a merge waits: tickets come first, ..."""

_MANY_RUNS: Final = 64
"""... unless there are so many runs: each is an open file, and is asked for duplicates."""


class _StoppedError(Exception):
    """The index is being closed."""


def level_of(run: Run) -> int:
    """How many times as large as the smallest a run is, as a power of sixteen."""
    return (max(run.count, run.end - run.start) // _SMALLEST).bit_length() // 4


def is_mergeable(runs: Sequence[Run]) -> list[Run]:
    """The oldest sixteen neighbours of the lowest level that has so many; or none.

    A run that a larger one follows counts as one of that level: else it would stay for ever.
    """
    group: list[Run] = []
    level = -1
    for run in reversed(runs):
        if level_of(run) > level:
            if len(group) >= FAN_IN:
                break
            group, level = [], level_of(run)
        group.insert(0, run)
    return group[:FAN_IN] if len(group) >= FAN_IN else []


class Merger:
    """A thread that merges while there is something to merge.

    Args:
        merge_next: Merges one group and says whether there was one; it calls its argument
            between two steps.
    """

    def __init__(self, merge_next: Callable[[Callable[[], None]], bool]) -> None:
        self._merge_next = merge_next
        self._thread: threading.Thread | None = None
        self._is_due = threading.Event()
        self._is_stopped = threading.Event()
        self._failure: str | None = None
        self._worked_from = 0.0
        self._is_polite = True

    def wake(self, run_count: int) -> None:
        """Let the thread look; it is started when it is first needed."""
        self._is_polite = run_count < _MANY_RUNS
        self._is_due.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="merging", daemon=True)
            self._thread.start()

    def require_running(self) -> None:
        """Accept an index whose runs do not grow in number for ever.

        Raises:
            StorageError: Merging has failed.
        """
        if self._failure is not None:
            raise StorageError(f"duplicate index: {self._failure}")

    def _run(self) -> None:
        stand_back()
        try:
            while not self._is_stopped.is_set():
                self._is_due.wait()
                self._is_due.clear()
                self._worked_from = time.thread_time()
                # A full disk ends nothing: the next run that is added wakes this again.
                with suppress(UnavailableError), waiting_for_room("duplicate index"):
                    while not self._is_stopped.is_set() and self._merge_next(self._between):
                        pass
        except _StoppedError:
            pass
        except BistroError as exc:
            # Whoever adds next hears it.
            self._failure = exc.message
        except BaseException as exc:
            self._failure = str(exc) or type(exc).__name__
            raise

    def _between(self) -> None:
        worked_s = time.thread_time() - self._worked_from
        if self._is_stopped.wait(worked_s * _REST_PER_WORK * self._is_polite):
            raise _StoppedError
        self._worked_from = time.thread_time()

    def close(self) -> None:
        """Stop the thread; a merge under way is given up."""
        self._is_stopped.set()
        self._is_due.set()
        if self._thread is not None:
            self._thread.join()
