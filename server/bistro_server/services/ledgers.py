"""The two ledgers of a call in the one process that writes them: tickets, and refusals.

Every entry that rules over others has a key, so what is in force is found without reading the
log, also after a crash:

| entry | key |
|---|---|
| terms | ``v`` and the terms hash |
| ticket | ``t`` and the commitment |
| closed | ``c`` and the hash of the terms it closes |
| opening | ``o`` |
| refused (second ledger) | ``r`` and the commitment |

They pass through the same queue as tickets and end their batch, so a ticket is always judged by
what is durable before it.

Source: docs/spec/ticketing.md; docs/spec/promises.md, rules of a ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, Self

from bistro.clock import Clock
from bistro.daemon import supervise
from bistro.errors import ConflictError, NotOpenError, StorageError, UnavailableError
from bistro.instant import UnixMillis, format_rfc3339
from bistro.ledger.appended import Appended
from bistro.ledger.ledger import Ledger
from bistro.ledger.sequencer import BatchReport, Draft, Sequencer
from bistro.protocol.deadline import is_on_time, latest_on_time
from bistro.storage.durable import SYSTEM_DISK, Disk
from bistro.wire.entry import ClosedEntry, OpeningEntry, TermsEntry
from bistro.wire.terms import Terms
from bistro_server.services.calls import Call
from bistro_server.services.ticket_rules import TicketRules

OPENING_KEY: Final = b"o"

PUBLISH_EVERY_S: Final = 5
"""How often a new checkpoint is published for mirrors: as often as caches ask for it."""

Report = Callable[[str, BatchReport], None]
"""Told which ledger (``log`` or ``refusals``) stamped a batch."""


def ticket_key(commitment: bytes) -> bytes:
    """What a ticket is unique by."""
    return b"t" + commitment


def refusal_key(commitment: bytes) -> bytes:
    """What a refusal is unique by."""
    return b"r" + commitment


def terms_key(terms_hash: bytes) -> bytes:
    """What the entry of a version of the terms is unique by."""
    return b"v" + terms_hash


def closed_key(terms_hash: bytes) -> bytes:
    """What the entry that closes these terms is unique by."""
    return b"c" + terms_hash


_LETTERS: Final = {
    b"bistro/ticket/v1": b"t",
    b"bistro/terms/v1": b"v",
    b"bistro/closed/v1": b"c",
    b"bistro/refused/v1": b"r",
}


def key_of(entry: bytes) -> bytes | None:
    """The key of an entry of ours, made anew from it; ``None`` where it has none."""
    kind, _, _, digest = entry.split(b"\n", 4)[:4]
    if kind == b"bistro/opening/v1":
        return OPENING_KEY
    letter = _LETTERS.get(kind)
    return None if letter is None else letter + bytes.fromhex(digest[7:].decode())


class CallLedgers:
    """A call's ledgers, open for writing; obtained from ``open``, given back by ``close``.

    Attributes:
        call: Whose they are.
        log: Tickets, terms, closed, opening.
        refusals: Refusals.
        log_sequencer: Orders what goes into ``log``.
        refusals_sequencer: Orders what goes into ``refusals``.
        is_closed: Whether a ``closed`` entry stands after the last terms.
        is_opened: Whether the log has its last entry.
        rules: Who gets a ticket.
    """

    def __init__(
        self,
        call: Call,
        log: Ledger,
        refusals: Ledger,
        clock: Clock,
        *,
        error_limit_ms: int,
        report: Report | None,
    ) -> None:
        self.call = call
        self.log = log
        self.refusals = refusals
        self.is_closed = False
        self.is_opened = False
        self.rules = TicketRules(call)
        self._clock = clock

        def sequencer(name: str, ledger: Ledger) -> Sequencer:
            told = None if report is None else lambda batch: report(name, batch)
            made = Sequencer(ledger, clock, error_limit_ms=error_limit_ms, report=told)
            made.max_wait_ms = self.max_wait_ms
            return made

        self.log_sequencer = sequencer("log", log)
        self.refusals_sequencer = sequencer("refusals", refusals)

    @classmethod
    async def open(
        cls,
        call: Call,
        clock: Clock,
        *,
        error_limit_ms: int,
        report: Report | None = None,
        disk: Disk = SYSTEM_DISK,
    ) -> Self:
        """Open both ledgers and find out what is in force.

        Raises:
            UnavailableError: Another process writes them.
            StorageError: One is damaged, or terms are not in the log.
        """
        log_signer, refusals_signer = call.log_signers()
        log = await Ledger.open(call.folder.log, signer=log_signer, disk=disk, key_of=key_of)
        try:
            refusals = await Ledger.open(
                call.folder.refusals, signer=refusals_signer, disk=disk, key_of=key_of
            )
        except BaseException:
            await log.close()
            raise
        ledgers = cls(call, log, refusals, clock, error_limit_ms=error_limit_ms, report=report)
        try:
            await ledgers._recover()
        except BaseException:
            await ledgers.close()
            raise
        return ledgers

    async def _recover(self) -> None:
        wanted = [terms_key(one.hash) for one in self.call.versions]
        closing = closed_key(self.call.latest.hash)
        found = await self.log.lookup([*wanted, closing, OPENING_KEY])
        if missing := [key for key in wanted if key not in found]:
            raise StorageError(
                f"call {self.call.id}: {len(missing)} versions of its terms are not in its log",
                hint="do not continue this ledger; restore the folder from a copy",
            )
        self.is_closed = closing in found
        self.is_opened = OPENING_KEY in found

    def require_newest(self, known_size: int) -> None:
        """Accept a log that is not older than what is known of it.

        Args:
            known_size: How many of its entries the database has read.

        Raises:
            StorageError: Entries are gone: what is written next would contradict them.
        """
        if known_size > self.log.size:
            raise StorageError(
                f"call {self.call.id}: its log has {self.log.size} entries, and {known_size} "
                "were written: it is an old copy, or its disk lost some",
                hint="do not continue this ledger, it would sign a second history: restore the "
                "newest copy; if there is none, say so and open a new call",
            )

    @property
    def terms(self) -> Terms:
        """The terms in force: the latest in the log."""
        return self.call.terms

    @property
    def max_wait_ms(self) -> int:
        """How long a request may wait before it is refused unstamped."""
        return self.terms.grace_ms // 2

    @property
    def closes_from(self) -> UnixMillis:
        """From when the call may be closed.

        Who was received on time is stamped, or told to come again, within ``max_wait_ms``: so
        after that nobody waits any more who would be late only because of the ``closed`` entry.
        """
        return UnixMillis(latest_on_time(self.terms) + self.max_wait_ms + 1)

    def checkpoint(self) -> bytes:
        """The newest checkpoint of the log, which has at least its terms."""
        note = self.log.checkpoint()
        if note is None:
            raise StorageError(f"call {self.call.id}: its log is empty")
        return note

    async def find_ticket(self, commitment: bytes) -> Appended | None:
        """The ticket of a commitment."""
        return await self.log.find(ticket_key(commitment))

    async def find_terms(self, terms_hash: bytes) -> Appended | None:
        """The entry of a version of the terms."""
        return await self.log.find(terms_key(terms_hash))

    async def find_closed(self) -> Appended | None:
        """The ``closed`` entry that no later terms reopened."""
        return await self.log.find(closed_key(self.call.latest.hash))

    async def find_opening(self) -> Appended | None:
        """The ``opening`` entry."""
        return await self.log.find(OPENING_KEY)

    async def append_closed(self) -> Appended:
        """The ``closed`` entry after the last terms, written if there is none.

        Raises:
            NotOpenError: It is too early: closing would shorten the deadline.
            UnavailableError: The ledger cannot stamp.
        """
        if found := await self.find_closed():
            return found
        now = self._clock.now()
        if now < self.closes_from:
            first = format_rfc3339(self.closes_from)
            raise NotOpenError(
                f"call {self.call.id}: it takes tickets, and is closed from {first} on",
                hint=f"nothing has to be done: serve closes it; or try again at {first}",
            )
        terms = self.terms

        def build(time: UnixMillis) -> bytes:
            # The clock may have gone back since: a closed entry that is on time would be a lie.
            if is_on_time(time, terms):
                raise NotOpenError(f"call {self.call.id}: it still takes tickets")
            origin = str(self.call.origin)
            return ClosedEntry(origin=origin, time=time, digest=terms.hash).encode()

        def note(_: Appended) -> None:
            self.is_closed = True

        draft = Draft(closed_key(terms.hash), now, build, is_barrier=True, on_durable=note)
        closed = await self.log_sequencer.submit(draft)
        await self._publish_newest()
        return closed

    async def append_opening(self) -> Appended:
        """The ``opening`` entry, written if there is none.

        Raises:
            NotOpenError: No ``closed`` entry stands after the last terms.
            UnavailableError: The ledger cannot stamp.
        """
        if found := await self.find_opening():
            return found
        if not self.is_closed:
            raise NotOpenError(
                f"call {self.call.id}: it is not closed",
                hint="serve closes it, or bistro-server call close",
            )
        terms = self.terms

        def build(time: UnixMillis) -> bytes:
            origin = str(self.call.origin)
            return OpeningEntry(origin=origin, time=time, digest=terms.hash).encode()

        def note(_: Appended) -> None:
            self.is_opened = True

        draft = Draft(OPENING_KEY, self._clock.now(), build, is_barrier=True, on_durable=note)
        opening = await self.log_sequencer.submit(draft)
        await self._publish_newest()
        return opening

    async def _publish_newest(self) -> None:
        """Publish the newest checkpoint of both ledgers, or some seconds later on a full disk."""
        # A crash here is made good by the next start, within seconds.
        with suppress(UnavailableError):
            await self.log.publish_checkpoint()
            await self.refusals.publish_checkpoint()

    async def run(self) -> None:
        """Stamp until cancelled.

        Raises:
            StorageError: A ledger has stopped: its disk failed or the clock was set.
        """
        async with supervise.task_group() as group:
            group.create_task(self.log_sequencer.run())
            group.create_task(self.refusals_sequencer.run())
            group.create_task(self._publish_checkpoints())

    async def _publish_checkpoints(self) -> None:
        while True:
            await asyncio.sleep(PUBLISH_EVERY_S)
            await self._publish_newest()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Stamp for as long as the block runs, for processes that are no daemon."""
        async with supervise.task_group() as group:
            task = group.create_task(self.run())
            try:
                yield
            finally:
                task.cancel()

    def require_ready(self) -> None:
        """Accept a call whose ledgers take entries.

        Raises:
            UnavailableError: One of them has stopped.
        """
        for ledger in (self.log, self.refusals):
            if ledger.failure is not None:
                raise UnavailableError(f"ledger {ledger.origin} has stopped: {ledger.failure}")

    async def close(self) -> None:
        """Give both ledgers back."""
        try:
            await self.log.close()
        finally:
            await self.refusals.close()


async def begin_log(call: Call, clock: Clock, *, error_limit_ms: int) -> Appended:
    """Write version 1 of the terms as entry 0 of a new call's log, and make both ledgers.

    Args:
        call: Not yet visible to anybody.
        clock: Stamps.
        error_limit_ms: The largest clock error with which to stamp.

    Raises:
        ConflictError: The log has entries.
        UnavailableError: The clock may not stamp.
    """
    log_signer, refusals_signer = call.log_signers()
    await (await Ledger.open(call.folder.refusals, signer=refusals_signer)).close()
    log = await Ledger.open(call.folder.log, signer=log_signer)
    try:
        if log.size:
            raise ConflictError(
                f"{call.folder.log}: expected a new ledger, found {log.size} entries"
            )
        sequencer = Sequencer(log, clock, error_limit_ms=error_limit_ms)

        def build(time: UnixMillis) -> bytes:
            origin = str(call.origin)
            return TermsEntry(origin=origin, time=time, digest=call.latest.hash).encode()

        draft = Draft(terms_key(call.latest.hash), clock.now(), build, is_barrier=True)
        async with supervise.task_group() as group:
            task = group.create_task(sequencer.run())
            try:
                return await sequencer.submit(draft)
            finally:
                task.cancel()
    finally:
        await log.close()
