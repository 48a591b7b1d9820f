"""A server with its calls: how it is started, loaded, and checked afterwards."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - passed in, seeded
import re
import ssl
from asyncio.subprocess import PIPE, STDOUT
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from bistro.clock import SystemClock
from bistro.crypto.signing import VerifierKey
from bistro.errors import BistroError
from bistro.wire.terms import Terms
from bistro_server.services.calls import CallRegistry
from bistro_server.services.folder import ServerFolder
from bistro_server.services.ledgers import CallLedgers
from tests.crash.connections import Asked, GoneError, Left, connected
from tests.crash.programs import ERROR_MS, SERVER, ProgramStage
from tests.crash.subjects import Findings, shortened
from tests.crash.tickets.checking import LedgerCheck, Verifier, repetition_faults
from tests.crash.tickets.clients import Crowd
from tests.crash.tickets.memory import Held, LedgerName, Seen, TicketMemory
from tests.crash.tickets.office import admission_faults, is_registered
from tests.crash.tickets.opening import CALL
from tests.crash.tickets.reading import read_log, static_faults
from tests.crash.workers import SERVING_S, wait_for_workers

_KEPT: Final = 300
"""Of the promises of a long log so many are checked in every run."""
_AGAIN: Final = 60
"""So many of those who hold something ask again."""
_BULK: Final = 200


@dataclass
class TicketStage(ProgramStage):
    """A server and what its clients know; made by ``TicketSubject.prepare``."""

    own = re.compile(rb"bistro/")
    program = SERVER

    calls: dict[str, Terms]
    memory: TicketMemory
    crowd: Crowd
    verifier: Verifier = field(default_factory=Verifier)
    _folder: Path = Path()

    @classmethod
    def of(
        cls, calls: dict[str, Terms], salt: bytes, known: TicketMemory | None = None
    ) -> TicketStage:
        """With a crowd of its own.

        Args:
            calls: The terms of each.
            salt: Makes its commitments others than those of other runs.
            known: What is known from before.
        """
        memory = TicketMemory()
        if known is not None:
            memory.life, memory.asked_at = known.life, dict(known.asked_at)
            memory.sizes = dict(known.sizes)
            memory.held = known.held[:: max(1, len(known.held) // _KEPT)]
        crowd = Crowd({call: terms.hash for call, terms in calls.items()}, memory, salt)
        crowd.registered = frozenset(
            call for call, terms in calls.items() if terms.filers == "registered"
        )
        return cls(calls, memory, crowd)

    @property
    def at_rest_share(self) -> float:
        """Openings end there."""
        return 0.4 if self.crowd.opener is None else 1.0

    @property
    def promise_count(self) -> int:
        """Tickets and refusals, and what was seen of openings."""
        return len(self.memory.held) + len(self.memory.shown)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """As its clients have it."""
        return self.crowd.tls

    @property
    def serving_s(self) -> tuple[float, float]:
        """Short, but where workers have to come first, or time has to pass."""
        if self.crowd.opener is not None:
            return 0.1, 1.2
        return (0.03, 0.3) if self.tls is None else SERVING_S

    def at_cut(self, left: Left) -> TicketStage:
        """As ``subjects.Stage``."""
        known = self.memory.until(left)
        return replace(self, memory=known, crowd=replace(self.crowd, memory=known))

    def begin_life(self, folder: Path) -> None:
        """Connections are told apart by the life that they belong to."""
        self.crowd.memory = self.memory
        self.memory.life, self._folder = self.memory.life + 1, folder
        now = SystemClock(ERROR_MS).now()
        for (call, name), _, _ in self._ledgers():
            file = folder / "calls" / call / name / "checkpoint"
            if file.exists():
                asked = Asked(self.memory.life - 1, 0, 0, now, now)
                self.memory.see(Seen((call, name), file.read_bytes(), 0, asked))

    def arguments(self, folder: Path, chance: random.Random) -> list[str] | None:
        """Of ``open``, where a call may be opened soon."""
        opener = self.crowd.opener
        return None if opener is None else opener.arguments(folder, chance)

    def command_ended(self, status: int) -> None:
        """``open`` says by its status that it has come to the end."""
        if status == 0:
            now = SystemClock(ERROR_MS).now()
            # Nobody can say at which moment of its life it was: no byte of it is ever sent.
            self.memory.opened.append(Asked(self.memory.life, 0, 1, now, now))

    async def clients(self, port: int, chance: random.Random) -> None:
        """Three to eight filers; somebody who opens the call when it is time."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.crowd.run(port, chance, chance.randint(3, 8)))
            if self.crowd.opener is not None:
                dice = random.Random(chance.random())
                group.create_task(self.crowd.opener.run(self._folder, self.memory, dice))

    async def fill(self, port: int, count: int) -> None:
        """Give the first call so many entries more."""
        call, chance = next(iter(self.calls)), random.Random(count)
        async with connected(port, self.tls) as connection:
            while count > 0:
                wanted = self.crowd.choose(call, chance, min(count, 1_000), repeated=0.0)
                await self.crowd.ask(connection, call, wanted, is_bulk=True)
                count -= len(wanted)

    def _ledgers(self) -> list[tuple[LedgerName, Terms, VerifierKey]]:
        found: list[tuple[LedgerName, Terms, VerifierKey]] = []
        for call, terms in self.calls.items():
            origin = terms.origin
            found.append(((call, "log"), terms, terms.keys.log.renamed(str(origin))))
            found.append(((call, "refusals"), terms, terms.keys.log.renamed(origin.refusals)))
        return found

    async def check(self, port: int, chance: random.Random) -> Findings:
        """Read both ledgers of every call, compare, then ask again."""
        findings = Findings()
        self.crowd.memory = self.memory
        findings.counts, self.killed = self.killed, Counter()
        try:
            if self.tls is not None:
                await wait_for_workers(self.log)
            async with connected(port, self.tls) as connection:
                read: dict[LedgerName, list[bytes]] = {}
                for name, terms, key in self._ledgers():
                    _, entries = await read_log(connection, name, key)
                    read[name] = entries
                    found = LedgerCheck(name, terms, key, entries, self.verifier).run(self.memory)
                    found.faults = shortened(found.faults)
                    findings.add(found)
                findings.faults += self._office_faults(read)
                findings.add(await self._ask_again(port, chance))
                if self.crowd.opener is not None:
                    log = read[CALL, "log"]
                    findings.add(await self.crowd.opener.check(connection, self.memory, log))
        except (BistroError, GoneError, TimeoutError, ValueError) as exc:
            findings.faults.append(f"what was started again does not answer: {exc}")
        findings.faults += self.crowd.problems
        return findings

    def _office_faults(self, read: Mapping[LedgerName, Sequence[bytes]]) -> list[str]:
        faults: list[str] = []
        for call in self.crowd.registered:
            log, refusals = read[call, "log"], read[call, "refusals"]
            found = self.crowd.office.faults(self.calls[call], log, refusals)
            faults += [f"{call}: {fault}" for fault in shortened(found)]
        return faults

    async def _ask_again(self, port: int, chance: random.Random) -> Findings:
        findings = Findings()
        for call in self.calls:
            held = [one for one in self.memory.held if one.ledger[0] == call]
            is_over = self._is_over(call)
            if is_over:
                # Refusals are not given again then.
                held = [one for one in held if one.ledger[1] == "log"]
            sample = chance.sample(held, min(len(held), _AGAIN))
            answers: list[Held | None] = []
            async with connected(port, self.tls) as connection:
                for at in range(0, len(sample), _BULK):
                    wanted = [one.commitment for one in sample[at : at + _BULK]]
                    answers += await self.crowd.ask(connection, call, wanted, is_bulk=True)
                fresh = self.crowd.choose(call, chance, 1, repeated=0.0)
                while call in self.crowd.registered and not is_registered(fresh[0]):
                    fresh = self.crowd.choose(call, chance, 1, repeated=0.0)
                (new,) = await self.crowd.ask(connection, call, fresh, is_bulk=False)
            findings.faults += shortened(repetition_faults(sample, answers))
            findings.counts["asked again"] += len(sample)
            if new is None and not self._is_over(call):
                findings.faults.append(f"{call}: a new commitment gets no answer any more")
        return findings

    def _is_over(self, call: str) -> bool:
        """Whether nothing new may be answered with a promise: it may be opened, or is."""
        opener = self.crowd.opener
        return opener is not None and call == CALL and opener.is_due

    async def check_at_rest(self, folder: Path, *, is_full: bool) -> Findings:
        """Read what lies on the disk: the ledgers' own check, then tiles and bundles."""
        findings = Findings()
        if is_full:
            findings.add(await _log_check(folder))
        registry, opener = CallRegistry(ServerFolder(folder)), self.crowd.opener
        log: list[bytes] = []
        for call in self.calls:
            ledgers = await CallLedgers.open(
                registry.load(call), SystemClock(ERROR_MS), error_limit_ms=2 * ERROR_MS
            )
            try:
                if opener is not None and call == CALL:
                    log = list(ledgers.log.entries())
                if call in self.crowd.registered:
                    findings.faults += admission_faults(folder, call, ledgers.log.entries())
                for name, ledger in (("log", ledgers.log), ("refusals", ledgers.refusals)):
                    await ledger.check()
                    faults, count = static_faults(ledger.directory, list(ledger.entries()))
                    findings.faults += [f"{call}/{name}: {fault}" for fault in shortened(faults)]
                    findings.counts["static files"] += count
            except BistroError as exc:
                findings.faults.append(f"{call}: {exc.message}")
            finally:
                await ledgers.close()
        if opener is not None and not findings.faults:
            findings.add(await opener.finish(folder, log))
        return findings


async def _log_check(folder: Path) -> Findings:
    """What ``bistro-server log check`` says."""
    process = await asyncio.create_subprocess_exec(
        *(SERVER.command, "log", "check", "--dir", str(folder)), stdout=PIPE, stderr=STDOUT
    )
    said, _ = await process.communicate()
    findings = Findings(counts=Counter({"log check": 1}))
    if process.returncode:
        findings.faults.append(f"log check: {said.decode(errors='replace')[-900:]}")
    return findings
