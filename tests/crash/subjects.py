"""What the campaign asks of whoever is killed: to be set up, loaded, and checked afterwards.

A subject knows the service, its promises and its files; the rest of the campaign knows none of
that. ``tests.crash.tickets`` is the one for ``bistro-server serve``, ``tests.crash.relays`` the
one for ``bistro-relay serve``.
"""

from __future__ import annotations

import random  # noqa: TID251 - passed in, seeded
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, Self

from tests.crash.connections import Left
from tests.crash.victims import Launch

_ENOUGH: Final = 8


@dataclass(slots=True)
class Findings:
    """What a check has found.

    Attributes:
        faults: Promises that were broken, in words.
        counts: How much of what was checked.
    """

    faults: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, other: Findings) -> None:
        """Take over what another check has found."""
        self.faults += other.faults
        self.counts += other.counts


def shortened(faults: Sequence[str]) -> list[str]:
    """The first few of many."""
    rest = len(faults) - _ENOUGH
    return [*faults[:_ENOUGH], *([f"and {rest} more"] if rest > 0 else [])]


class Stage(Protocol):
    """A service that was set up for one run."""

    @property
    def own(self) -> re.Pattern[bytes]:
        """What entries begin with that it promises; what it passes on of others is left out."""
        ...

    @property
    def serving_s(self) -> tuple[float, float]:
        """How long a life serves at least and at most."""
        ...

    @property
    def at_rest_share(self) -> float:
        """Of how many checks its disk is a part; full runs always have it."""
        ...

    @property
    def promise_count(self) -> int:
        """How many promises clients were given so far."""
        ...

    def launch(self, folder: Path, log: Path) -> Launch:
        """How to start the service in a folder."""
        ...

    def command(self, folder: Path, log: Path, chance: random.Random) -> Launch | None:
        """A command of its operator's that runs in the next life, instead of the service.

        ``None``: no life of a command comes now.
        """
        ...

    def command_ended(self, status: int) -> None:
        """How that command has ended; 0 says that what it was to do is done, and lasts."""
        ...

    def begin_life(self, folder: Path) -> None:
        """A process is about to be started in a folder: connections of the one before are gone.

        What lies there for others to read they may have read.
        """
        ...

    def at_cut(self, left: Left) -> Self:
        """The same with clients who know what they could know at a power cut.

        Args:
            left: What had left in the present life.
        """
        ...

    async def load(self, port: int, chance: random.Random) -> None:
        """Be its clients until cancelled; survives that nobody answers."""
        ...

    async def check(self, port: int, chance: random.Random) -> Findings:
        """Ask a service that was started again for everything that was promised."""
        ...

    async def check_at_rest(self, folder: Path, *, is_full: bool) -> Findings:
        """Read what it has left on its disk, when no process runs.

        Args:
            folder: The service's.
            is_full: Whether commands may be run that start from nothing.
        """
        ...


class Subject(Protocol):
    """A kind of service."""

    name: str
    modules: tuple[str, ...]
    """What a warm process imports before."""

    async def prepare(self, folder: Path, chance: random.Random, *, is_warm: bool) -> Stage:
        """Set one up in ``folder``, which does not exist.

        Args:
            folder: The service's.
            chance: Decides how.
            is_warm: Whether its processes are forked, and may be set up for short lives.
        """
        ...

    async def close(self) -> None:
        """End what was started for all runs."""
        ...
