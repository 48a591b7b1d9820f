"""Puts a generator before others on its core, where it may: being late is its only fault.

Servers keep their priority: what slows them down is shown.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

_NICE: Final = -15
_LOWEST: Final = 1


def take_precedence() -> None:
    """Come before others, for a generator that looks at its connections all the time."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)


def preempt() -> None:
    """Run at once when something is due, for a generator that sleeps in between."""
    take_precedence()
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_LOWEST))
