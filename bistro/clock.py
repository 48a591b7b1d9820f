"""The time of day, the monotonic clock, and how wrong the time of day may be.

A ledger stamps only while the error bound is known and small, so the clock carries it. On
Linux the bound is what the kernel keeps for its own clock (``adjtimex``): it grows by 0.5 ms
a second unless a time service renews it, and is unknown where none runs. An operator may
state an assumed bound for such a machine, openly, in the settings.

Source: docs/spec/ticketing.md, the batch and the clock; adjtimex(2).
"""

from __future__ import annotations

import ctypes
import sys
import time
from functools import cache
from typing import Protocol

from bistro.instant import UnixMillis

_NS_PER_MS = 1_000_000
_US_PER_MS = 1_000
_TIME_ERROR = 5
_STA_UNSYNC = 0x0040
_STA_NANO = 0x2000


class Clock(Protocol):
    """What Bistro asks of a clock; the only source of time in the project."""

    def now(self) -> UnixMillis:
        """UTC time of day."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds since an arbitrary moment; never goes back, never steps."""
        ...

    def error_bound_ms(self) -> int | None:
        """By how much ``now`` may be wrong, rounded up; ``None`` where nobody knows."""
        ...


class _Timex(ctypes.Structure):
    """``struct timex`` of Linux; the tail is room for the fields that are not read."""

    _fields_ = [  # type: ignore[mutable-override]
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("rest", ctypes.c_char * 256),
    ]


def bound_from_timex(*, state: int, status: int, max_error_us: int, offset: int) -> int | None:
    """The error bound in ms that the kernel's answer means; ``None``: not synchronised.

    Args:
        state: What ``adjtimex`` returned; 5 or below 0 is an error.
        status: The status bits; 0x40 says not synchronised, 0x2000 that ``offset`` is in ns.
        max_error_us: The kernel's bound, in microseconds.
        offset: What the kernel still has to slew away, in microseconds or nanoseconds.
    """
    if state < 0 or state == _TIME_ERROR or status & _STA_UNSYNC:
        return None
    offset_us = -(-abs(offset) // 1_000) if status & _STA_NANO else abs(offset)
    return -(-(max_error_us + offset_us) // _US_PER_MS)


@cache
def _kernel() -> ctypes.CDLL:
    """The C library; opening it costs far more than asking it."""
    return ctypes.CDLL(None)


def kernel_error_bound_ms() -> int | None:
    """The kernel's own bound; ``None`` if it is not synchronised, or not Linux."""
    if not sys.platform.startswith("linux"):
        return None
    timex = _Timex()
    state = _kernel().adjtimex(ctypes.byref(timex))
    return bound_from_timex(
        state=state,
        status=timex.status,
        max_error_us=timex.maxerror,
        offset=timex.offset,
    )


class SystemClock:
    """The clock of this machine.

    Args:
        assumed_error_ms: The bound to state where the kernel knows none; ``None``: state none.
    """

    def __init__(self, assumed_error_ms: int | None = None) -> None:
        self._assumed_error_ms = assumed_error_ms

    def now(self) -> UnixMillis:
        """UTC time of day, cut to milliseconds."""
        return UnixMillis(time.time_ns() // _NS_PER_MS)

    def monotonic_ms(self) -> int:
        """Milliseconds since the machine started, or some such moment."""
        return time.monotonic_ns() // _NS_PER_MS

    def error_bound_ms(self) -> int | None:
        """The kernel's bound, else the assumed one, else ``None``."""
        bound = kernel_error_bound_ms()
        return self._assumed_error_ms if bound is None else bound
