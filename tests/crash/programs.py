"""The two programs that are killed: how they are started, alone or with workers that end TLS."""

from __future__ import annotations

import abc
import asyncio
import random  # noqa: TID251 - passed in, seeded
import ssl
import sys
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Final

from tests.crash.victims import Launch
from tests.crash.workers import WORKERS, environment, kill_workers

ERROR_MS: Final = 50
"""The bound of their clocks' error."""


@dataclass(frozen=True, slots=True)
class Program:
    """A command with its settings.

    Attributes:
        name: Of the command.
        reserve: The setting of how much of a disk stays free; here none does.
    """

    name: str
    reserve: str

    @property
    def command(self) -> str:
        """The script that starts it."""
        return str(Path(sys.executable).with_name(self.name))

    def launch(self, folder: Path, log: Path, *, with_workers: bool) -> Launch:
        """``serve`` in a folder."""
        arguments = ["serve", "--dir", str(folder)]
        if not with_workers:
            return self.run(log, arguments)
        launch = self.run(log, [*arguments, "--workers", str(WORKERS)])
        prefix = self.name.replace("-", "_").upper()
        return replace(launch, environment={**launch.environment, **environment(folder, prefix)})

    def run(self, log: Path, arguments: Sequence[str]) -> Launch:
        """One of its commands, with arguments that name the folder."""
        package = self.name.replace("-", "_")
        prefix = package.upper()
        settings = {
            f"{prefix}_CLOCK__ASSUMED_ERROR_MS": str(ERROR_MS),
            f"{prefix}_{self.reserve}": "0",
            f"{prefix}_HTTP__PORT": "0",
            f"{prefix}_HTTP__GRACE_S": "0.2",
            f"{prefix}_LOG__OUTPUT_FORMAT": "json",
        }
        return Launch(
            program=f"{package}.cli:main",
            command=[self.command],
            arguments=arguments,
            environment=settings,
            log=log,
        )


RELAY: Final = Program("bistro-relay", "LIMITS__RESERVE_BYTES")
SERVER: Final = Program("bistro-server", "DISK__MIN_FREE_BYTES")


@dataclass(kw_only=True)
class ProgramStage(abc.ABC):
    """What the stages of both have in common.

    Attributes:
        program: What is started.
        setup: What is called in its processes before they begin.
        sabotage: A name of ``sabotage.SABOTAGES``, or nothing.
        killed: Workers since the last check.
        log: Of the present life.
    """

    program: ClassVar[Program]

    setup: str = ""
    sabotage: str = ""
    killed: Counter[str] = field(default_factory=Counter)
    log: Path = Path()

    @property
    @abc.abstractmethod
    def tls(self) -> ssl.SSLContext | None:
        """How clients connect where workers end TLS; ``None``: there are none."""

    @abc.abstractmethod
    def clients(self, port: int, chance: random.Random) -> Coroutine[None, None, None]:
        """Be all its clients."""

    def launch(self, folder: Path, log: Path) -> Launch:
        """As ``subjects.Stage``."""
        self.log = log
        launch = self.program.launch(folder, log, with_workers=self.tls is not None)
        return replace(launch, sabotage=self.sabotage, setup=self.setup)

    def command(self, folder: Path, log: Path, chance: random.Random) -> Launch | None:
        """As ``subjects.Stage``."""
        arguments = self.arguments(folder, chance)
        if arguments is None:
            return None
        return replace(self.program.run(log, arguments), setup=self.setup)

    @abc.abstractmethod
    def arguments(self, folder: Path, chance: random.Random) -> list[str] | None:
        """Those of a command that its operator gives now; ``None``: none."""

    @abc.abstractmethod
    def command_ended(self, status: int) -> None:
        """As ``subjects.Stage``."""

    async def load(self, port: int, chance: random.Random) -> None:
        """Its clients; where workers end TLS, they are killed meanwhile."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.clients(port, chance))
            if self.tls is not None:
                killing = kill_workers(self.log, random.Random(chance.random()), self.killed)
                group.create_task(killing)
