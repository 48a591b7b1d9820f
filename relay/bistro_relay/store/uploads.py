"""Rows of uploads: what was claimed, how far it came, and what was promised.

Source: docs/spec/staging.md, states of an upload.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.protocol.transfer import Transfer, TransferState
from bistro.storage.database import Database, Row
from bistro.wire.claim import Claim
from bistro.wire.staging import StagedRow
from bistro_relay.store.shared import Place, Wanted

_COLUMNS: Final = (
    "id, server, call, commitment, fragment, claim, size, fragment_hash, state, offset, "
    "expires_at, hold_until, segment, place"
)
SELECT: Final = f"SELECT {_COLUMNS} FROM upload"  # noqa: S608 - a constant
INSERT: Final = (
    f"INSERT INTO upload ({_COLUMNS}, changed_at) "  # noqa: S608 - a constant
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload of one fragment.

    Attributes:
        id: Random, ours.
        origin: The call.
        commitment: The submission.
        index: Which fragment of it.
        claim: Encoded, verified.
        transfer: Where it stands.
        place: Its record in a shared segment; None: its segment is its own.
    """

    id: str
    origin: Origin
    commitment: bytes
    index: int
    claim: bytes
    transfer: Transfer
    place: Place | None = None

    @classmethod
    def of(cls, upload_id: str, claim: Claim, encoded: bytes, transfer: Transfer) -> Upload:
        """The upload of a verified claim, as it was encoded."""
        return cls(
            upload_id,
            claim.origin,
            claim.commitment,
            claim.descriptor.index,
            encoded,
            transfer,
        )

    def with_transfer(self, transfer: Transfer) -> Upload:
        """The same upload, further on."""
        return replace(self, transfer=transfer)

    @property
    def record(self) -> Wanted | None:
        """What must be found at its place in a shared segment, if it has one."""
        return None if self.place is None else Wanted(self.place, self.claim, self.transfer.size)


def read_upload(row: Row) -> Upload:
    """The upload that a row of all columns describes."""
    until, segment = row["hold_until"], row["segment"]
    return Upload(
        id=row["id"],
        origin=Origin(row["server"], row["call"]),
        commitment=row["commitment"],
        index=row["fragment"],
        claim=row["claim"],
        transfer=Transfer(
            size=row["size"],
            fragment_hash=row["fragment_hash"],
            expires_at=UnixMillis(row["expires_at"]),
            offset=row["offset"],
            state=TransferState(row["state"]),
            hold_until=None if until is None else UnixMillis(until),
        ),
        place=None if segment is None else Place(segment, row["place"]),
    )


def upload_values(upload: Upload, now: UnixMillis) -> Sequence[object]:
    """The values of ``INSERT``, in order."""
    transfer, place = upload.transfer, upload.place
    return (
        upload.id,
        upload.origin.server,
        upload.origin.call,
        upload.commitment,
        upload.index,
        upload.claim,
        transfer.size,
        transfer.fragment_hash,
        transfer.state.value,
        transfer.offset,
        transfer.expires_at,
        transfer.hold_until,
        None if place is None else place.segment,
        None if place is None else place.offset,
        now,
    )


@dataclass(frozen=True, slots=True)
class Tally:
    """How much of one call is in one state."""

    origin: Origin
    state: TransferState
    count: int
    size: int
    durable_size: int


class UploadStore:
    """The rows of all uploads.

    Args:
        database: Open, with this relay's schema.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, upload: Upload, *, now: UnixMillis) -> None:
        """Record a new upload, durably.

        Raises:
            ConflictError: It is not in state receiving, and its fragment has a custody already.
        """
        async with self._database.transaction() as tx:
            await tx.execute(INSERT, upload_values(upload, now))

    async def update(self, *uploads: Upload, now: UnixMillis) -> None:
        """Record where uploads stand, durably, all or none; held ones get a cursor.

        A row that has ended is left as it is.

        A crash before this returns leaves all as they were, or all as they are now.

        Raises:
            ConflictError: A fragment would get a second custody.
        """
        rows = [
            (
                one.transfer.state.value,
                one.transfer.offset,
                one.transfer.expires_at,
                one.transfer.hold_until,
                now,
                one.id,
            )
            for one in uploads
        ]
        held = [
            (one.id, one.origin.server, one.origin.call, one.id)
            for one in uploads
            if one.transfer.state is TransferState.HELD
        ]
        ended = [one for one in uploads if one.transfer.state.is_final]
        async with self._database.transaction() as tx:
            await tx.execute_many(
                "UPDATE upload SET state = ?, offset = ?, expires_at = ?, hold_until = ?, "
                "changed_at = ? "
                "WHERE id = ? AND state NOT IN ('released', 'expired', 'terminated')",
                rows,
            )
            if held:
                # Only what is held: a slow twin must not show again what was released meanwhile.
                await tx.execute_many(
                    "INSERT INTO staged (upload, server, call) SELECT ?, ?, ? FROM upload "
                    "WHERE id = ? AND state = 'held' ON CONFLICT (upload) DO NOTHING",
                    held,
                )
            if ended:
                await tx.execute_many(
                    "DELETE FROM staged WHERE upload = ?", [(one.id,) for one in ended]
                )

    async def find(self, upload_id: str) -> Upload | None:
        """The upload of that id."""
        row = await self._database.fetch_one(f"{SELECT} WHERE id = ?", (upload_id,))
        return None if row is None else read_upload(row)

    async def find_all(self, upload_ids: Sequence[str]) -> list[Upload]:
        """The uploads of these ids that there are, in no order."""
        found: list[Upload] = []
        for at in range(0, len(upload_ids), _PAGE):
            some = upload_ids[at : at + _PAGE]
            marks = ", ".join("?" * len(some))
            rows = await self._database.fetch_all(f"{SELECT} WHERE id IN ({marks})", some)
            found += map(read_upload, rows)
        return found

    async def find_custody(self, origin: Origin, commitment: bytes, index: int) -> Upload | None:
        """The one upload of a fragment that is complete, held or released."""
        row = await self._database.fetch_one(
            f"{SELECT} WHERE server = ? AND call = ? AND commitment = ? AND fragment = ? "
            "AND state IN ('complete', 'held', 'released')",
            (origin.server, origin.call, commitment, index),
        )
        return None if row is None else read_upload(row)

    async def list_named(self, prefix: str) -> list[Upload]:
        """Uploads with segments of their own whose ids begin with two hexadecimal digits."""
        rows = await self._database.fetch_all(
            f"{SELECT} WHERE id >= ? AND id < ? AND segment IS NULL", (prefix, prefix + "g")
        )
        return [read_upload(row) for row in rows]

    async def list_complete(self) -> list[Upload]:
        """Some uploads that still lack their receipt."""
        return await self._page("upload_complete", "state = 'complete'", ())

    async def list_expired(self, now: UnixMillis) -> list[Upload]:
        """Some incomplete uploads whose time is over, then held ones whose hold is over."""
        late = await self._page(
            "upload_receiving", "state = 'receiving' AND expires_at < ?", (now,)
        )
        return late or await self._page("upload_holds", "state = 'held' AND hold_until < ?", (now,))

    async def last_hold(self) -> UnixMillis | None:
        """When the last hold ends of all that last; None: nothing is held."""
        row = await self._database.fetch_one(
            "SELECT MAX(hold_until) AS until FROM upload INDEXED BY upload_holds "
            "WHERE state = 'held'"
        )
        until = None if row is None else row["until"]
        return None if until is None else UnixMillis(until)

    async def last_hold_of_ended(self, origin: Origin) -> UnixMillis | None:
        """When the last hold of a call was to end; None while anything is held or arrives."""
        row = await self._database.fetch_one(
            "SELECT MAX(hold_until) AS until, "
            "SUM(state IN ('receiving', 'complete', 'held')) AS open "
            "FROM upload WHERE server = ? AND call = ?",
            (origin.server, origin.call),
        )
        if row is None or row["open"] or row["until"] is None:
            return None
        return UnixMillis(row["until"])

    async def forget_call(self, origin: Origin, *, limit: int) -> int:
        """Delete some rows of a call whose ledger is dropped, durably; how many."""
        async with self._database.transaction() as tx:
            return await tx.execute(
                "DELETE FROM upload WHERE rowid IN "
                "(SELECT rowid FROM upload WHERE server = ? AND call = ? LIMIT ?)",
                (origin.server, origin.call, limit),
            )

    async def list_held_shorter(self, origin: Origin, until: UnixMillis) -> list[Upload]:
        """Some held fragments of a call whose hold ends before ``until``."""
        return await self._page(
            "upload_holds",
            "server = ? AND call = ? AND state = 'held' AND hold_until < ?",
            (origin.server, origin.call, until),
        )

    async def list_newest_promised(self) -> list[Upload]:
        """For each call the upload held last, and the one whose hold has ended last."""
        # SQLite takes the other columns from the row that has the maximum.
        held = await self._database.fetch_all(
            f"SELECT {_COLUMNS} FROM upload WHERE id IN (SELECT upload FROM "  # noqa: S608 - a constant
            "(SELECT upload, MAX(cursor) FROM staged GROUP BY server, call))"
        )
        ended = await self._database.fetch_all(
            f"SELECT {_COLUMNS}, MAX(changed_at) FROM upload INDEXED BY upload_ended "  # noqa: S608 - a constant
            "WHERE state IN ('released', 'expired') AND hold_until IS NOT NULL "
            "GROUP BY server, call"
        )
        return [read_upload(row) for row in (*held, *ended)]

    async def _page(self, index: str, condition: str, parameters: Sequence[object]) -> list[Upload]:
        # Named, because SQLite may take one that leads over all rows of a state.
        rows = await self._database.fetch_all(
            f"{SELECT} INDEXED BY {index} WHERE {condition} LIMIT {_PAGE}", parameters
        )
        return [read_upload(row) for row in rows]

    async def forget_ended(self, before: UnixMillis) -> int:
        """Drop rows of uploads that ended without a receipt before a time; how many."""
        async with self._database.transaction() as tx:
            return await tx.execute(
                "DELETE FROM upload INDEXED BY upload_gone "
                "WHERE state IN ('expired', 'terminated') AND hold_until IS NULL "
                "AND changed_at < ?",
                (before,),
            )

    async def count_receiving(self) -> list[tuple[Origin, bytes, int]]:
        """For each ticket how many of its uploads have begun and not ended."""
        rows = await self._database.fetch_all(
            "SELECT server, call, commitment, COUNT(*) AS count FROM upload "
            "INDEXED BY upload_receiving WHERE state = 'receiving' "
            "GROUP BY server, call, commitment"
        )
        return [
            (Origin(row["server"], row["call"]), row["commitment"], row["count"]) for row in rows
        ]

    async def staged(self, origin: Origin, *, after: int, limit: int) -> tuple[StagedRow, ...]:
        """Held fragments of a call with a cursor above ``after``, in order."""
        rows = await self._database.fetch_all(
            "SELECT s.cursor, u.claim, u.hold_until FROM staged s JOIN upload u ON u.id = s.upload "
            "WHERE s.server = ? AND s.call = ? AND s.cursor > ? ORDER BY s.cursor LIMIT ?",
            (origin.server, origin.call, after, limit),
        )
        return tuple(
            StagedRow(row["cursor"], row["claim"], UnixMillis(row["hold_until"])) for row in rows
        )

    async def tally(self) -> AsyncIterator[Tally]:
        """How much there is, by call and state."""
        rows = await self._database.fetch_all(
            "SELECT server, call, state, COUNT(*) AS count, SUM(size) AS size, "
            "SUM(offset) AS durable FROM upload GROUP BY server, call, state"
        )
        for row in rows:
            yield Tally(
                Origin(row["server"], row["call"]),
                TransferState(row["state"]),
                row["count"],
                row["size"],
                row["durable"],
            )
