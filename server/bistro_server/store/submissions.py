"""Submissions and where they stand, shared by ``serve``, ``collect`` and ``open``.

A state only goes forward, whoever reports it and however often:

| state | may become |
|---|---|
| ticketed | staged, collected, opened, lapsed |
| staged | collected, opened |
| collected | opened |
| opened, lapsed | nothing |

A row that says no more than the ticket does has no status: at a deadline there are many, and
nobody learns anything from a note about one. Whatever else is learnt changes the row, and marks
its signed status as unpublished in the same transaction; ``publish``
then writes the status file inside a transaction of its own. So a status never says what is not
durable, two processes never overwrite a newer one with an older, and a crash between the two
leaves a mark that the next ``publish`` acts upon.

Functions that take a ``Transaction`` are for callers with more to write in the same one.

Source: docs/spec/opening.md, status; docs/spec/staging.md, presenting receipts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from bistro.clock import Clock
from bistro.crypto.signing import SigningKey
from bistro.errors import ConflictError, UnknownObjectError
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.storage.database import Database, Row, Transaction
from bistro.storage.durable import waiting_for_room
from bistro.wire.status import Status
from bistro_server.store.matching import matching, require_place
from bistro_server.store.status_files import StatusFiles

MAX_ROWS: Final = 1_000
PUBLISH_COUNT: Final = 128
"""Statuses that one transaction publishes: others wait for it meanwhile."""

_BEFORE: Final = {
    "staged": ("ticketed",),
    "collected": ("ticketed", "staged"),
    "opened": ("ticketed", "staged", "collected"),
    "lapsed": ("ticketed",),
}
_COLUMNS: Final = "id, call, commitment, log_index, ticketed_at, state, updated_at, layout, needed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticketed:
    """A ticket of the call's log, to be known as a submission.

    Attributes:
        commitment: What was stamped.
        log_index: The ticket's place in the call's log.
        ticketed_at: Its effective time.
    """

    commitment: bytes
    log_index: int
    ticketed_at: UnixMillis


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A row of ``submission``.

    Attributes:
        id: For joins within the database; means nothing outside.
        layout: The encoded layout, once a claim was verified.
        needed: k of that layout.
    """

    id: int
    call: str
    commitment: bytes
    log_index: int
    ticketed_at: UnixMillis
    state: str
    updated_at: UnixMillis
    layout: bytes | None
    needed: int | None

    @classmethod
    def of(cls, row: Row) -> Self:
        """The submission in a row of ``_COLUMNS``."""
        return cls(**dict(row))


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFragment:
    """A fragment that a relay promised to hold, verified against the commitment.

    Attributes:
        index: Which fragment.
        relay: The relay's name.
        claim: The encoded claim.
        layout: The encoded layout of the claim, and its ``k`` as ``needed``.
        header_leaf: Leaf hash of the header, from the claim.
        receipt: The receipt presented; ``None`` if the relay listed it.
        dated_at: Time of the receipt; of a row listed, when it was seen.
        hold_until: Until when the relay holds it.
    """

    index: int
    relay: str
    claim: bytes
    layout: bytes
    needed: int
    header_leaf: bytes
    receipt: str | None = None
    dated_at: UnixMillis
    hold_until: UnixMillis


async def add_ticket(tx: Transaction, call: str, ticket: Ticketed, *, now: UnixMillis) -> int:
    """The id of the submission, which is made if the ticket was not known.

    Raises:
        StorageError: The database has something else at its place.
    """
    async with matching(tx, call, [ticket]):
        rows = await tx.fetch_all(
            "INSERT INTO submission "
            "(call, commitment, log_index, ticketed_at, updated_at, is_published) "
            "VALUES (?, ?, ?, ?, ?, 1) ON CONFLICT (call, commitment) "
            "DO UPDATE SET commitment = commitment RETURNING id, log_index",
            (call, ticket.commitment, ticket.log_index, ticket.ticketed_at, now),
        )
    require_place(call, ticket, int(rows[0]["log_index"]))
    return int(rows[0]["id"])


async def add_fragment(
    tx: Transaction, submission_id: int, fragment: KnownFragment, *, now: UnixMillis
) -> None:
    """Record a fragment; what is known of it already stays, earliest times and receipt kept.

    A fragment that was ``lost`` at this relay is ``announced`` again; ``wrong`` stays.
    """
    await tx.execute(
        "UPDATE submission SET layout = ?, header_leaf = ?, needed = ? "
        "WHERE id = ? AND layout IS NULL",
        (fragment.layout, fragment.header_leaf, fragment.needed, submission_id),
    )
    await tx.execute(
        "INSERT INTO fragment (submission, fragment_index, relay, claim, receipt, dated_at, "
        "seen_at, hold_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (submission, fragment_index, relay) DO UPDATE SET "
        "receipt = coalesce(receipt, excluded.receipt), "
        "dated_at = min(dated_at, excluded.dated_at), "
        "hold_until = max(hold_until, excluded.hold_until), "
        "fate = CASE fate WHEN 'lost' THEN 'announced' ELSE fate END",
        (
            submission_id,
            fragment.index,
            fragment.relay,
            fragment.claim,
            fragment.receipt,
            fragment.dated_at,
            now,
            fragment.hold_until,
        ),
    )
    await tx.execute(
        "UPDATE submission SET is_published = 0, updated_at = ? WHERE id = ?",
        (now, submission_id),
    )


async def count_timely(tx: Transaction, submission_id: int, *, stage_by: UnixMillis) -> int:
    """How many distinct fragments are dated and were seen by ``stage_by``."""
    row = await tx.fetch_one(
        "SELECT count(DISTINCT fragment_index) FROM fragment "
        "WHERE submission = ? AND dated_at <= ? AND seen_at <= ?",
        (submission_id, stage_by, stage_by),
    )
    return int(row[0]) if row is not None else 0


async def count_known(tx: Transaction, submission_id: int) -> int:
    """How many distinct fragments are known to be, or to have been, at a relay."""
    row = await tx.fetch_one(
        "SELECT count(DISTINCT fragment_index) FROM fragment WHERE submission = ?",
        (submission_id,),
    )
    return int(row[0]) if row is not None else 0


async def advance(tx: Transaction, submission_id: int, state: str, *, now: UnixMillis) -> bool:
    """Move a submission forward to ``state``; whether that changed anything.

    A state that lies behind the present one changes nothing, so reports may be repeated and
    may come late.
    """
    marks = ", ".join("?" * len(_BEFORE[state]))
    count = await tx.execute(
        "UPDATE submission SET state = ?, updated_at = ?, is_published = 0 "  # noqa: S608 - marks
        f"WHERE id = ? AND state IN ({marks})",
        (state, now, submission_id, *_BEFORE[state]),
    )
    return count > 0


async def advance_if_staged(
    tx: Transaction, submission_id: int, *, stage_by: UnixMillis, now: UnixMillis
) -> bool:
    """Move to ``staged`` once k fragments count; whether the submission is staged (or further).

    Raises:
        UnknownObjectError: There is no such submission.
    """
    row = await tx.fetch_one("SELECT state, needed FROM submission WHERE id = ?", (submission_id,))
    if row is None:
        raise UnknownObjectError(f"there is no submission {submission_id}")
    if row["state"] == "ticketed" and row["needed"] is not None:
        timely = await count_timely(tx, submission_id, stage_by=stage_by)
        if timely >= row["needed"]:
            return await advance(tx, submission_id, "staged", now=now)
    return row["state"] not in {"ticketed", "lapsed"}


class Submissions:
    """Reads and single changes, each its own transaction.

    Args:
        database: From ``schema.open_database``.
        statuses: Where signed statuses are written.
        clock: Dates the changes.
    """

    def __init__(self, database: Database, statuses: StatusFiles, clock: Clock) -> None:
        self.database = database
        self.statuses = statuses
        self._clock = clock

    async def get(self, call: str, commitment: bytes) -> Submission:
        """The submission of a commitment.

        Raises:
            UnknownObjectError: No ticket of this commitment is known here yet.
        """
        row = await self.database.fetch_one(
            f"SELECT {_COLUMNS} FROM submission WHERE call = ? AND commitment = ?",  # noqa: S608
            (call, commitment),
        )
        if row is None:
            raise UnknownObjectError(f"call {call}: no submission {commitment.hex()}")
        return Submission.of(row)

    async def count_by_state(self, call: str) -> dict[str, int]:
        """How many submissions of the call are in each state; states without any are left out."""
        rows = await self.database.fetch_all(
            "SELECT state, count(*) AS found FROM submission WHERE call = ? GROUP BY state",
            (call,),
        )
        return {str(row["state"]): int(row["found"]) for row in rows}

    async def tailed(self, call: str) -> int:
        """How many entries of the call's log are known as submissions."""
        row = await self.database.fetch_one("SELECT tailed FROM call WHERE call = ?", (call,))
        return 0 if row is None else int(row["tailed"])

    async def record_tickets(self, call: str, tickets: Sequence[Ticketed], *, tailed: int) -> None:
        """Make rows of tickets, and remember durably how far the log has been read.

        Raises:
            StorageError: The database has something else at the place of one.
        """
        now = self._clock.now()
        async with self.database.transaction() as tx:
            async with matching(tx, call, tickets):
                await tx.execute_many(
                    "INSERT INTO submission "
                    "(call, commitment, log_index, ticketed_at, updated_at, is_published) "
                    "VALUES (?, ?, ?, ?, ?, 1) ON CONFLICT (call, commitment) DO NOTHING",
                    [
                        (call, ticket.commitment, ticket.log_index, ticket.ticketed_at, now)
                        for ticket in tickets
                    ],
                )
            await tx.execute(
                "INSERT INTO call (call, tailed) VALUES (?, ?) "
                "ON CONFLICT (call) DO UPDATE SET tailed = max(tailed, excluded.tailed)",
                (call, tailed),
            )

    async def lapse(self, call: str, *, stage_by: UnixMillis) -> int:
        """Mark what was not staged by ``stage_by`` as lapsed; how many.

        The clock is read inside the transaction, as it is where fragments are recorded: what
        was seen in time was committed before this begins.

        Raises:
            ConflictError: ``stage_by`` has not passed.
        """
        async with self.database.transaction() as tx:
            now = self._clock.now()
            if now <= stage_by:
                raise ConflictError(f"call {call}: expected stage_by {stage_by} to have passed")
            return await tx.execute(
                "UPDATE submission SET state = 'lapsed', updated_at = ?, is_published = 0 "
                "WHERE call = ? AND state = 'ticketed'",
                (now, call),
            )

    async def publish(self, origin: Origin, key: SigningKey) -> int:
        """Write the signed status of submissions whose status on disk is behind; how many.

        Args:
            origin: The call.
            key: The call's status key.

        Returns:
            At most ``PUBLISH_COUNT``; call again until it is 0.

        Raises:
            UnavailableError: The disk is full, or another process holds the database.
            StorageError: The disk failed. With either some files may be written; the rows stay
                marked, the next call repeats.
        """
        async with self.database.transaction() as tx:
            rows = await tx.fetch_all(
                f"SELECT {_COLUMNS} FROM submission WHERE call = ? AND is_published = 0 "  # noqa: S608
                "ORDER BY id LIMIT ?",
                (origin.call, PUBLISH_COUNT),
            )
            notes = {
                bytes(row["commitment"]): (await _status(tx, origin, Submission.of(row))).sign(key)
                for row in rows
            }
            if notes:
                # A crash here leaves newer files than marks: they are written again, the same.
                with waiting_for_room("statuses"):
                    await asyncio.to_thread(self.statuses.write_all, origin.call, notes)
                await tx.execute_many(
                    "UPDATE submission SET is_published = 1 WHERE id = ?",
                    [(row["id"],) for row in rows],
                )
            return len(notes)


async def _status(tx: Transaction, origin: Origin, submission: Submission) -> Status:
    rows = await tx.fetch_all(
        "SELECT DISTINCT fragment_index FROM fragment WHERE submission = ? ORDER BY fragment_index",
        (submission.id,),
    )
    return Status(
        origin=origin,
        commitment=submission.commitment,
        state=submission.state,
        ticketed_at=submission.ticketed_at,
        index=submission.log_index,
        updated_at=submission.updated_at,
        fragments=tuple(int(row[0]) for row in rows),
        needed=submission.needed,
    )
