"""Follows a call's log into the database, lets submissions lapse, and publishes signed statuses.

All of it is behind the tickets: what is told here is durable in the ledger already. Every step
may be repeated, so a crash anywhere is made good by the next round.

Source: docs/spec/opening.md, status; docs/spec/staging.md, presenting receipts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bistro.clock import Clock
from bistro.daemon import logs
from bistro.errors import BistroError
from bistro.wire.entry import PostmarkedEntry, TicketEntry, decode_entry
from bistro_server.services.ledgers import CallLedgers
from bistro_server.store.status_files import StatusFiles
from bistro_server.store.submissions import PUBLISH_COUNT, Submissions, Ticketed

_AT_ONCE: Final = 256
"""Entries of one step: no step keeps the interpreter from tickets for long."""

_log = logs.get_logger("statuses")


@dataclass(frozen=True, slots=True)
class Read:
    """A status that is being read.

    Attributes:
        future: Of the note.
        tell: Told the note, or why there is none.
    """

    future: asyncio.Future[bytes]
    tell: Callable[[bytes | BistroError], None]

    def finish(self, future: asyncio.Future[bytes]) -> None:
        """Tell who still waits."""
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self.tell(future.result())
        elif isinstance(error, BistroError):
            self.tell(error)
        else:
            raise error

    def leave(self) -> None:
        """Nobody waits any more."""
        self.future.cancel()


_LAST: Final = (b'"state":"opened"', b'"state":"lapsed"')


def is_last(note: bytes) -> bool:
    """Whether a signed status is the last that there will be of its submission."""
    return any(state in note for state in _LAST)


class StatusDesk:
    """Hands out signed notes as they lie on disk: no read signs or writes anything.

    Args:
        files: Where they lie.
    """

    def __init__(self, files: StatusFiles) -> None:
        self._files = files

    async def status(self, call: str, commitment: bytes) -> bytes:
        """The signed status of a commitment.

        Raises:
            UnknownObjectError: There is none, or none yet.
        """
        return await asyncio.to_thread(self._files.read_status, call, commitment)

    def peek(self, call: str, name: str) -> bytes | None:
        """The signed status of a commitment, as hexadecimal digits, if memory has it.

        Raises:
            UnknownObjectError: There is none, or none yet.
        """
        return self._files.peek_status(call, name)

    def ask(
        self, call: str, commitment: bytes, tell: Callable[[bytes | BistroError], None]
    ) -> Read:
        """Read the signed status of a commitment in another thread, and tell it."""
        loop = asyncio.get_running_loop()
        read = Read(loop.run_in_executor(None, self._files.read_status, call, commitment), tell)
        read.future.add_done_callback(read.finish)
        return read

    async def outcome(self, call: str, commitment: bytes, *, token: bytes) -> bytes:
        """The signed outcome of a commitment.

        Raises:
            UnknownObjectError: There is none yet, or the token is another one.
        """
        return await asyncio.to_thread(self._files.read_outcome, call, commitment, token=token)


class StatusKeeper:
    """Keeps one call's submissions and statuses in step with its log.

    Args:
        ledgers: The call's.
        submissions: Where they become rows.
        clock: Says whether ``stage_by`` has passed.
    """

    def __init__(self, ledgers: CallLedgers, submissions: Submissions, clock: Clock) -> None:
        self._ledgers = ledgers
        self._submissions = submissions
        self._clock = clock
        self._tailed: int | None = None
        self._has_lapsed = False

    async def step(self) -> bool:
        """Bring rows and statuses closer to log and clock; whether there is more to do.

        Raises:
            UnavailableError: Another process holds the database for too long.
            StorageError: The disk failed.
        """
        is_behind = await self._tail()
        await self._lapse()
        call = self._ledgers.call
        published_count = await self._submissions.publish(call.origin, call.status_key)
        return is_behind or published_count == PUBLISH_COUNT

    async def _tail(self) -> bool:
        call, log = self._ledgers.call, self._ledgers.log
        if self._tailed is None:
            self._tailed = await self._submissions.tailed(call.id)
        if self._tailed == log.size:
            return False
        stop = min(log.size, self._tailed + _AT_ONCE)
        entries = enumerate(log.entries(self._tailed, stop), self._tailed)
        tickets = await asyncio.to_thread(lambda: [_ticketed(*entry) for entry in entries])
        # A crash before this is durable reads the same entries again.
        await self._submissions.record_tickets(call.id, list(filter(None, tickets)), tailed=stop)
        self._tailed = stop
        return stop < log.size

    async def _lapse(self) -> None:
        """After ``stage_by``; the log is closed by then, and its last ticket is a row."""
        call = self._ledgers.call
        stage_by = call.terms.stage_by
        is_due = self._ledgers.is_closed and self._clock.now() > stage_by
        if self._has_lapsed or not is_due or self._tailed != self._ledgers.log.size:
            return
        count = await self._submissions.lapse(call.id, stage_by=stage_by)
        self._has_lapsed = True
        if count:
            _log.info("submissions_lapsed", call=call.id, lapsed_count=count)


def _ticketed(index: int, data: bytes) -> Ticketed | None:
    entry = decode_entry(data)
    if isinstance(entry, TicketEntry):
        return Ticketed(commitment=entry.digest, log_index=index, ticketed_at=entry.time)
    if isinstance(entry, PostmarkedEntry):
        return Ticketed(commitment=entry.digest, log_index=index, ticketed_at=entry.at)
    return None
