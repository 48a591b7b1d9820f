"""Ways to die, drawn from a seed; none of them knows who dies.

| way | what happens |
|---|---|
| kill | ``kill -9`` after a time |
| kill-at | killed when a thread begins its n-th call of a kind: the call is not executed |
| kill-after | killed when that call has been executed, and has not returned yet |
| fail | that call is not executed and fails with EIO or ENOSPC |
| fail-on | so does every one after it: a disk that is full, or gone |
| fail-stored | that call is executed and then fails (warm processes only) |
| stop | SIGTERM, for comparison |

Power cuts are no death of a process: see ``cuts``.
"""

from __future__ import annotations

import random  # noqa: TID251 - passed in, seeded
from dataclasses import dataclass
from typing import Final, Literal

Way = Literal["kill", "kill-at", "kill-after", "fail", "fail-on", "fail-stored", "stop"]
Phase = Literal["start", "serving"]

GROUPS: Final[dict[str, tuple[tuple[str, ...], int]]] = {
    "pwrite": (("pwrite64", "pwritev", "pwritev2"), 50),
    "write": (("write", "writev", "sendto", "sendmsg"), 60),
    "fdatasync": (("fdatasync",), 25),
    "fsync": (("fsync",), 30),
    "rename": (("rename", "renameat", "renameat2"), 6),
    "openat": (("openat",), 20),
    "ftruncate": (("ftruncate",), 2),
    "close": (("close",), 20),
    "unlink": (("unlink", "unlinkat"), 3),
    "mkdir": (("mkdir", "mkdirat"), 2),
}
"""Kinds of calls: their names, and how many of them a run may reach."""

OFTEN: Final = (*("pwrite", "fdatasync") * 3, *("fsync", "rename") * 2)
"""Kinds that are drawn more often than others: on the path to durability."""

FAILING: Final = ("pwrite", "write", "fdatasync", "fsync", "rename", "openat", "ftruncate", "close")
LASTING: Final = ("pwrite", "fdatasync", "fsync", "rename", "ftruncate", "mkdir")
"""Kinds that fail for good: not those by which clients are answered."""

STORED: Final = {"pwrite": 30, "fdatasync": 25, "fsync": 30, "rename": 6, "ftruncate": 2}
"""Kinds that ``tampering`` can let fail after their effect, and how many a run may reach."""

ERRORS: Final = ("EIO", "ENOSPC")
DELAY_US: Final = 250_000
"""How long a call that has been executed is held: long enough to be killed meanwhile."""


@dataclass(frozen=True, slots=True)
class Death:
    """How one life ends.

    Attributes:
        way: See the table.
        phase: From when calls are counted: from the first of the program, or once it serves.
        group: The kind of call.
        number: Which one, from 1; each thread counts its own.
        error: With what it fails.
        after_s: When to kill: seconds from the start, or from when it serves.
    """

    way: Way
    phase: Phase = "serving"
    group: str = ""
    number: int = 0
    error: str = ""
    after_s: float = 0.0

    @property
    def label(self) -> str:
        """The row of the table that it belongs to."""
        if self.way in {"kill", "stop"}:
            return f"{self.way} {'while starting' if self.phase == 'start' else 'while serving'}"
        return f"{self.way} {self.group}"

    def describe(self) -> str:
        """Everything, on one line."""
        if self.way in {"kill", "stop"}:
            return f"{self.label}, after {self.after_s:.3f} s"
        error = f" {self.error}" if self.error else ""
        return f"{self.label} {self.number}{error}, from {self.phase}"

    @property
    def injection(self) -> str | None:
        """The option for strace's ``-e inject=``, if it has a part in this."""
        action = {
            "kill-at": "signal=KILL",
            "kill-after": f"delay_exit={DELAY_US}",
            "fail": f"error={self.error}",
            "fail-on": f"error={self.error}",
        }.get(self.way)
        if action is None:
            return None
        when = f"{self.number}+" if self.way == "fail-on" else f"{self.number}"
        return f"{','.join(GROUPS[self.group][0])}:{action}:when={when}"


NAMES: Final = ("fsync", "rename")
"""Kinds between which a name is there, and not durable."""


def draw(
    chance: random.Random,
    *,
    is_warm: bool,
    serving_s: float,
    amid_names: bool = False,
    serves: bool = True,
) -> Death:
    """Some death.

    Args:
        chance: Decides.
        is_warm: Whether the process can be tampered with from inside.
        serving_s: How long the life lasts otherwise.
        amid_names: Whether it dies at a call that gives names or makes them durable.
        serves: Whether it is a service: commands only start, and end.
    """
    if amid_names:
        names_ways: tuple[Way, ...] = ("kill-at", "kill-after", "fail")
        group, way = chance.choice(NAMES), chance.choice(names_ways)
        number = max(1, round(GROUPS[group][1] ** chance.random()))
        return Death(
            way, "serving" if serves else "start", group, number, "EIO" if way == "fail" else ""
        )
    ways: list[Way] = ["kill", *("kill-at", "kill-after", "fail") * 2, "fail-on"]
    if is_warm:
        ways.append("fail-stored")
    way = chance.choice(ways)
    phase: Phase = "start" if chance.random() < 0.3 or not serves else "serving"
    if way == "kill":
        most = serving_s if phase == "serving" else 0.08 if serves else 0.4
        return Death("kill", phase, after_s=chance.uniform(0.0, most))
    limits = {name: most for name, (_, most) in GROUPS.items()}
    if way == "fail":
        limits = {name: limits[name] for name in FAILING}
    elif way == "fail-on":
        limits = {name: limits[name] for name in LASTING}
    elif way == "fail-stored":
        limits = STORED
    group = chance.choice([*limits, *OFTEN])
    # Small numbers as often as large ones: most of what happens once happens early.
    number = max(1, round(limits[group] ** chance.random()))
    error = chance.choice(ERRORS) if way.startswith("fail") else ""
    return Death(way, phase, group, number, error)
