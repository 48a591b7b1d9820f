"""Threads that leave the core to others where there is only one.

What they do is due sometime; what the event loop and the writers of a ledger do is waited for.
"""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

NICENESS: Final = 10
"""A tenth of a core while others want it: enough for a ledger to keep up at saturation."""


def background_thread(name: str, *, niceness: int = NICENESS) -> ThreadPoolExecutor:
    """One thread of low priority, started when it is first needed."""
    return ThreadPoolExecutor(
        1, thread_name_prefix=name, initializer=stand_back, initargs=(niceness,)
    )


def stand_back(niceness: int = NICENESS) -> None:
    """Lower the priority of this thread."""
    # Where threads have no priority of their own, this one has that of all.
    if hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
