"""Lets one call of a program fail after its effect, from inside the program.

strace can let a call fail instead of executing it, but not after. So this replaces what
Python code calls; what SQLite calls from C is not reached.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

_FUNCTIONS: Final = {
    "pwrite": ("pwrite", "pwritev"),
    "fdatasync": ("fdatasync",),
    "fsync": ("fsync",),
    "rename": ("rename", "replace"),
    "ftruncate": ("ftruncate", "truncate"),
}


@dataclass(frozen=True, slots=True)
class Tampering:
    """One call fails after its effect.

    Attributes:
        group: A kind of calls, as in ``deaths.STORED``.
        number: Which one, from 1, counted over all threads.
        error: ``EIO`` or ``ENOSPC``.
        mark: A file that is made when it happens.
    """

    group: str
    number: int
    error: str
    mark: str

    def facts(self) -> dict[str, object]:
        """What a ``warm.Order`` takes."""
        return asdict(self)

    def install(self) -> None:
        """Replace the functions of ``os``, for this process."""
        counting, count = threading.Lock(), 0

        def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal count
                result = function(*arguments, **named)
                with counting:
                    count += 1
                    is_hit = count == self.number
                if is_hit:
                    os.close(os.open(self.mark, os.O_WRONLY | os.O_CREAT, 0o600))
                    raise OSError(getattr(errno, self.error), f"injected: {self.group}, stored")
                return result

            return call

        for name in _FUNCTIONS[self.group]:
            setattr(os, name, wrapped(getattr(os, name)))
