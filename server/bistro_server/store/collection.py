# ruff: noqa: S608 - what is put into statements are constants of this module and marks
"""What ``collect`` knows of fragments and envelopes, and how it changes.

Each method is one transaction that may be repeated with the same effect, so a crash between two
of them repeats work and never loses or doubles any. A submission is collected exactly when it
has a row in ``envelope``; it is concluded when it has that or an outcome.

Source: docs/spec/collection.md.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from bistro.clock import Clock
from bistro.errors import UnavailableError
from bistro.instant import UnixMillis
from bistro.protocol.collection import Collection, Source
from bistro.storage.database import Database, Row, Transaction
from bistro.wire.claim import Claim
from bistro.wire.fragment import Descriptor, Layout
from bistro_server.store.submissions import (
    KnownFragment,
    Ticketed,
    add_fragment,
    add_ticket,
    advance,
    advance_if_staged,
)

T = TypeVar("T")
Fate = Literal["announced", "verified", "lost", "wrong"]

ROWS_AT_ONCE: Final = 200
"""Rows that one transaction records: ``serve`` waits for it meanwhile."""
_ATTEMPTS: Final = 12

NOT_CONCLUDED: Final = (
    "NOT EXISTS (SELECT 1 FROM envelope WHERE envelope.submission = s.id) "
    "AND NOT EXISTS (SELECT 1 FROM outcome WHERE outcome.submission = s.id)"
)


async def patiently(change: Callable[[], Awaitable[T]]) -> T:
    """Do ``change``, again while another process holds the database; it may be repeated.

    Raises:
        UnavailableError: Held for more than a minute.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return await change()
        except UnavailableError:
            # The driver has waited for its busy timeout; let the holder finish.
            await asyncio.sleep(0)
    return await change()


@dataclass(frozen=True, slots=True)
class FragmentRow:
    """What is known of one fragment at one relay."""

    source: Source
    fate: Fate


@dataclass(frozen=True, slots=True)
class Staged:
    """A staged submission that is not concluded.

    Attributes:
        id: For joins within the database.
        commitment: The submission.
        log_index: Its ticket's place in the log.
        header_leaf: What its commitment binds as header.
        layout: How its envelope was cut.
        fragments: Everything known of its fragments.
    """

    id: int
    commitment: bytes
    log_index: int
    header_leaf: bytes
    layout: Layout
    fragments: tuple[FragmentRow, ...] = field(default=())

    def collection(self) -> Collection:
        """Where collecting it stands."""
        rows = self.fragments
        return Collection(
            k=self.layout.k,
            n=self.layout.n,
            sources=frozenset(row.source for row in rows),
            verified=frozenset(row.source.index for row in rows if row.fate == "verified"),
            lost=frozenset(row.source for row in rows if row.fate in {"lost", "wrong"}),
        )


class CollectionStore:
    """The database as ``collect`` uses it.

    Args:
        database: The server's, shared with other processes.
        clock: Dates the changes.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self._clock = clock

    async def cursor(self, call: str, relay: str) -> int:
        """How far the relay's list has been read durably; 0 at the beginning."""
        row = await self.database.fetch_one(
            "SELECT cursor FROM relay_cursor WHERE call = ? AND relay = ?", (call, relay)
        )
        return 0 if row is None else int(row["cursor"])

    async def record_rows(
        self,
        call: str,
        relay: str,
        rows: Sequence[tuple[Ticketed, KnownFragment]],
        *,
        cursor: int,
        stage_by: UnixMillis,
    ) -> None:
        """Record verified rows of a relay's list, and that it was read up to ``cursor``."""

        async def change() -> None:
            async with self.database.transaction() as tx:
                # Read here, so that whatever is seen in time was committed before any lapse.
                now = self._clock.now()
                for ticket, fragment in rows:
                    found = await add_ticket(tx, call, ticket, now=now)
                    await add_fragment(tx, found, fragment, now=now)
                    await advance_if_staged(tx, found, stage_by=stage_by, now=now)
                await tx.execute(
                    "INSERT INTO relay_cursor (call, relay, cursor) VALUES (?, ?, ?) "
                    "ON CONFLICT (call, relay) DO UPDATE SET cursor = max(cursor, excluded.cursor)",
                    (call, relay, cursor),
                )

        await patiently(change)

    async def staged(self, call: str, *, after_index: int, limit: int) -> list[Staged]:
        """Staged submissions that are not concluded, in the order of the log."""
        rows = await self.database.fetch_all(
            "SELECT id, commitment, log_index, header_leaf, layout FROM submission AS s "
            "WHERE call = ? AND state = 'staged' AND log_index > ? AND layout IS NOT NULL "
            f"AND {NOT_CONCLUDED} ORDER BY log_index LIMIT ?",
            (call, after_index, limit),
        )
        fragments = await self._fragments([int(row["id"]) for row in rows])
        return [_staged(row, fragments[int(row["id"])]) for row in rows]

    async def reload(self, submission: int) -> Staged | None:
        """One submission read anew; ``None`` once it is concluded."""
        row = await self.database.fetch_one(
            "SELECT id, commitment, log_index, header_leaf, layout FROM submission AS s "
            f"WHERE id = ? AND state = 'staged' AND layout IS NOT NULL AND {NOT_CONCLUDED}",
            (submission,),
        )
        if row is None:
            return None
        return _staged(row, (await self._fragments([submission]))[submission])

    async def _fragments(self, ids: Sequence[int]) -> dict[int, list[FragmentRow]]:
        found: dict[int, list[FragmentRow]] = defaultdict(list)
        marks = ", ".join("?" * len(ids))
        rows = await self.database.fetch_all(
            "SELECT submission, fragment_index, relay, fate FROM fragment "
            f"WHERE submission IN ({marks})",
            tuple(ids),
        )
        for row in rows:
            source = Source(int(row["fragment_index"]), str(row["relay"]))
            known = FragmentRow(source, row["fate"])
            found[int(row["submission"])].append(known)
        return found

    async def descriptor(self, submission: int, source: Source) -> Descriptor:
        """What the claim of a known fragment says that it is."""
        row = await self.database.fetch_one(
            "SELECT claim FROM fragment WHERE submission = ? AND fragment_index = ? AND relay = ?",
            (submission, source.index, source.relay),
        )
        if row is None:
            raise KeyError(source)
        return Claim.decode(bytes(row["claim"])).descriptor

    async def promise(self, submission: int, source: Source) -> tuple[bytes, str | None]:
        """The claim of a known fragment, and the relay's receipt if one was presented."""
        row = await self.database.fetch_one(
            "SELECT claim, receipt FROM fragment "
            "WHERE submission = ? AND fragment_index = ? AND relay = ?",
            (submission, source.index, source.relay),
        )
        if row is None:
            raise KeyError(source)
        return bytes(row["claim"]), row["receipt"]

    async def set_fates(self, fates: Sequence[tuple[int, Source, Fate]]) -> None:
        """Record what became of fragments; ``wrong`` stays for good."""

        async def change() -> None:
            async with self.database.transaction() as tx:
                await tx.execute_many(
                    "UPDATE fragment SET fate = ? WHERE submission = ? AND fragment_index = ? "
                    "AND relay = ? AND fate != 'wrong'",
                    [(fate, one, source.index, source.relay) for one, source, fate in fates],
                )

        if fates:
            await patiently(change)

    async def record_envelope(self, staged: Staged, *, blob: str, descriptors: bytes) -> bool:
        """The envelope is durable: the submission is collected; whether it still counts.

        An opening that has already decided without it stands: then nothing changes.
        """

        async def change() -> bool:
            async with self.database.transaction() as tx:
                if not await _is_open(tx, staged.id):
                    return False
                now = self._clock.now()
                await tx.execute(
                    "INSERT INTO envelope (submission, blob, size, envelope_hash, stored_at, "
                    "descriptors) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (submission) DO NOTHING",
                    (
                        staged.id,
                        blob,
                        staged.layout.envelope_size,
                        staged.layout.envelope_hash,
                        now,
                        descriptors,
                    ),
                )
                await tx.execute("DELETE FROM repair WHERE submission = ?", (staged.id,))
                await advance(tx, staged.id, "collected", now=now)
                return True

        return await patiently(change)

    async def record_inconsistent(self, staged: Staged, *, reasons: str) -> None:
        """The fragments do not belong together: void, whichever k were used."""

        async def change() -> None:
            async with self.database.transaction() as tx:
                if await _is_open(tx, staged.id):
                    await tx.execute(
                        "INSERT INTO outcome (submission, outcome, reasons, token, decided_at) "
                        "VALUES (?, 'void', ?, x'', ?)",
                        (staged.id, reasons, self._clock.now()),
                    )
                    await tx.execute("DELETE FROM repair WHERE submission = ?", (staged.id,))

        await patiently(change)

    async def set_repair(self, submission: int, indexes: Sequence[int]) -> bool:
        """Ask for these fragments again, or for none any more; whether that is news.

        A changed wish gets a new cursor, so that clients who have read the old one see it, and
        marks the status, so that clients whose status is the old one need not look for a wish.
        """
        wanted = bytes(indexes)
        row = await self.database.fetch_one(
            "SELECT indexes FROM repair WHERE submission = ?", (submission,)
        )
        if (b"" if row is None else bytes(row["indexes"])) == wanted:
            return False

        async def change() -> None:
            async with self.database.transaction() as tx:
                await tx.execute("DELETE FROM repair WHERE submission = ?", (submission,))
                if wanted:
                    await tx.execute(
                        "INSERT INTO repair (submission, indexes, asked_at) VALUES (?, ?, ?)",
                        (submission, wanted, self._clock.now()),
                    )
                    await tx.execute(
                        "UPDATE submission SET is_published = 0, "
                        "updated_at = max(updated_at + 1, ?) WHERE id = ?",
                        (self._clock.now(), submission),
                    )

        await patiently(change)
        return True

    async def silences(self, call: str) -> dict[str, UnixMillis]:
        """Relays that cannot be used, and since when."""
        rows = await self.database.fetch_all(
            "SELECT relay, since FROM relay_silence WHERE call = ? LIMIT 10000", (call,)
        )
        return {str(row["relay"]): UnixMillis(row["since"]) for row in rows}

    async def set_silence(self, call: str, relay: str, *, since: UnixMillis | None) -> None:
        """Note since when a relay cannot be used, unless that is known; None: it can be."""

        async def change() -> None:
            async with self.database.transaction() as tx:
                if since is not None:
                    await tx.execute(
                        "INSERT INTO relay_silence (call, relay, since) VALUES (?, ?, ?) "
                        "ON CONFLICT (call, relay) DO NOTHING",
                        (call, relay, since),
                    )
                else:
                    await tx.execute(
                        "DELETE FROM relay_silence WHERE call = ? AND relay = ?", (call, relay)
                    )

        await patiently(change)


async def _is_open(tx: Transaction, submission: int) -> bool:
    row = await tx.fetch_one(
        f"SELECT 1 FROM submission AS s WHERE id = ? AND {NOT_CONCLUDED}",
        (submission,),
    )
    return row is not None


def _staged(row: Row, fragments: Sequence[FragmentRow]) -> Staged:
    return Staged(
        id=int(row["id"]),
        commitment=bytes(row["commitment"]),
        log_index=int(row["log_index"]),
        header_leaf=bytes(row["header_leaf"]),
        layout=Layout.decode(bytes(row["layout"])),
        fragments=tuple(fragments),
    )
