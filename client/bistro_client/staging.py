"""Stages the fragments: chooses relays, uploads to all at once, and goes elsewhere on failure.

No operator gets more than n - k fragments where that can be had. Every choice, upload and
receipt is in the journal before the next step; the destination is shown the receipts as soon
as they are enough.

Source: docs/spec/staging.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from bistro.errors import (
    BistroError,
    ChecksumMismatchError,
    DeadlinePassedError,
    FormatError,
    RelayFullError,
    StorageError,
    UnavailableError,
)
from bistro.instant import UnixMillis
from bistro.net.relay_client import RelayClient
from bistro.net.session import Session
from bistro.protocol.placement import Placement, RelayProbe
from bistro.protocol.submission import Attempt, Step, SubmissionState
from bistro.wire.clauses import Relay
from bistro.wire.terms import SignedTerms, Terms
from bistro_client import notices, peer_messages
from bistro_client.contact import Destination
from bistro_client.journal import Journal
from bistro_client.listening import Listener, Task
from bistro_client.patience import Patience, Wait
from bistro_client.presenting import present
from bistro_client.probing import probe_all
from bistro_client.uploading import Delivery

TRIES_PER_RELAY: Final = 3
"""How often a broken connection is taken up again before another relay is chosen."""
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
    """

    journal: Journal
    session: Session
    destination: Destination | None
    terms: Terms
    patience: Patience
    listener: Listener
    _probes: tuple[RelayProbe, ...] = ()
    _problems: dict[str, str] = field(default_factory=dict)
    _chosen: dict[int, str] = field(default_factory=dict)
    _left: set[int] = field(default_factory=set)
    _round: int = 0
    _wait: Wait | None = None
    _waiting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    _presenting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def stage(self) -> bool:
        """Bring every fragment without receipt to a relay; whether none was left out.

        Once the submission is staged, fragments that no relay takes are left for another run.

        Raises:
            DeadlinePassedError: Relays take nothing for this call any more.
            StorageError: A fragment on our own disk is damaged, or the journal.
            UnavailableError: Too few relays could be used, and there is no more patience.
        """
        missing = self.journal.submission.missing
        self._chosen = {
            one.index: one.relay for one in self.journal.submission.fragments if one.relay
        }
        size = self._placement.fragment_size
        self.listener.begin(Task.UPLOADING, size * len(missing))
        await self._probe()
        try:
            await run_all(self._place(fragment.index) for fragment in missing)
        finally:
            self.listener.end(Task.UPLOADING)
        return not self._left

    @property
    def _placement(self) -> Placement:
        sealed = self.journal.submission.sealed
        if sealed is None:
            raise ValueError("nothing was sealed")
        layout = sealed.cut.layout
        return Placement(k=layout.k, n=layout.n, fragment_size=layout.fragment_size)

    @property
    def _is_staged(self) -> bool:
        return self.journal.submission.state is SubmissionState.STAGED

    async def _place(self, index: int) -> None:
        """Find a relay for one fragment, and another one as often as it fails."""
        tried: set[str] = set()
        while True:
            round_seen = self._round
            async with self._slots:
                is_held = await self._try_one(index, tried)
            if is_held:
                await self._present_if_enough()
                return
            if not self._has_fresh_relay(tried):
                if self._is_staged:
                    self._left.add(index)
                    self.listener.tell(notices.left_for_later(index, self.journal.submission.id))
                    return
                await self._wait_for_relays(round_seen)
                tried.clear()

    @property
    def _until(self) -> UnixMillis:
        return self.terms.repair_by if self._is_staged else self.terms.stage_by

    def _has_fresh_relay(self, tried: set[str]) -> bool:
        size = self._placement.fragment_size
        return any(p.is_usable(size) and p.name not in tried for p in self._probes)

    async def _probe(self) -> None:
        """Ask all relays how they are, and tell what is new about those that cannot be used."""
        found = await probe_all(self.session, self.terms, self.patience.clock)
        self._probes = tuple(one.probe for one in found)
        self._problems = {one.probe.name: one.problem for one in found if one.problem}
        for name, problem in self._problems.items():
            self.patience.tell(f"{name}: {problem}", notices.relay_unusable(name, problem))

    async def _wait_for_relays(self, round_seen: int) -> None:
        """All relays failed: wait and ask them again, once for all fragments that wait."""
        async with self._waiting:
            if self._round != round_seen:
                return
            time = None if self.destination is None else self.destination.time
            if self._wait is None:
                self._wait = self.patience.begin(until=self._until, time=time)
            await self._wait.pause(peer_messages.no_relay(self._problems))
            await self._probe()
            self._round += 1

    async def _try_one(self, index: int, tried: set[str]) -> bool:
        """Choose a relay and bring the fragment there; false if there is none, or it failed."""
        try:
            relay = await self._choose(index, tried)
        except UnavailableError:
            return False
        tried.add(relay.name)
        delivery = Delivery(
            self.journal,
            index,
            relay,
            RelayClient(self.session, relay.url),
            self._sealed_terms,
            self.listener,
        )
        try:
            await self._bring(delivery)
        except (StorageError, DeadlinePassedError):
            raise
        except BistroError as exc:
            delivery.forget_progress()
            self._chosen.pop(index, None)
            self._problems[relay.name] = exc.message
            await self._give_up(index, relay, exc)
            return False
        self._wait = None  # patience begins anew with every success
        return True

    @property
    def _sealed_terms(self) -> Terms:
        sealed = self.journal.submission.sealed
        if sealed is None:
            return self.terms
        return SignedTerms.parse(sealed.terms.encode()).terms

    async def _choose(self, index: int, tried: set[str]) -> Relay:
        """The relay of an upload that was begun, else a new choice; in the journal."""
        known = self._chosen.get(index)
        relay = None if known is None or known in tried else self.terms.relay(known)
        if relay is None:
            failed = {*tried, *self.journal.submission.fragments[index].failed}
            elsewhere = [name for at, name in self._chosen.items() if at != index]
            others = [p for name in elsewhere for p in self._probes if p.name == name]
            usable = [p for p in self._probes if p.name not in tried] or self._probes
            probe = self._placement.place_one(
                usable, self.patience.chooser, others=others, avoid=failed
            )
            # Set before anything is awaited: the next fragment must see this choice.
            self._chosen[index] = probe.name
            relay = self.terms.relay(probe.name)
        if relay is None:
            raise UnavailableError(f"relay {known}: no longer in the terms")
        name = relay.name
        await self.journal.change(lambda s: s.assign(index, name))
        return relay

    async def _bring(self, delivery: Delivery) -> None:
        for attempt in range(TRIES_PER_RELAY):
            try:
                await delivery.bring()
            except RelayFullError:
                raise
            except ChecksumMismatchError:
                await delivery.require_intact()
                raise
            except UnavailableError as exc:
                if attempt + 1 == TRIES_PER_RELAY:
                    raise
                delay_ms = self.patience.backoff.delay_ms(
                    attempt, self.patience.chooser, retry_after_s=None
                )
                name = delivery.relay.name
                self.patience.tell(f"{name}: {exc.message}", notices.upload_broke(name, exc))
                await self.patience.sleep(delay_ms / 1_000)
            else:
                return

    async def _give_up(self, index: int, relay: Relay, error: BistroError) -> None:
        reason = f"{relay.name}, {index}: {error.message}"
        self.patience.tell(reason, notices.relay_failed(relay.name, index, error))
        now = self.patience.clock.now()
        attempt = Attempt.of(error, at=now, step=Step.UPLOAD, peer=relay.name)
        await self.journal.change(lambda s: s.fail(index, attempt))

    async def _present_if_enough(self) -> None:
        """Show the destination what there is, as soon as it is enough to be staged."""
        async with self._presenting:
            submission = self.journal.submission
            count = sum(one.receipt is not None for one in submission.fragments)
            if self.destination is None or count < self._placement.k or self._is_staged:
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
