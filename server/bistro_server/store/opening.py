"""What ``open`` reads and records: readings of envelopes, outcomes, and all of it in log order.

A reading is written once; only faults that are found while unpacking are added to it. An outcome
is written once. So opening can stop anywhere, and going on decides the same.

Source: docs/spec/opening.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from bistro.clock import Clock
from bistro.instant import UnixMillis
from bistro.protocol.opening import Candidate, Fault, Outcome, Reason
from bistro.storage.database import Database, Row
from bistro.wire.document import Json, encode_json
from bistro.wire.header import SignedHeader
from bistro_server.store.collection import patiently

PAGE_COUNT: Final = 500


@dataclass(frozen=True, slots=True)
class Unread:
    """A collected envelope that opening has not looked into.

    Attributes:
        admission: With which its ticket was given, encoded; ``None`` where there is none.
    """

    submission: int
    commitment: bytes
    header_leaf: bytes
    blob: str
    envelope_hash: bytes
    admission: bytes | None


@dataclass(frozen=True, slots=True)
class Read:
    """A candidate with what is needed to unpack it and to record its outcome."""

    submission: int
    candidate: Candidate
    signed: SignedHeader
    blob: str
    envelope_hash: bytes
    is_unpacked: bool


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What lies in the inbox."""

    form: str | None
    file_count: int
    size: int


class OpeningStore:
    """The database as ``open`` uses it, for one call.

    Args:
        database: The server's, shared with other processes.
        call: The call id.
        clock: Dates outcomes.
    """

    def __init__(self, database: Database, call: str, clock: Clock) -> None:
        self.database = database
        self._call = call
        self._clock = clock

    async def freeze(self) -> None:
        """Decide about everything that was not staged, or not collected, until now.

        An envelope that is collected later does not count any more: this row stands before it.
        """
        for state, fault in (("lapsed", Fault.lapsed()), ("staged", Fault.lost())):
            reasons = encode_reasons((fault.reason,))

            async def change(
                state: str = state, fault: Fault = fault, reasons: str = reasons
            ) -> None:
                async with self.database.transaction() as tx:
                    await tx.execute(
                        "INSERT INTO outcome (submission, outcome, reasons, token, decided_at) "
                        "SELECT s.id, ?, ?, x'', ? FROM submission AS s "
                        "WHERE s.call = ? AND s.state = ? "
                        "AND NOT EXISTS (SELECT 1 FROM envelope WHERE submission = s.id) "
                        "AND NOT EXISTS (SELECT 1 FROM outcome WHERE submission = s.id)",
                        (fault.outcome.value, reasons, self._clock.now(), self._call, state),
                    )

            await patiently(change)

    async def count_unread(self) -> int:
        """How many envelopes are left for pass 1."""
        row = await self.database.fetch_one(
            "SELECT count(*) FROM envelope JOIN submission AS s ON s.id = envelope.submission "
            "WHERE s.call = ? AND NOT EXISTS (SELECT 1 FROM reading WHERE submission = s.id) "
            "AND NOT EXISTS (SELECT 1 FROM outcome WHERE submission = s.id)",
            (self._call,),
        )
        return 0 if row is None else int(row[0])

    async def unread(self) -> list[Unread]:
        """The next envelopes for pass 1, in the order of the log; none when all are read."""
        rows = await self.database.fetch_all(
            "SELECT s.id, s.commitment, s.header_leaf, envelope.blob, envelope.envelope_hash, "
            "a.data FROM envelope JOIN submission AS s ON s.id = envelope.submission "
            "LEFT JOIN admission AS a ON a.call = s.call AND a.log_index = s.log_index "
            "WHERE s.call = ? AND NOT EXISTS (SELECT 1 FROM reading WHERE submission = s.id) "
            "AND NOT EXISTS (SELECT 1 FROM outcome WHERE submission = s.id) "
            "ORDER BY s.log_index LIMIT ?",
            (self._call, PAGE_COUNT),
        )
        return [
            Unread(
                int(row["id"]),
                bytes(row["commitment"]),
                bytes(row["header_leaf"]),
                str(row["blob"]),
                bytes(row["envelope_hash"]),
                row["data"],
            )
            for row in rows
        ]

    async def record_readings(
        self, readings: Sequence[tuple[Unread, SignedHeader | None, bool, Fault | None]]
    ) -> None:
        """Record what pass 1 found: header, whether it is believed, and what is wrong."""
        rows = [
            (
                unread.submission,
                self._call,
                None if signed is None else signed.encode(),
                signed.header.filer_key if signed is not None and is_believed else None,
                signed.header.slot if signed is not None and is_believed else None,
                *_fault_columns(fault),
            )
            for unread, signed, is_believed, fault in readings
        ]

        async def change() -> None:
            async with self.database.transaction() as tx:
                await tx.execute_many(
                    "INSERT INTO reading (submission, call, signed, filer, slot, fault_outcome, "
                    "fault_code, fault_text) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
                    "ON CONFLICT (submission) DO NOTHING",
                    rows,
                )

        await patiently(change)

    async def unbelieved(self) -> list[tuple[int, Fault, bytes]]:
        """Readings without a believed header and outcome: row, fault and token.

        The token is empty: nothing in a header that is not believed counts, but where the
        header is the one of the commitment and only its signature fails.
        """
        rows = await self.database.fetch_all(
            "SELECT r.submission, r.signed, r.fault_outcome, r.fault_code, r.fault_text, "
            "s.header_leaf FROM reading AS r JOIN submission AS s ON s.id = r.submission "
            "WHERE r.call = ? AND r.filer IS NULL "
            "AND NOT EXISTS (SELECT 1 FROM outcome WHERE submission = r.submission) LIMIT ?",
            (self._call, PAGE_COUNT),
        )
        return [(int(row["submission"]), _require_fault(row), _token(row)) for row in rows]

    async def count_undecided(self) -> int:
        """How many submissions with a believed header have no outcome."""
        row = await self.database.fetch_one(
            "SELECT count(*) FROM reading AS r WHERE r.call = ? AND r.filer IS NOT NULL "
            "AND NOT EXISTS (SELECT 1 FROM outcome WHERE submission = r.submission)",
            (self._call,),
        )
        return 0 if row is None else int(row[0])

    async def slots(self) -> AsyncIterator[list[Read]]:
        """All submissions under one filer key and slot, a list for each; each in log order."""
        filer, slot = b"", ""
        while rows := await self.database.fetch_all(
            "SELECT DISTINCT filer, slot FROM reading WHERE call = ? AND filer IS NOT NULL "
            "AND (filer, slot) > (?, ?) ORDER BY filer, slot LIMIT ?",
            (self._call, filer, slot, PAGE_COUNT),
        ):
            for row in rows:
                filer, slot = bytes(row["filer"]), str(row["slot"])
                yield await self.slot(filer, slot)

    async def slot(self, filer: bytes, slot: str) -> list[Read]:
        """All submissions under this filer key and slot, in log order."""
        rows = await self.database.fetch_all(
            "SELECT s.id, s.commitment, s.log_index, s.ticketed_at, r.signed, r.fault_outcome, "
            "r.fault_code, r.fault_text, r.is_unpacked, envelope.blob, envelope.envelope_hash "
            "FROM reading AS r JOIN submission AS s ON s.id = r.submission "
            "JOIN envelope ON envelope.submission = s.id "
            "WHERE r.call = ? AND r.filer = ? AND r.slot = ? ORDER BY s.log_index",
            (self._call, filer, slot),
        )
        return [_read(row) for row in rows]

    async def unread_previous(self, reads: Sequence[Read]) -> list[Candidate]:
        """What these submissions amend or withdraw, as far as no header of it is believed.

        Nobody can say whose it was, so that it is in no slot; that it is there counts.
        """
        own = {read.candidate.commitment for read in reads}
        found: list[Candidate] = []
        amended = {read.signed.header.previous for read in reads} - own
        for previous in filter(None, amended):
            row = await self.database.fetch_one(
                "SELECT s.log_index, s.ticketed_at FROM submission AS s "
                "LEFT JOIN reading AS r ON r.submission = s.id "
                "WHERE s.call = ? AND s.commitment = ? AND r.filer IS NULL",
                (self._call, previous),
            )
            if row is not None:
                time = UnixMillis(row["ticketed_at"])
                found.append(Candidate(previous, int(row["log_index"]), time, fault=Fault.lapsed()))
        return found

    async def has_outcome(self, read: Read) -> bool:
        """Whether a submission is decided; then its whole slot is."""
        row = await self.database.fetch_one(
            "SELECT 1 FROM outcome WHERE submission = ?", (read.submission,)
        )
        return row is not None

    async def record_unpacked(self, submission: int, unpacked: Unpacked) -> None:
        """It lies in the inbox, durably."""

        async def change() -> None:
            async with self.database.transaction() as tx:
                await tx.execute(
                    "UPDATE reading SET is_unpacked = 1, form = ?, file_count = ?, size = ? "
                    "WHERE submission = ?",
                    (unpacked.form, unpacked.file_count, unpacked.size, submission),
                )

        await patiently(change)

    async def record_fault(self, submission: int, fault: Fault) -> None:
        """Unpacking found something wrong."""

        async def change() -> None:
            async with self.database.transaction() as tx:
                await tx.execute(
                    "UPDATE reading SET fault_outcome = ?, fault_code = ?, fault_text = ? "
                    "WHERE submission = ? AND fault_outcome IS NULL",
                    (*_fault_columns(fault), submission),
                )

        await patiently(change)

    async def record_outcomes(
        self, outcomes: Sequence[tuple[int, Outcome, tuple[Reason, ...], bytes]]
    ) -> None:
        """Record row, outcome, reasons and token of several submissions, all or none."""

        async def change() -> None:
            async with self.database.transaction() as tx:
                now = self._clock.now()
                await tx.execute_many(
                    "INSERT INTO outcome (submission, outcome, reasons, token, decided_at) "
                    "VALUES (?, ?, ?, ?, ?) ON CONFLICT (submission) DO NOTHING",
                    [
                        (one, outcome.value, encode_reasons(reasons), token, now)
                        for one, outcome, reasons, token in outcomes
                    ],
                )

        await patiently(change)

    async def count_uncollected(self) -> int:
        """How many staged submissions are neither collected nor found inconsistent."""
        row = await self.database.fetch_one(
            "SELECT count(*) FROM submission AS s WHERE s.call = ? AND s.state = 'staged' "
            "AND NOT EXISTS (SELECT 1 FROM outcome WHERE submission = s.id)",
            (self._call,),
        )
        return 0 if row is None else int(row[0])


def encode_reasons(reasons: Sequence[Reason]) -> str:
    """Reasons as the database keeps them."""
    found: Json = [{"code": reason.code, "text": reason.text} for reason in reasons]
    return encode_json(found).decode()


def _fault_columns(fault: Fault | None) -> tuple[str | None, str | None, str | None]:
    if fault is None:
        return None, None, None
    return fault.outcome.value, fault.reason.code, fault.reason.text


def _fault(row: Row) -> Fault | None:
    if row["fault_outcome"] is None:
        return None
    reason = Reason(str(row["fault_code"]), str(row["fault_text"]))
    return Fault(Outcome(row["fault_outcome"]), reason)


def _require_fault(row: Row) -> Fault:
    fault = _fault(row)
    if fault is None:
        raise ValueError(f"reading {row['submission']}: expected a fault, found none")
    return fault


def _token(row: Row) -> bytes:
    if row["signed"] is None:
        return b""
    header = SignedHeader.decode(bytes(row["signed"])).header
    return header.token if header.leaf == bytes(row["header_leaf"]) else b""


def _read(row: Row) -> Read:
    signed = SignedHeader.decode(bytes(row["signed"]))
    return Read(
        submission=int(row["id"]),
        candidate=Candidate(
            commitment=bytes(row["commitment"]),
            index=int(row["log_index"]),
            time=UnixMillis(row["ticketed_at"]),
            header=signed.header,
            fault=_fault(row),
        ),
        signed=signed,
        blob=str(row["blob"]),
        envelope_hash=bytes(row["envelope_hash"]),
        is_unpacked=bool(row["is_unpacked"]),
    )
