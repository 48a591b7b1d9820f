"""Carries a fragment to a relay, with tries; and to a second one as well where the first is slow.

The first verified receipt counts. Only the first relay of a race is in the journal until a rival
has won: a client that is killed in a race goes on with that one, and what a rival has taken
expires there.

Source: docs/spec/staging.md, choosing relays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from bistro.errors import (
    BistroError,
    ChecksumMismatchError,
    DeadlinePassedError,
    RelayFullError,
    StorageError,
    UnavailableError,
)
from bistro.net.relay_client import RelayClient
from bistro.net.session import Session
from bistro.protocol.submission import Attempt, Step
from bistro.wire.clauses import Relay
from bistro.wire.terms import SignedTerms, Terms
from bistro_client import notices, peer_messages
from bistro_client.hints import read_hint
from bistro_client.journal import Journal
from bistro_client.listening import SILENT, Listener, Task
from bistro_client.oversight import Limits, Oversight
from bistro_client.pacing import Pace
from bistro_client.patience import Patience
from bistro_client.roster import Roster
from bistro_client.times import ServerTime
from bistro_client.uploading import Delivery
from bistro_client.wording import say

TRIES_PER_RELAY: Final = 3
"""How often a broken connection is taken up again before another relay is chosen."""
PAUSE_S: Final = 15.0
"""A relay that has a part of the fragment, and asks for no more time than this, gets it."""
_FATAL: Final = (StorageError, DeadlinePassedError)
"""What no other relay could do better."""


def was_not_reached(error: BistroError) -> bool:
    """Whether a connection broke or could not be made: nobody has given up anything."""
    is_given_up = isinstance(error.__cause__, TimeoutError)
    return isinstance(error, UnavailableError) and not (error.is_answer or is_given_up)


@dataclass(slots=True)
class _Heat:
    """One fragment on its way: by its first relay, and by a rival once it is raced."""

    first: Delivery
    tried: set[str]
    is_raced: asyncio.Event = field(default_factory=asyncio.Event)
    rival: Delivery | None = None


@dataclass(slots=True)
class Carrier:
    """Carries the fragments of one submission in one run; the judge of its slow uploads.

    Attributes:
        journal: Owned by the caller.
        session: An open session.
        roster: The relays.
        patience: Has the clock, and tells.
        listener: Told how far the bytes are.
        limits: When an upload is slow or hopeless.
        pace: Of all uploads together.
        time: The destination's clock, as far as it is known.
        needed: How many receipts are still missing to be staged.
        has_waiting: Whether a fragment waits to be begun.
        on_laggard: Told when an upload is stalled or many times slower than the others.
    """

    journal: Journal
    session: Session
    roster: Roster
    patience: Patience
    listener: Listener
    limits: Limits
    pace: Pace
    time: ServerTime
    needed: Callable[[], int]
    has_waiting: Callable[[], bool]
    on_laggard: Callable[[], None]
    oversight: Oversight = field(init=False)
    _heats: dict[int, _Heat] = field(default_factory=dict)
    _farewells: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Be asked about slow uploads."""
        self.oversight = Oversight(self, self.limits)

    async def carry(self, index: int, relay: Relay, tried: set[str]) -> None:
        """Bring a fragment to ``relay``, or whoever is faster; its receipt is in the journal.

        Args:
            index: Of the fragment.
            relay: Its holder in roster and journal.
            tried: Relays that it was tried at in this round; rivals join them.

        Raises:
            BistroError: Nobody took it; what failed at ``relay``. Its bytes do not count any more.
        """
        heat = _Heat(self._delivery(index, relay), tried)
        self._heats[index] = heat
        try:
            error = await self._run(heat)
        finally:
            del self._heats[index]
            self.roster.rivals.pop(index, None)
        await self._settle(heat, error)

    def challenge(self, delivery: Delivery) -> bool:
        """Bring the fragment to another relay as well; whether one is on its way."""
        heat = self._heats.get(delivery.index)
        if heat is None or delivery is not heat.first:
            return False
        if not heat.is_raced.is_set() and self.roster.has_fresh(delivery.index, heat.tried):
            heat.is_raced.set()
        return heat.rival is not None or heat.is_raced.is_set()

    def is_end(self) -> bool:
        """Whether receipts are needed, and every fragment without one is under way."""
        return self.needed() > 0 and not self.has_waiting()

    def may_leave(self, delivery: Delivery) -> bool:
        """Whether a slow upload may be given up: the fragment is not needed, or goes elsewhere."""
        heat = self._heats.get(delivery.index)
        tried = {delivery.relay.name} if heat is None else heat.tried
        is_rival = delivery.is_rival and self.roster.has_fresh(delivery.index, tried)
        return is_rival or self.needed() <= 0

    async def close(self, *, is_over: bool) -> None:
        """Wait until relays are told what is not needed, if all ``is_over``; else do not."""
        for farewell in () if is_over else self._farewells:
            farewell.cancel()
        if self._farewells:
            await asyncio.wait(self._farewells)

    # --- one fragment ---

    def _delivery(self, index: int, relay: Relay, *, is_rival: bool = False) -> Delivery:
        return Delivery(
            self.journal,
            index,
            relay,
            RelayClient(self.session, relay.url),
            self._sealed_terms,
            # The bytes of a fragment are counted once.
            SILENT if is_rival else self.listener,
            self.pace,
            is_rival=is_rival,
        )

    @property
    def _sealed_terms(self) -> Terms:
        sealed = self.journal.submission.sealed
        if sealed is None:
            return self.roster.terms
        return SignedTerms.parse(sealed.terms.encode()).terms

    async def _run(self, heat: _Heat) -> BistroError | None:
        """Run a heat to its end; the first delivery's failure, where it failed by itself."""
        async with asyncio.TaskGroup() as group:
            first = group.create_task(self._attempt(heat.first))
            rivals = group.create_task(self._send_rivals(heat))
            await asyncio.wait({first, rivals}, return_when=asyncio.FIRST_COMPLETED)
            if rivals.done() and not rivals.result():
                await asyncio.wait({first})
            elif first.done() and first.result() is not None and heat.is_raced.is_set():
                await asyncio.wait({rivals})
            for task in (first, rivals):
                task.cancel()
        return None if first.cancelled() else first.result()

    async def _attempt(self, delivery: Delivery) -> BistroError | None:
        try:
            await self._bring(delivery)
        except BistroError as exc:
            return exc
        return None

    async def _send_rivals(self, heat: _Heat) -> bool:
        """Once the heat is a race: one rival after the other, until one has brought it."""
        await heat.is_raced.wait()
        index = heat.first.index
        while True:
            relay = self._choose_rival(heat)
            if relay is None:
                return False
            heat.tried.add(relay.name)
            heat.rival = rival = self._delivery(index, relay, is_rival=True)
            notice = notices.racing(heat.first.relay.name, relay.name, index)
            self.patience.tell(f"{relay.name}, {index}: races", notice)
            error = await self._attempt(rival)
            if error is None:
                return True
            heat.rival = None
            self._part(rival)
            await self.tell_failure(relay, index, error)
            await self._record(relay, error)
            if isinstance(error, _FATAL):
                return False  # the first one meets it, too

    def _choose_rival(self, heat: _Heat) -> Relay | None:
        failed = self.journal.submission.fragments[heat.first.index].failed
        try:
            name = self.roster.challenge(heat.first.index, tried=heat.tried, failed=failed)
        except UnavailableError:
            return None
        return self.roster.terms.relay(name)

    async def _settle(self, heat: _Heat, error: BistroError | None) -> None:
        """Say farewell to whoever did not win, and raise where nobody did."""
        fragment = self.journal.submission.fragments[heat.first.index]
        is_held = fragment.receipt is not None
        for one in filter(None, (heat.first, heat.rival)):
            if not is_held or one.relay.name != fragment.relay:
                one.forget_progress()
                if error is None or not was_not_reached(error):
                    self._part(one)
        if not is_held:
            raise error or UnavailableError(
                say("carrying.fragment-no-relay", index=heat.first.index)
            )
        if fragment.relay != heat.first.relay.name:
            self.roster.holders[heat.first.index] = fragment.relay or ""
            self.listener.advance(Task.UPLOADING, self.roster.placement.fragment_size)
            lost = error or peer_messages.slower(heat.first.relay.name, fragment.relay or "")
            await self._record(heat.first.relay, lost)

    def _part(self, delivery: Delivery) -> None:
        """Let the relay know, beside everything else, that a delivery is over."""
        task = asyncio.ensure_future(delivery.abandon())  # noqa: TID251 - ended in close
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)

    async def tell_failure(self, relay: Relay, index: int, error: BistroError) -> None:
        """Tell that a relay failed for a fragment, and take the advice that came with it."""
        busy = error if isinstance(error, UnavailableError) else None
        self.roster.failed(relay.name, busy, error.message)
        reason = f"{relay.name}, {index}: {error.message}"
        self.patience.tell(reason, notices.relay_failed(relay.name, index, error))
        if busy is not None:
            await self.roster.heed(read_hint(busy, relay, self.roster.terms, self.time.now()))

    async def _record(self, relay: Relay, error: BistroError) -> None:
        now = self.patience.clock.now()
        attempt = Attempt.of(error, at=now, step=Step.UPLOAD, peer=relay.name)
        await self.journal.change(lambda s: s.record(attempt))

    # --- one relay ---

    async def _bring(self, delivery: Delivery) -> None:
        for attempt in range(TRIES_PER_RELAY):
            try:
                async with self.oversight.watching(delivery, self.roster.placement.fragment_size):
                    await delivery.bring()
            except RelayFullError:
                raise
            except ChecksumMismatchError:
                await delivery.require_intact()
                raise
            except UnavailableError as exc:
                delay_s = self._pause_s(delivery, exc, attempt)
                if delay_s is None:
                    raise
                name = delivery.relay.name
                self.patience.tell(f"{name}: {exc.message}", notices.upload_broke(name, exc))
                await self.patience.sleep(delay_s)
            else:
                return

    def _pause_s(self, delivery: Delivery, error: UnavailableError, attempt: int) -> float | None:
        """How long to wait before the same relay is tried again; None: not again."""
        is_given_up = isinstance(error.__cause__, TimeoutError)
        if is_given_up or attempt + 1 == TRIES_PER_RELAY:
            return None
        usual_s = self.patience.backoff.delay_ms(attempt, self.patience.chooser) / 1_000
        if not error.is_answer:
            return usual_s
        # Whoever turned it away is believed; but bytes that are there are worth a moment.
        told_s = usual_s if error.retry_after_s is None else error.retry_after_s
        return told_s if delivery.upload is not None and told_s <= PAUSE_S else None
