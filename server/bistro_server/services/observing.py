"""What is measured of a running server: gauges that are read when asked for, and batches.

Source: docs/reference/metrics.md.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bistro.clock import Clock
from bistro.errors import BistroError, UnavailableError
from bistro.instant import UnixMillis
from bistro.ledger.sequencer import BatchReport
from bistro.storage.disk import SystemDisk
from bistro_server.metrics import ServerMetrics
from bistro_server.services.ledgers import Report
from bistro_server.services.publishing import NoticeBoard
from bistro_server.services.serving import CallsInService
from bistro_server.services.tickets import TicketDesk

CALL_STATES: Final = ("announced", "open", "closed", "opened")
_MS_PER_S: Final = 1_000


def batch_reporter(measures: ServerMetrics) -> Report:
    """What sequencers tell of their batches goes into ``measures``."""

    def report(ledger: str, batch: BatchReport) -> None:
        measures.count_batch(
            ledger,
            appended=batch.appended_count,
            duplicates=batch.duplicate_count,
            unstamped=batch.refused,
            waited_ms=batch.waited_ms,
            took_ms=batch.took_ms,
        )

    return report


class TimedDisk(SystemDisk):
    """This machine's disk, which tells how long it takes until something is durable.

    Args:
        observe: Told seconds, in the thread that waits for the disk.
    """

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe

    def sync(self, fd: int) -> None:
        """See ``Disk``."""
        began = time.perf_counter()
        super().sync(fd)
        self._observe(time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class Room:
    """Space on the disk of a folder.

    Attributes:
        root: The folder.
        min_free_bytes: Below that the disk counts as full.
    """

    root: Path
    min_free_bytes: int

    def free_bytes(self) -> int:
        """What is free now."""
        return shutil.disk_usage(self.root).free

    def require(self) -> None:
        """Accept a disk with enough room.

        Raises:
            UnavailableError: It counts as full.
        """
        if (free := self.free_bytes()) < self.min_free_bytes:
            raise UnavailableError(
                f"disk: expected at least {self.min_free_bytes} free bytes, found {free}",
                hint="free some space",
            )


@dataclass(frozen=True, slots=True)
class Observed:
    """What gauges look at.

    Attributes:
        calls: All calls, and whether they take entries.
        notices: Knows in which state a call is.
        tickets: Knows who waits.
        clock: Stamps.
        error_limit_ms: The largest clock error with which to stamp.
        room: Space on the disk.
        ends: When the certificates in use end, by what they are for: ``tls``, ``tsa``.
    """

    calls: CallsInService
    notices: NoticeBoard
    tickets: TicketDesk
    clock: Clock
    error_limit_ms: int
    room: Room
    ends: Mapping[str, Callable[[], UnixMillis]]

    def attach(self, measures: ServerMetrics) -> None:
        """Let gauges be read from now on."""
        measures.waiting.set_function(lambda: self.tickets.waiting_count)
        for state in CALL_STATES:
            measures.calls.labels(state).set_function(partial(self._count, state))
        measures.ready.set_function(self._is_ready)
        measures.clock_bound.set_function(self._bound_s)
        measures.clock_limit.set(self.error_limit_ms / _MS_PER_S)
        measures.clock_step.set_function(_step_s(self.clock))
        measures.disk_free.set_function(self.room.free_bytes)
        measures.disk_limit.set(self.room.min_free_bytes)
        for use, ends in self.ends.items():
            measures.certificate_ends.labels(use).set_function(_in_seconds(ends))

    def _count(self, state: str) -> int:
        return sum(self.notices.state(ledgers) == state for ledgers in self.calls)

    def _bound_s(self) -> float:
        bound = self.clock.error_bound_ms()
        return -1 if bound is None else bound / _MS_PER_S

    def _is_ready(self) -> int:
        try:
            self.calls.require_ready()
            self.room.require()
        except BistroError:
            return 0
        return 1


def _in_seconds(time: Callable[[], UnixMillis]) -> Callable[[], float]:
    return lambda: time() / _MS_PER_S


def _step_s(clock: Clock) -> Callable[[], float]:
    """By how much the clock has been set since now."""
    offset_ms = clock.now() - clock.monotonic_ms()
    return lambda: (clock.now() - clock.monotonic_ms() - offset_ms) / _MS_PER_S
