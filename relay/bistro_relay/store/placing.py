"""Rows of small fragments: inserted by the batch, found by their places, moved.

Source: docs/spec/segments.md, the index.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Final

from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.storage.database import Database
from bistro_relay.store.shared import Place, Wanted
from bistro_relay.store.uploads import INSERT, SELECT, Upload, read_upload, upload_values

_LIVE: Final = "segment IS NOT NULL AND state IN ('complete', 'held')"
_AT_ONCE: Final = 400
"""Keys of one query: each has four parameters, and SQLite bounds their number."""

FragmentKey = tuple[bytes, int]
"""Commitment and index: what a fragment is within its call."""


@cache
def _numbered_marks(count: int) -> str:
    return ", ".join(f"({number}, ?, ?)" for number in range(count))


@dataclass(frozen=True, slots=True)
class Load:
    """What lives in a segment: fragments, and their bytes."""

    segment: int
    count: int
    size: int


@dataclass(frozen=True, slots=True)
class Move:
    """A live record that stands in another place now."""

    upload: Upload
    place: Place


class PlacedUploads:
    """The rows of fragments in shared segments.

    Args:
        database: Open, with this relay's schema.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert_held(
        self, uploads: Sequence[Upload], *, now: UnixMillis, begun: Sequence[str] = ()
    ) -> None:
        """Record fragments whose receipts are durable, and show them; all or none.

        A crash before this returns leaves none; recovery makes the rows from the records.

        Args:
            uploads: Held.
            now: Dates rows.
            begun: Ids of those that have rows already, which say less.

        Raises:
            ConflictError: One of the fragments has a custody already.
        """
        rows = [upload_values(one, now) for one in uploads]
        shown = [(one.id, one.origin.server, one.origin.call) for one in uploads]

        def insert(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "DELETE FROM upload WHERE id = ? AND state NOT IN ('complete', 'held', 'released')",
                [(one,) for one in begun],
            )
            connection.executemany(INSERT, rows)
            connection.executemany(
                "INSERT INTO staged (upload, server, call) VALUES (?, ?, ?)", shown
            )

        await self._database.run(insert)

    async def find_custodies(
        self, origin: Origin, keys: Sequence[FragmentKey]
    ) -> dict[FragmentKey, Upload]:
        """The uploads of fragments of a call that are complete, held or released."""
        found: dict[FragmentKey, Upload] = {}
        for at in range(0, len(keys), _AT_ONCE):
            some = keys[at : at + _AT_ONCE]
            parameters = [value for key in some for value in key]
            marks = ", ".join(["(?, ?)"] * len(some))
            # Joined this way round, or SQLite would look at every row of the call.
            rows = await self._database.fetch_all(
                f"WITH wanted (wanted_commitment, wanted_fragment) AS (VALUES {marks}) "
                f"{SELECT.replace('FROM upload', 'FROM wanted CROSS JOIN upload')} "
                "INDEXED BY upload_custody ON server = ? AND call = ? "
                "AND commitment = wanted_commitment AND fragment = wanted_fragment "
                "WHERE state IN ('complete', 'held', 'released')",
                (*parameters, origin.server, origin.call),
            )
            uploads = map(read_upload, rows)
            found.update({(one.commitment, one.index): one for one in uploads})
        return found

    async def find_records(
        self, origin: Origin, keys: Sequence[FragmentKey]
    ) -> list[Wanted | None]:
        """The records of fragments of a call that are held in shared segments, in order.

        None stands for any other: unknown, ended, or in a segment of its own.
        """
        found: list[Wanted | None] = []
        for at in range(0, len(keys), _AT_ONCE):
            some = keys[at : at + _AT_ONCE]
            records: list[Wanted | None] = [None] * len(some)
            # Joined this way round, or SQLite would look at every row of the call.
            rows = await self._database.fetch_all(
                "WITH wanted (number, wanted_commitment, wanted_fragment) "  # noqa: S608 - numbers
                f"AS (VALUES {_numbered_marks(len(some))}) "
                "SELECT number, segment, place, claim, size FROM wanted CROSS JOIN upload "
                "INDEXED BY upload_custody ON server = ? AND call = ? "
                "AND commitment = wanted_commitment AND fragment = wanted_fragment "
                # The first condition is the index's own, which SQLite does not infer.
                "WHERE state IN ('complete', 'held', 'released') AND state = 'held' "
                "AND segment IS NOT NULL",
                (*chain.from_iterable(some), origin.server, origin.call),
            )
            for number, segment, place, claim, size in rows:
                records[number] = Wanted(Place(segment, place), claim, size)
            found += records
        return found

    async def loads(self) -> list[Load]:
        """What lives in each segment; read from an index, whatever the number of rows."""
        rows = await self._database.fetch_all(
            "SELECT segment, COUNT(*) AS count, SUM(size) AS size "  # noqa: S608 - a constant
            f"FROM upload INDEXED BY upload_live WHERE {_LIVE} GROUP BY segment"
        )
        return [Load(row["segment"], row["count"], row["size"]) for row in rows]

    async def live_in(self, segment: int, *, limit: int) -> list[Upload]:
        """The first live fragments of a segment, in the order of their records."""
        rows = await self._database.fetch_all(
            f"{SELECT} INDEXED BY upload_live WHERE {_LIVE} AND segment = ? ORDER BY place LIMIT ?",
            (segment, limit),
        )
        return [read_upload(row) for row in rows]

    async def live_places(self, segment: int) -> frozenset[int]:
        """Offsets of all live records of a segment."""
        rows = await self._database.fetch_all(
            f"SELECT place FROM upload INDEXED BY upload_live WHERE {_LIVE} AND segment = ?",  # noqa: S608 - a constant
            (segment,),
        )
        return frozenset(row["place"] for row in rows)

    async def move(self, moves: Sequence[Move], *, now: UnixMillis) -> list[Upload]:
        """Point rows to new places, durably; the uploads whose rows did, as they are now.

        A row that ended or moved meanwhile stays as it is.
        """
        moved: list[Upload] = []
        async with self._database.transaction() as tx:
            for one in moves:
                old = one.upload.place
                rows = await tx.fetch_all(
                    f"UPDATE upload SET segment = ?, place = ?, changed_at = ? "  # noqa: S608 - a constant
                    f"WHERE id = ? AND {_LIVE} AND segment = ? AND place = ? RETURNING *",
                    (
                        one.place.segment,
                        one.place.offset,
                        now,
                        one.upload.id,
                        -1 if old is None else old.segment,
                        -1 if old is None else old.offset,
                    ),
                )
                moved += map(read_upload, rows)
        return moved

    async def settled(self) -> frozenset[int]:
        """Sealed segments of which every record has its row or is dead."""
        rows = await self._database.fetch_all("SELECT segment FROM settled")
        return frozenset(row["segment"] for row in rows)

    async def settle(self, segments: Iterable[int]) -> None:
        """Say so of further ones, durably."""
        async with self._database.transaction() as tx:
            await tx.execute_many(
                "INSERT INTO settled VALUES (?) ON CONFLICT DO NOTHING",
                [(one,) for one in segments],
            )

    async def unsettle(self, segments: Iterable[int]) -> None:
        """Say so no longer, durably: they will be written again."""
        async with self._database.transaction() as tx:
            await tx.execute_many(
                "DELETE FROM settled WHERE segment = ?", [(one,) for one in segments]
            )
