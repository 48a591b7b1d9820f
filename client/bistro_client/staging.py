"""Stages the fragments: chooses relays, uploads side by side, and goes elsewhere on failure.

No operator gets more than n - k fragments: what no other may take waits. Where nothing but that
rule stands in the way of k receipts, it is given up in time, and the filer told what it costs.
The first k fragments go at once and have the whole line; the others are spares, which start
when k have arrived, or one of them is slow or failed. Every choice, upload and receipt is in the
journal before the next step; the destination is shown the receipts as soon as they are enough.

Source: docs/spec/staging.md, choosing relays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from bistro.errors import (
    BistroError,
    DeadlinePassedError,
    FormatError,
    StorageError,
    UnavailableError,
)
from bistro.instant import UnixMillis
from bistro.net.session import Session
from bistro.protocol.placement import Placement
from bistro.protocol.submission import Attempt, Step, SubmissionState
from bistro.wire.clauses import Relay
from bistro.wire.terms import Terms
from bistro_client import notices
from bistro_client.carrying import Carrier, was_not_reached
from bistro_client.contact import Destination
from bistro_client.journal import Journal
from bistro_client.listening import Listener, Task
from bistro_client.oversight import Limits
from bistro_client.pacing import Pace
from bistro_client.patience import Patience, Wait
from bistro_client.presenting import present
from bistro_client.roster import Roster
from bistro_client.times import ServerTime
from bistro_client.uploading import SMALL_SIZE
from bistro_client.wording import say

LINGER_MS: Final = 10_000
"""How long a run goes on for more fragments than are needed, when no relay takes them."""
ALONE_MS: Final = 60_000
"""How long fragments that are needed wait for another operator to be back."""
RESERVE_MS: Final = 600_000
"""So long before ``stage_by`` nothing waits for another operator any more."""
_AT_ONCE: Final = 8


@dataclass(slots=True)
class Stager:
    """Stages one submission in one run.

    Attributes:
        journal: Owned by the caller.
        session: An open session.
        destination: Shown the receipts; None while it cannot be reached.
        terms: The latest: which relays there are, and until when.
        patience: How long to go on while no relay works.
        listener: Told how far the bytes are.
        limits: When an upload is hopeless.
        pace: Of all uploads together.
    """

    journal: Journal
    session: Session
    destination: Destination | None
    terms: Terms
    patience: Patience
    listener: Listener
    limits: Limits = field(default_factory=Limits)
    pace: Pace = field(default_factory=Pace)
    _left: set[int] = field(default_factory=set)
    _begun: set[int] = field(default_factory=set)
    _round: int = 0
    _wait: Wait | None = None
    _waiting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    _presenting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _spares: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _roster: Roster = field(init=False)
    _carrier: Carrier = field(init=False)

    def __post_init__(self) -> None:
        """Know who holds what."""
        sealed = self.journal.submission.sealed
        if sealed is None:
            raise ValueError(say("staging.nothing-was-sealed"))
        layout = sealed.cut.layout
        holders = {f.index: f.relay for f in self.journal.submission.fragments if f.relay}
        rule = Placement(k=layout.k, n=layout.n, fragment_size=layout.fragment_size)
        self._roster = Roster(self.session, self.terms, rule, self.patience, holders)
        self._carrier = Carrier(
            self.journal,
            self.session,
            self._roster,
            self.patience,
            self.listener,
            self.limits,
            self.pace,
            ServerTime(self.patience.clock) if self.destination is None else self.destination.time,
            needed=lambda: self._needed,
            has_waiting=self._has_waiting,
            on_laggard=self._spares.set,
        )

    async def stage(self) -> bool:
        """Bring every fragment without receipt to a relay; whether none was left out.

        Once the submission is staged, fragments that no relay takes are left for another run.

        Raises:
            DeadlinePassedError: Relays take nothing for this call any more.
            StorageError: A fragment on our own disk is damaged, or the journal.
            UnavailableError: Too few relays could be used, and there is no more patience.
        """
        missing = self.journal.submission.missing
        needed = self._needed
        if self._size <= SMALL_SIZE or needed <= 0:
            self._spares.set()
        self.listener.begin(Task.UPLOADING, self._size * len(missing))
        await self._roster.probe()
        watch = asyncio.ensure_future(self._carrier.oversight.run())  # noqa: TID251 - ended below
        is_over = False
        try:
            await run_all(
                self._place(fragment.index, is_spare=at >= needed)
                for at, fragment in enumerate(missing)
            )
            is_over = True
        finally:
            await self._carrier.close(is_over=is_over)
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
            self.listener.end(Task.UPLOADING)
        return not self._left

    @property
    def _size(self) -> int:
        return self._roster.placement.fragment_size

    @property
    def _needed(self) -> int:
        """Receipts that are still missing to be staged."""
        submission = self.journal.submission
        return self._roster.placement.k - (len(submission.fragments) - len(submission.missing))

    def _has_waiting(self) -> bool:
        """Whether a fragment waits until it may be begun."""
        return any(one.index not in self._begun for one in self.journal.submission.missing)

    @property
    def _is_staged(self) -> bool:
        return self.journal.submission.state is SubmissionState.STAGED

    async def _place(self, index: int, *, is_spare: bool) -> None:
        """Find a relay for one fragment, and another one as often as it fails."""
        if is_spare:
            await self._spares.wait()
        tried: set[str] = set()
        while True:
            round_seen = self._round
            async with self._slots:
                self._begun.add(index)
                is_held = await self._try_one(index, tried)
            self._tell_waiters()
            if is_held:
                await self._present_if_enough()
                return
            self._spares.set()
            if not self._has_fresh(index, tried):
                if not await self._wait_for_relays(index, round_seen):
                    self._left.add(index)
                    self.listener.tell(notices.left_for_later(index, self.journal.submission.id))
                    return
                tried.clear()

    async def _wait_for_relays(self, index: int, round_seen: int) -> bool:
        """Wait and ask all relays again, once for all fragments that wait; false: no longer.

        Raises:
            UnavailableError: The fragment is needed, and there is no more patience.
        """
        async with self._waiting:
            if self._round != round_seen:
                return True
            is_needed = self._needed > 0
            if is_needed and self._has_enough_without(index):
                # The others are on their way: until one of them fails this one can wait.
                await self._news.wait()
                return await self._ask_again()
            async with self._presenting:
                pass  # whether it is staged is just being said
            may_exceed = is_needed and self._roster.has_fresh(index, (), may_exceed=True)
            if self._wait is None:
                self._wait = self._begin_to_wait(is_needed=is_needed, may_exceed=may_exceed)
            try:
                await self._wait.pause(self._roster.why_none())
            except UnavailableError:
                if not is_needed:
                    return False
                if not may_exceed or self._roster.may_exceed:
                    raise
                # Better with one operator than lapsed.
                self._roster.may_exceed = True
                self._wait = None
            return await self._ask_again()

    async def _ask_again(self) -> bool:
        await self._roster.probe()
        self._round += 1
        return True

    def _has_fresh(self, index: int, tried: set[str]) -> bool:
        """Whether there is a relay that the fragment was not tried at in this round."""
        is_lost = bool(self.journal.submission.fragments[index].lost)
        return self._roster.has_fresh(index, tried, may_exceed=is_lost)

    def _has_enough_without(self, index: int) -> bool:
        """Whether k other fragments have arrived, or are on their way."""
        others = [at for at in self._roster.holders if at != index]
        return len(others) >= self._roster.placement.k

    def _tell_waiters(self) -> None:
        """A fragment has arrived, or failed."""
        self._news.set()
        self._news = asyncio.Event()

    def _begin_to_wait(self, *, is_needed: bool, may_exceed: bool) -> Wait:
        """Patience for as long as it is worth."""
        time = None if self.destination is None else self.destination.time
        limits = [self.patience.limit_ms]
        until = self.terms.stage_by if is_needed else self.terms.repair_by
        if not is_needed:
            limits.append(LINGER_MS)
        elif may_exceed:
            limits.append(ALONE_MS)
            until = UnixMillis(max(0, until - RESERVE_MS))
        limit_ms = min((one for one in limits if one is not None), default=None)
        return replace(self.patience, limit_ms=limit_ms).begin(until=until, time=time)

    async def _try_one(self, index: int, tried: set[str]) -> bool:
        """Choose a relay and bring the fragment there; false if there is none, or it failed."""
        try:
            relay = await self._choose(index, tried)
        except UnavailableError:
            return False
        tried.add(relay.name)
        try:
            await self._carrier.carry(index, relay, tried)
        except (StorageError, DeadlinePassedError):
            raise
        except BistroError as exc:
            if was_not_reached(exc) and await self._roster.is_cut_off():
                # Nobody answers: it is our own line. What the relay has is gone on with later.
                self.patience.tell(exc.message, notices.upload_broke(relay.name, exc))
                return False
            self._roster.holders.pop(index, None)
            await self._carrier.tell_failure(relay, index, exc)
            await self._give_up(index, relay, exc)
            return False
        self._wait = None  # patience begins anew with every success
        return True

    async def _choose(self, index: int, tried: set[str]) -> Relay:
        """The relay of an upload that was begun, else a new choice; in the journal."""
        known = self._roster.holders.get(index)
        if known is not None and (known in tried or not self._roster.is_up(known)):
            # It may be back later; until then the fragment goes where it can.
            self._roster.holders.pop(index)
            known = None
        fragment = self.journal.submission.fragments[index]
        is_lost = bool(fragment.lost)
        name = known or self._roster.choose(
            index, tried=tried, failed=fragment.failed, is_lost=is_lost
        )
        relay = self.terms.relay(name)
        if relay is None:
            raise UnavailableError(say("staging.relay-no-longer", name=name))
        await self.journal.change(lambda s: s.assign(index, name))
        if self._roster.may_exceed or is_lost:
            self._tell_what_it_costs()
        return relay

    def _tell_what_it_costs(self) -> None:
        operator, count = self._roster.crowd()
        rule = self._roster.placement
        if count > rule.n - rule.k:
            notice = notices.concentrated(operator, count, rule.n, self.journal.submission.id)
            self.patience.tell(f"{operator}: {count}", notice)

    async def _give_up(self, index: int, relay: Relay, error: BistroError) -> None:
        now = self.patience.clock.now()
        attempt = Attempt.of(error, at=now, step=Step.UPLOAD, peer=relay.name)
        await self.journal.change(lambda s: s.fail(index, attempt))

    async def _present_if_enough(self) -> None:
        """Show the destination what there is, as soon as it is enough to be staged."""
        async with self._presenting:
            if self._needed > 0:
                return
            # The line is free for what goes beyond what is needed.
            self._spares.set()
            if self.destination is None or self._is_staged:
                return
            try:
                await present(self.journal, self.destination, self.patience)
            except (UnavailableError, FormatError) as exc:
                # The step that follows asks again, with patience.
                self.listener.tell(notices.not_presented(exc))


async def run_all(work: Iterable[Coroutine[object, object, None]]) -> None:
    """Run all at once; if any fails, stop the others and raise the failure that matters most.

    A refusal or a broken disk goes before somebody who only cannot be reached now.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except BaseExceptionGroup as failures:
        ours, others = failures.split(BistroError)
        if ours is None or others is not None:
            raise
        raise max(_leaves(ours), key=_weight) from failures


def _weight(error: BaseException) -> tuple[bool, int]:
    code = error.exit_code if isinstance(error, BistroError) else 0
    return not isinstance(error, UnavailableError), code


def _leaves(group: BaseExceptionGroup[BistroError]) -> Iterator[BistroError]:
    for one in group.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from _leaves(one)
        else:
            yield one
