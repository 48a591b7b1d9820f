"""The load: filers who ask once, in bulk, again, at the same time, or go away in between."""

from __future__ import annotations

import asyncio
import hashlib
import random  # noqa: TID251 - passed in, seeded
import ssl
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bistro.api import media, routes
from bistro.clock import SystemClock
from bistro.errors import FormatError
from bistro.wire.ticketing import (
    Postponed,
    Refused,
    TicketAnswers,
    Ticketed,
    TicketRequest,
    TicketRequests,
)
from tests.bench.loads.requests import post
from tests.crash.connections import Asked, Connection, GoneError, connected, get
from tests.crash.tickets.memory import Held, LedgerName, Seen, TicketMemory
from tests.crash.tickets.office import Office
from tests.crash.tickets.opening import Opener

_SIZES: Final = (1, 1, 1, 2, 5, 20, 60, 200)
_PAUSE_S: Final = 0.004
_REPEATED: Final = 0.2
_ABANDONED: Final = 0.05
_LOOKING: Final = 0.1


@dataclass
class Crowd:
    """All filers of a run; they share what they know.

    Attributes:
        terms: The terms hash of each call.
        memory: What they were given.
        answers: How many of which kind.
        registered: Calls in which filers have to say who they are.
        office: What they sign there.
        tls: With which they connect, if they do.
        opener: Asks for the opening of a call, and what is shown of it, if it is near.
    """

    terms: Mapping[str, bytes]
    memory: TicketMemory
    salt: bytes
    answers: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    registered: frozenset[str] = frozenset()
    office: Office = field(default_factory=Office)
    tls: ssl.SSLContext | None = None
    opener: Opener | None = None
    _commitments: dict[str, list[bytes]] = field(default_factory=dict)
    _number: int = 0

    async def run(self, port: int, chance: random.Random, count: int) -> None:
        """``count`` filers, until cancelled."""
        async with asyncio.TaskGroup() as filers:
            for _ in range(count):
                filers.create_task(self._filer(port, random.Random(chance.random())))

    async def _filer(self, port: int, chance: random.Random) -> None:
        while True:
            try:
                async with connected(port, self.tls) as connection:
                    while await self._act(connection, chance):
                        pass
            except GoneError:
                self.answers["nobody"] += 1
            # Whoever is alone on the machine leaves some of it to the service.
            await asyncio.sleep(_PAUSE_S)

    async def _act(self, connection: Connection, chance: random.Random) -> bool:
        """Do something; whether the connection is still of use."""
        call = chance.choice(list(self.terms))
        if self.opener is not None and chance.random() < _LOOKING:
            await self.opener.look(connection, self.memory, chance)
            return True
        if chance.random() < _LOOKING:
            await self.look(connection, (call, chance.choice(("log", "log", "refusals"))))
            return True
        wanted = self.choose(call, chance, chance.choice(_SIZES))
        if chance.random() < _ABANDONED:
            request = self._request(call, wanted, is_bulk=True)
            connection.abandon(request[: chance.choice((len(request), len(request) // 2))])
            return False
        await self.ask(connection, call, wanted, is_bulk=len(wanted) > 1)
        return True

    def choose(
        self, call: str, chance: random.Random, count: int, *, repeated: float = _REPEATED
    ) -> list[bytes]:
        """Commitments to ask for.

        Args:
            call: For which call.
            chance: Decides.
            count: How many.
            repeated: The share of those that were asked for before.
        """
        known = self._commitments.setdefault(call, [])
        wanted = []
        for _ in range(count):
            if known and chance.random() < repeated:
                wanted.append(chance.choice(known))
                continue
            self._number += 1
            wanted.append(hashlib.sha256(self.salt + b"%d" % self._number).digest())
            known.append(wanted[-1])
        return wanted

    def _request(self, call: str, wanted: Sequence[bytes], *, is_bulk: bool) -> bytes:
        now = SystemClock().now()
        for commitment in wanted:
            self.memory.asked_at.setdefault((call, commitment), now)
        terms_hash, office = self.terms[call], self.office
        items = tuple(
            TicketRequest(
                one,
                terms_hash,
                office.admission(one, terms_hash) if call in self.registered else None,
            )
            for one in wanted
        )
        body = TicketRequests(items, is_bulk=is_bulk).encode()
        return post(routes.TICKETS.path(call=call), {"Content-Type": media.MSGPACK}, body)

    async def ask(
        self, connection: Connection, call: str, wanted: Sequence[bytes], *, is_bulk: bool
    ) -> list[Held | None]:
        """Ask for tickets; what was promised, in order.

        Raises:
            GoneError: There was no answer.
        """
        memory, clock = self.memory, SystemClock()
        known = dict(memory.sizes)
        request = self._request(call, wanted, is_bulk=is_bulk)
        sent_at = clock.now()
        status, body = await connection.ask(request)
        asked = connection.asked(memory.life, sent_at)
        if status != 200:
            self.answers[f"status {status}"] += 1
            await asyncio.sleep(_PAUSE_S)
            return [None] * len(wanted)
        try:
            answers = TicketAnswers.decode(body).items
        except FormatError as exc:
            self.problems.append(f"an answer cannot be read: {exc.message}")
            return [None] * len(wanted)
        found: list[Held | None] = []
        for commitment, answer in zip(wanted, answers, strict=True):
            held = None
            if isinstance(answer, Postponed):
                self.answers[answer.code] += 1
            else:
                held = self._held(call, commitment, answer, known, asked)
                memory.hold(held)
            found.append(held)
        return found

    def _held(
        self,
        call: str,
        commitment: bytes,
        answer: Ticketed | Refused,
        known: Mapping[LedgerName, int],
        asked: Asked,
    ) -> Held:
        is_ticket = isinstance(answer, Ticketed)
        self.answers["ticket" if is_ticket else "refusal"] += 1
        ledger: LedgerName = (call, "log" if is_ticket else "refusals")
        text = answer.ticket if isinstance(answer, Ticketed) else answer.refusal
        return Held(ledger, commitment, text, known.get(ledger, 0), asked)

    async def look(self, connection: Connection, ledger: LedgerName) -> None:
        """Fetch the newest checkpoint.

        Raises:
            GoneError: There was no answer.
        """
        clock, known = SystemClock(), self.memory.sizes.get(ledger, 0)
        call, name = ledger
        route = routes.LOG_CHECKPOINT if name == "log" else routes.REFUSALS_CHECKPOINT
        sent_at = clock.now()
        status, note = await connection.ask(get(route.path(call=call)))
        if status == 200:
            asked = connection.asked(self.memory.life, sent_at)
            self.memory.see(Seen(ledger, note, known, asked))
        elif status != 404 or known:
            self.answers[f"status {status}"] += 1
