"""A relay: how it is started, loaded, and checked afterwards."""

from __future__ import annotations

import random  # noqa: TID251 - passed in, seeded
import re
import ssl
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from bistro.errors import BistroError
from bistro.wire.checkpoint import Checkpoint
from tests.crash.programs import RELAY, ProgramStage
from tests.crash.relays.checking import RelayCheck
from tests.crash.relays.custody import CustodyCheck, read_entries
from tests.crash.relays.filing import Filers
from tests.crash.relays.memory import RelayMemory
from tests.crash.relays.town import Fragment, Key, Town
from tests.crash.subjects import Findings, shortened
from tests.crash.workers import SERVING_S, wait_for_workers
from tests.support.paper import HOUR_MS, PaperCall

_EXTENDED: Final = 0.25


@dataclass
class RelayStage(ProgramStage):
    """A relay and what its clients know; made by ``RelaySubject.prepare``.

    Attributes:
        call: The call whose fragments it takes.
        filers: They load it.
        chance: Decides what happens between lives.
        gone: Fragments that the last check found gone.
    """

    own = re.compile(rb"bistro/(receipt|held|released)/")
    at_rest_share = 1.0
    program = RELAY

    town: Town
    call: PaperCall
    filers: Filers
    chance: random.Random
    gone: set[Key] = field(default_factory=set)
    _verified: dict[str, Checkpoint] = field(default_factory=dict)

    @property
    def _memory(self) -> RelayMemory:
        return self.filers.clients.memory

    @property
    def promise_count(self) -> int:
        """Receipts, offsets, ends, releases and rows."""
        return self._memory.count

    @property
    def tls(self) -> ssl.SSLContext | None:
        """As its clients have it."""
        return self.filers.clients.tls

    @property
    def serving_s(self) -> tuple[float, float]:
        """Long enough for a segment to fill, where sizes are small."""
        return (0.05, 0.7) if self.tls is None else SERVING_S

    def at_cut(self, sent: Mapping[int, int]) -> RelayStage:
        """As ``subjects.Stage``."""
        clients = replace(self.filers.clients, memory=self._memory.until(sent))
        return replace(self, filers=replace(self.filers, clients=clients))

    def begin_life(self, folder: Path) -> None:
        """Sometimes the call's terms have been extended meanwhile: all holds become longer."""
        self._memory.life += 1
        if self.chance.random() < _EXTENDED:
            self.call.extend(HOUR_MS)
            self.town.publish(self.call)

    def clients(self, port: int, chance: random.Random) -> Coroutine[None, None, None]:
        """Two to six filers and a destination."""
        return self.filers.run(port, chance, chance.randint(2, 6))

    async def check(self, port: int, chance: random.Random) -> Findings:
        """Ask for everything that was promised, byte for byte."""
        if self.tls is not None:
            try:
                await wait_for_workers(self.log)
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
