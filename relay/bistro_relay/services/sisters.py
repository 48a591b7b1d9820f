"""Where to go instead: other relays of a call, asked while this one turns uploads away.

A first upload that is turned away may go without a hint: what is not known yet is asked for
then, and known a moment later.

Source: docs/spec/relay-life.md, hints to sister relays.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, NoReturn

from bistro.clock import Clock
from bistro.crypto.signing import SigningKey
from bistro.daemon import logs
from bistro.errors import FormatError, UnavailableError, UnknownObjectError
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.net.relay_client import RelayClient
from bistro.net.session import Session
from bistro.wire.clauses import Relay
from bistro.wire.relay_notes import MAX_SISTERS, Hint, Sister
from bistro_relay.services.overview import Overview
from bistro_relay.services.terms_book import TermsBook

TICK_S: Final = 1.0
ASK_MS: Final = 30_000
"""How often one sister is asked."""
GOOD_MS: Final = 60_000
"""How long a hint is good, and how long after a refusal sisters are asked."""
PATIENCE_S: Final = 5.0
"""How long one answer is waited for."""
MAKE_MS: Final = 10_000
"""How often a hint is signed anew."""

_log = logs.get_logger("sisters")


@dataclass(frozen=True, slots=True)
class _Answer:
    asked_ms: int
    sister: Sister | None


class Sisters:
    """Hints for uploads that are turned away.

    Args:
        key: The relay's.
        book: Terms, which name the relays of each call.
        overview: Tells whether uploads are turned away.
        session: Asks sisters.
        clock: Dates hints.
    """

    def __init__(
        self,
        key: SigningKey,
        book: TermsBook,
        overview: Overview,
        session: Session,
        clock: Clock,
    ) -> None:
        self._key = key
        self._book = book
        self._overview = overview
        self._session = session
        self._clock = clock
        self._wanted: dict[Origin, int] = {}
        self._answers: dict[str, _Answer] = {}
        self._made: dict[Origin, tuple[int, bytes]] = {}

    def hint(self, origin: Origin) -> bytes | None:
        """A signed hint for a call, if any sister took uploads when it was last asked."""
        relays = self._relays(origin)
        if not relays:
            return None
        now_ms = self._clock.monotonic_ms()
        self._wanted[origin] = now_ms
        made_ms, note = self._made.get(origin, (None, b""))
        if made_ms is not None and now_ms - made_ms < MAKE_MS:
            return note
        found = [answer.sister for one in relays if (answer := self._answers.get(one.name))]
        sisters = sorted(filter(None, found), key=lambda one: (one.load, -one.free_bytes))
        if not sisters:
            return None
        now = self._clock.now()
        hint = Hint(
            relay=self._key.verifier.name,
            at=now,
            until=UnixMillis(now + GOOD_MS),
            origin=origin,
            sisters=tuple(sisters[:MAX_SISTERS]),
        )
        note = hint.sign(self._key)
        self._made[origin] = now_ms, note
        return note

    def _relays(self, origin: Origin) -> list[Relay]:
        """The other relays of a call that is served here."""
        served = self._book.find(origin)
        own = self._key.verifier.name
        relays = () if served is None else served.signed.terms.relays
        return [one for one in relays if one.name != own]

    async def run(self) -> NoReturn:
        """Ask sisters while uploads are turned away, until cancelled."""
        while True:
            await self.tick()
            await asyncio.sleep(TICK_S)

    async def tick(self) -> None:
        """Ask those whose answers are wanted and old."""
        now_ms = self._clock.monotonic_ms()
        if self._overview.why_refusing() is not None:
            for destination in self._book.destinations:
                self._wanted |= dict.fromkeys(self._book.calls(destination.server), now_ms)
        self._wanted = {
            origin: at_ms for origin, at_ms in self._wanted.items() if now_ms - at_ms < GOOD_MS
        }
        relays = {one.name: one for origin in self._wanted for one in self._relays(origin)}
        known = {origin for origin in self._made if origin in self._wanted}
        self._made = {origin: self._made[origin] for origin in known}
        due = [one for one in relays.values() if self._is_due(one.name, now_ms)]
        async with asyncio.TaskGroup() as group:
            for relay in due:
                group.create_task(self._ask(relay))

    def _is_due(self, name: str, now_ms: int) -> bool:
        answer = self._answers.get(name)
        return answer is None or now_ms - answer.asked_ms >= ASK_MS

    async def _ask(self, relay: Relay) -> None:
        asked_ms = self._clock.monotonic_ms()
        sister = None
        try:
            async with asyncio.timeout(PATIENCE_S):
                found = await RelayClient(self._session, relay.url).fetch_discovery()
            if found.accepting and found.vkey == relay.vkey:
                sister = Sister(name=relay.name, load=found.load, free_bytes=found.free_bytes)
        except (FormatError, UnavailableError, UnknownObjectError, TimeoutError) as exc:
            # Not worth a hint; asked again in a while.
            _log.debug("sister_missed", relay=relay.name, message=str(exc))
        self._answers[relay.name] = _Answer(asked_ms, sister)
