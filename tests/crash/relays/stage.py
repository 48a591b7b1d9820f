"""A relay: how it is started, loaded, and checked afterwards."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - passed in, seeded
import re
import ssl
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from bistro.clock import SystemClock
from bistro.errors import BistroError
from bistro.instant import MAX_INSTANT
from bistro.wire.checkpoint import Checkpoint
from tests.crash.connections import Left
from tests.crash.programs import RELAY, ProgramStage
from tests.crash.relays.checking import RelayCheck
from tests.crash.relays.custody import CustodyCheck, is_dropped, read_entries
from tests.crash.relays.filing import Filers
from tests.crash.relays.memory import RelayMemory
from tests.crash.relays.operator import Operator
from tests.crash.relays.town import Fragment, Key, Town
from tests.crash.subjects import Findings, shortened
from tests.crash.thresholds import KEPT_MS
from tests.crash.workers import SERVING_S, wait_for_workers
from tests.support.paper import HOUR_MS, PaperCall

_EXTENDED: Final = 0.25
_DROPPING_S: Final = 3.0
_LOOK_S: Final = 0.02
_MORE_MS: Final = 1_000
"""By so much terms are extended of a call that ends soon."""


@dataclass
class RelayStage(ProgramStage):
    """A relay and what its clients know; made by ``RelaySubject.prepare``.

    Attributes:
        call: The call whose fragments it takes.
        filers: They load it.
        chance: Decides what happens between lives.
        operator: Orders takedowns.
        gone: Fragments that the last check found gone.
        drops_at: When the call's ledger may be dropped; ``None``: in years.
    """

    own = re.compile(rb"bistro/(receipt|held|released)/")
    at_rest_share = 1.0
    program = RELAY

    town: Town
    call: PaperCall
    filers: Filers
    chance: random.Random
    operator: Operator
    gone: set[Key] = field(default_factory=set)
    drops_at: int | None = None
    _folder: Path = Path()
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

    def at_cut(self, left: Left) -> RelayStage:
        """As ``subjects.Stage``."""
        clients = replace(self.filers.clients, memory=self._memory.until(left))
        return replace(self, filers=replace(self.filers, clients=clients))

    def begin_life(self, folder: Path) -> None:
        """Sometimes the call's terms have been extended meanwhile: all holds become longer."""
        self._memory.life, self._folder = self._memory.life + 1, folder
        if self.chance.random() < _EXTENDED:
            is_ending = self.filers.clients.takes_until < MAX_INSTANT
            self.call.extend(_MORE_MS if is_ending else HOUR_MS)
            self.town.publish(self.call)

    def arguments(self, folder: Path, chance: random.Random) -> list[str] | None:
        """A takedown, now and then."""
        return self.operator.arguments(folder, self._memory, chance)

    def command_ended(self, status: int) -> None:
        """As ``subjects.Stage``."""
        self.operator.ended(self._memory, status)

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
        if self._may_be_dropped():
            await self._wait_for_end()
            return Findings(counts=Counter({"calls over": 1}))
        check = RelayCheck(self.filers.clients, chance, self._unused(chance))
        findings = await check.run(port)
        findings.counts += self.killed
        self.killed.clear()
        self.gone = check.gone
        findings.faults = shortened(findings.faults)
        return findings

    def _may_be_dropped(self) -> bool:
        """Whether nothing of the call need be known any more."""
        return self.drops_at is not None and SystemClock().now() > self.drops_at

    async def _wait_for_end(self) -> None:
        """Give the relay time to drop the ledger, which it does if no upload is under way."""
        give_up_at = time.monotonic() + _DROPPING_S
        while not is_dropped(self._folder, self.call.origin):
            if time.monotonic() > give_up_at:
                break
            await asyncio.sleep(_LOOK_S)

    def _unused(self, chance: random.Random) -> list[Fragment]:
        """A small fragment and a large one, which the relay was never sent, if there are any."""
        known = self._memory.asked_at.keys() | self._memory.takedown_wanted
        return [
            chance.choice([one for one in some if one.key not in known] or some)
            for some in (self.filers.small, self.filers.large)
        ]

    async def check_at_rest(self, folder: Path, *, is_full: bool) -> Findings:
        """Read the custody ledger; both kinds of checks are the same here."""
        del is_full
        if is_dropped(folder, self.call.origin):
            latest = max((one.hold_until for one in self._memory.held), default=0)
            is_early = SystemClock().now() <= latest + KEPT_MS
            fault = f"custody: dropped, and was to be held until {latest}"
            return Findings([fault] if is_early else [], Counter({"ledgers dropped": 1}))
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
