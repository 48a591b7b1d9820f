"""How every commitment of a call ended, in the order of the log, and publishing that.

Source: docs/spec/opening.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bistro.clock import Clock
from bistro.instant import UnixMillis
from bistro.protocol.opening import Reason
from bistro.storage.database import Database, Row, Transaction
from bistro.wire.document import decode_json
from bistro.wire.header import SignedHeader
from bistro_server.store.collection import patiently
from bistro_server.store.opening import PAGE_COUNT, Unpacked

_MAX_REASONS_SIZE: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one commitment of the log ended.

    Attributes:
        token: Empty where no header could be read.
        signed: The header, where one is believed.
        unpacked: What lies in the inbox, if anything does.
        descriptors: Of all fragments, encoded as one list; ``None`` if it was not collected.
        admission: With which its ticket was given, encoded; ``None`` where there is none.
    """

    submission: int
    commitment: bytes
    log_index: int
    ticketed_at: UnixMillis
    state: str
    outcome: str
    reasons: tuple[Reason, ...]
    token: bytes
    decided_at: UnixMillis
    signed: SignedHeader | None
    unpacked: Unpacked | None
    layout: bytes | None
    descriptors: bytes | None
    admission: bytes | None


class ResultStore:
    """The database as recording an opening uses it, for one call.

    Args:
        database: The server's, shared with other processes.
        call: The call id.
        clock: Dates the changes.
    """

    def __init__(self, database: Database, call: str, clock: Clock) -> None:
        self.database = database
        self._call = call
        self._clock = clock

    async def results(self, *, after_index: int) -> list[Result]:
        """The next commitments behind ``after_index`` with their outcomes, in log order."""
        rows = await self.database.fetch_all(
            "SELECT s.id, s.commitment, s.log_index, s.ticketed_at, s.state, s.layout, "
            "o.outcome, o.reasons, o.token, o.decided_at, r.signed, r.filer, r.is_unpacked, "
            "r.form, r.file_count, r.size, envelope.descriptors, a.data AS admission "
            "FROM submission AS s JOIN outcome AS o ON o.submission = s.id "
            "LEFT JOIN reading AS r ON r.submission = s.id "
            "LEFT JOIN envelope ON envelope.submission = s.id "
            "LEFT JOIN admission AS a ON a.call = s.call AND a.log_index = s.log_index "
            "WHERE s.call = ? AND s.log_index > ? ORDER BY s.log_index LIMIT ?",
            (self._call, after_index, PAGE_COUNT),
        )
        return [_result(row) for row in rows]

    async def receipts(self, submission: int) -> list[str]:
        """The receipts that were presented for a submission."""
        rows = await self.database.fetch_all(
            "SELECT receipt FROM fragment WHERE submission = ? AND receipt IS NOT NULL "
            "ORDER BY fragment_index, relay LIMIT 1000",
            (submission,),
        )
        return [str(row["receipt"]) for row in rows]

    async def counts(self) -> dict[str, int]:
        """How many submissions of the call have each outcome."""
        rows = await self.database.fetch_all(
            "SELECT o.outcome, count(*) AS found FROM outcome AS o "
            "JOIN submission AS s ON s.id = o.submission WHERE s.call = ? GROUP BY o.outcome",
            (self._call,),
        )
        return {str(row["outcome"]): int(row["found"]) for row in rows}

    async def mark_opened(self, submissions: Sequence[int]) -> None:
        """The public state of what was not lapsed becomes ``opened``."""

        async def change() -> None:
            async with self.database.transaction() as tx:
                await _mark_opened(tx, submissions, self._clock.now())

        await patiently(change)


async def _mark_opened(tx: Transaction, submissions: Sequence[int], now: UnixMillis) -> None:
    await tx.execute_many(
        "UPDATE submission SET state = 'opened', updated_at = ?, is_published = 0 "
        "WHERE id = ? AND state IN ('staged', 'collected')",
        [(now, one) for one in submissions],
    )


def _decode_reasons(text: str) -> tuple[Reason, ...]:
    found = decode_json(text.encode(), _MAX_REASONS_SIZE)
    items = found if isinstance(found, list) else []
    return tuple(Reason(item["code"], item["text"]) for item in items)


def _result(row: Row) -> Result:
    is_believed = row["filer"] is not None
    return Result(
        submission=int(row["id"]),
        admission=row["admission"],
        commitment=bytes(row["commitment"]),
        log_index=int(row["log_index"]),
        ticketed_at=UnixMillis(row["ticketed_at"]),
        state=str(row["state"]),
        outcome=str(row["outcome"]),
        reasons=_decode_reasons(str(row["reasons"])),
        token=bytes(row["token"]),
        decided_at=UnixMillis(row["decided_at"]),
        signed=SignedHeader.decode(bytes(row["signed"])) if is_believed else None,
        unpacked=Unpacked(row["form"], int(row["file_count"]), int(row["size"]))
        if row["is_unpacked"]
        else None,
        layout=None if row["layout"] is None else bytes(row["layout"]),
        descriptors=None if row["descriptors"] is None else bytes(row["descriptors"]),
    )
