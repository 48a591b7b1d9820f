"""Puts a generator before others on its core, where it may: being late is its only fault.

Servers keep their priority: what slows them down is shown.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

_NICE: Final = -15
_LOWEST: Final = 1
_GROUP: Final = Path("/proc/self/autogroup")


def take_precedence() -> None:
    """Come before others, for a generator that looks at its connections all the time.

    Where the kernel shares the machine among sessions first, priorities count only within one:
    so this process begins a session of its own, which gets the priority.
    """
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    if _GROUP.exists():
        with contextlib.suppress(OSError):
            os.setsid()
            _GROUP.write_text(str(_NICE), encoding="ascii")


def preempt() -> None:
    """Run at once when something is due, for a generator that sleeps in between."""
    take_precedence()
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_LOWEST))
