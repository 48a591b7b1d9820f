"""Admissions in the database: whose ticket each entry of a call's log is.

Made from the call's file and log, and made anew from them if it is lost.

Source: docs/spec/admission.md, what the destination keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bistro.errors import StorageError
from bistro.storage.database import Database
from bistro.wire.admission import Admitted

PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Read:
    """How far the database has read.

    Attributes:
        size: Bytes of the file.
        entries: Entries of the log.
    """

    size: int = 0
    entries: int = 0


class Admissions:
    """The admissions of all calls.

    Args:
        database: The server's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, call: str) -> Read:
        """How far file and log of a call have been read, durably."""
        row = await self._database.fetch_one(
            "SELECT admissions_read, admitted FROM call WHERE call = ?", (call,)
        )
        return Read() if row is None else Read(int(row[0]), int(row[1]))

    async def record(
        self,
        call: str,
        admitted: Sequence[Admitted],
        tickets: Sequence[tuple[bytes, int]],
        read: Read,
    ) -> None:
        """Take over what was read, and remember durably how far that is.

        Args:
            call: The call id.
            admitted: Records of the file.
            tickets: Admission hash and log index of each ticket that names one.
            read: How far both have been read with these.

        Raises:
            StorageError: The log names an admission that the file has not.
        """
        async with self._database.transaction() as tx:
            # The same record may come again: a client that asks again, a step that is repeated.
            await tx.execute_many(
                "INSERT INTO admission (call, hash, filer, data) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (call, hash) DO NOTHING",
                [
                    (call, one.admission.hash, one.admission.filer_key, one.admission.encode())
                    for one in admitted
                ],
            )
            count = await tx.execute_many(
                "UPDATE admission SET log_index = ? WHERE call = ? AND hash = ?",
                [(index, call, named) for named, index in tickets],
            )
            if tickets and count != len(tickets):
                raise StorageError(
                    f"call {call}: {len(tickets) - count} tickets of its log name admissions "
                    "that were not kept",
                    hint="its file of admissions has lost some: restore the newest copy",
                )
            await tx.execute(
                "INSERT INTO call (call, admissions_read, admitted) VALUES (?, ?, ?) "
                "ON CONFLICT (call) DO UPDATE SET "
                "admissions_read = max(admissions_read, excluded.admissions_read), "
                "admitted = max(admitted, excluded.admitted)",
                (call, read.size, read.entries),
            )

    async def counts(self, call: str) -> dict[bytes, int]:
        """How many tickets each filer has, as far as the log has been read."""
        counts: dict[bytes, int] = {}
        after = b""
        while rows := await self._database.fetch_all(
            "SELECT filer, count(*) FROM admission "
            "WHERE call = ? AND log_index IS NOT NULL AND filer > ? "
            "GROUP BY filer ORDER BY filer LIMIT ?",
            (call, after, PAGE),
        ):
            counts.update((bytes(row[0]), int(row[1])) for row in rows)
            after = bytes(rows[-1][0])
        return counts
