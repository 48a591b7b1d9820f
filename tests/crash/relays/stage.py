"""A relay: how it is started, loaded, and checked afterwards."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - passed in, seeded
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from bistro.errors import BistroError
from bistro.wire.checkpoint import Checkpoint
from tests.crash.relays.checking import RelayCheck
from tests.crash.relays.custody import CustodyCheck, read_entries
from tests.crash.relays.filing import Filers
from tests.crash.relays.memory import RelayMemory
from tests.crash.relays.town import Fragment, Key, Town
from tests.crash.subjects import Findings
from tests.crash.victims import Launch
from tests.crash.workers import (
    SERVING_S,
    WORKERS,
    environment,
    kill_workers,
    wait_for_workers,
)
from tests.support.paper import HOUR_MS, PaperCall

PROGRAM: Final = "bistro_relay.cli:main"
_PREFIX: Final = "BISTRO_RELAY"
_COMMAND: Final = str(Path(sys.executable).with_name("bistro-relay"))
_ENVIRONMENT: Final = {
    "BISTRO_RELAY_CLOCK__ASSUMED_ERROR_MS": "50",
    "BISTRO_RELAY_LIMITS__RESERVE_BYTES": "0",
    "BISTRO_RELAY_HTTP__PORT": "0",
    "BISTRO_RELAY_HTTP__GRACE_S": "0.2",
    "BISTRO_RELAY_LOG__OUTPUT_FORMAT": "json",
}
_EXTENDED: Final = 0.25
_ENOUGH: Final = 8


@dataclass
class RelayStage:
    """A relay and what its clients know; made by ``RelaySubject.prepare``.

    Attributes:
        call: The call whose fragments it takes.
        filers: They load it.
        chance: Decides what happens between lives.
        setup: What is called in its processes before they begin.
        gone: Fragments that the last check found gone.
        killed: Workers since the last check.
    """

    own = re.compile(rb"bistro/(receipt|held|released)/")
    at_rest_share = 1.0

    town: Town
    call: PaperCall
    filers: Filers
    chance: random.Random
    setup: str = ""
    sabotage: str = ""
    gone: set[Key] = field(default_factory=set)
    killed: Counter[str] = field(default_factory=Counter)
    _log: Path = Path()
    _verified: dict[str, Checkpoint] = field(default_factory=dict)

    @property
    def _memory(self) -> RelayMemory:
        return self.filers.clients.memory

    @property
    def promise_count(self) -> int:
        """Receipts, offsets, ends, releases and rows."""
        return self._memory.count

    @property
    def _has_workers(self) -> bool:
        return self.filers.clients.tls is not None

    @property
    def may_be_traced(self) -> bool:
        """What workers send is sealed: nobody else sees it leave."""
        return not self._has_workers

    @property
    def serving_s(self) -> tuple[float, float]:
        """Long enough for a segment to fill, where sizes are small."""
        return SERVING_S if self._has_workers else (0.05, 0.7)

    def at_cut(self, sent: Mapping[int, int]) -> RelayStage:
        """As ``subjects.Stage``."""
        clients = replace(self.filers.clients, memory=self._memory.until(sent))
        return replace(self, filers=replace(self.filers, clients=clients))

    def launch(self, folder: Path, log: Path) -> Launch:
        """``serve`` in a folder."""
        self._log, workers, settings = log, list[str](), _ENVIRONMENT
        if self._has_workers:
            workers = ["--workers", str(WORKERS)]
            settings = {**settings, **environment(folder, _PREFIX)}
        return Launch(
            program=PROGRAM,
            command=[_COMMAND],
            arguments=["serve", "--dir", str(folder), *workers],
            environment=settings,
            log=log,
            sabotage=self.sabotage,
            setup=self.setup,
        )

    def begin_life(self, folder: Path) -> None:
        """Sometimes the call's terms have been extended meanwhile: all holds become longer."""
        self._memory.life += 1
        if self.chance.random() < _EXTENDED:
            self.call.extend(HOUR_MS)
            self.town.publish(self.call)

    async def load(self, port: int, chance: random.Random) -> None:
        """Two to six filers and a destination; where workers end TLS, they are killed."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.filers.run(port, chance, chance.randint(2, 6)))
            if self._has_workers:
                killing = kill_workers(self._log, random.Random(chance.random()), self.killed)
                group.create_task(killing)

    async def check(self, port: int, chance: random.Random) -> Findings:
        """Ask for everything that was promised, byte for byte."""
        if self._has_workers:
            try:
                await wait_for_workers(self._log)
            except TimeoutError:
                return Findings(["its workers do not start again"])
        check = RelayCheck(self.filers.clients, chance, self._unused(chance))
        findings = await check.run(port)
        findings.counts += self.killed
        self.killed.clear()
        self.gone = check.gone
        findings.faults = shortened(findings.faults)
        return findings

    def _unused(self, chance: random.Random) -> list[Fragment]:
        """A small fragment and a large one, which the relay was never sent, if there are any."""
        asked_at = self._memory.asked_at
        return [
            chance.choice([one for one in some if one.key not in asked_at] or some)
            for some in (self.filers.small, self.filers.large)
        ]

    async def check_at_rest(self, folder: Path, *, is_full: bool) -> Findings:
        """Read the custody ledger; both kinds of checks are the same here."""
        del is_full
        try:
            entries = await read_entries(folder, self.call.origin)
        except BistroError as exc:
            return Findings([f"custody: {exc.message}"])
        check = CustodyCheck(
            folder, self.call.origin, self.call.collect_key.verifier, entries, self._verified
        )
        findings = check.run(self._memory, self.gone)
        findings.faults = shortened(findings.faults)
        return findings


def shortened(faults: list[str]) -> list[str]:
    """The first few of many."""
    rest = len(faults) - _ENOUGH
    return [*faults[:_ENOUGH], *([f"and {rest} more"] if rest > 0 else [])]
