# ruff: noqa: S608 - what is put into statements are constants of this module and marks
"""What of a call is done: fragments to release, files that may go, numbers for people.

Source: docs/spec/collection.md, releases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bistro.clock import Clock
from bistro.storage.database import Database, Row
from bistro.wire.claim import Claim
from bistro.wire.fragment import Descriptor
from bistro_server.store.collection import NOT_CONCLUDED, patiently

_CONCLUDED: Final = (
    "(EXISTS (SELECT 1 FROM envelope WHERE envelope.submission = s.id) "
    "OR EXISTS (SELECT 1 FROM outcome WHERE outcome.submission = s.id "
    "AND outcome.outcome = 'void' AND outcome.reasons LIKE '%\"inconsistent\"%'))"
)
"""Whose envelope is durable here, or whose fragments were found not to belong together."""


@dataclass(frozen=True, slots=True)
class Releasable:
    """A fragment that a relay may delete."""

    submission: int
    commitment: bytes
    descriptor: Descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far collecting a call is: numbers of submissions, and of fragments not released."""

    staged_count: int
    collected_count: int
    void_count: int
    lapsed_count: int
    ticketed_count: int
    unreleased_count: int


class DoneStore:
    """The database as releasing uses it, for one call.

    Args:
        database: The server's, shared with other processes.
        call: The call id.
        clock: Dates the changes.
    """

    def __init__(self, database: Database, call: str, clock: Clock) -> None:
        self.database = database
        self._call = call
        self._clock = clock

    async def releasable(self, relay: str, *, after: int, limit: int) -> list[Releasable]:
        """Fragments that the relay may delete and did not confirm yet.

        Args:
            relay: The relay's name.
            after: Row of the last submission that was tried; -1 at the beginning.
            limit: Most rows.
        """
        rows = await self.database.fetch_all(
            "SELECT s.id, s.commitment, fragment.claim FROM fragment "
            "JOIN submission AS s ON s.id = fragment.submission "
            f"WHERE relay = ? AND released_at IS NULL AND call = ? AND fragment.submission > ? "
            f"AND {_CONCLUDED} ORDER BY fragment.submission LIMIT ?",
            (relay, self._call, after, limit),
        )
        return [
            Releasable(
                int(row["id"]),
                bytes(row["commitment"]),
                Claim.decode(bytes(row["claim"])).descriptor,
            )
            for row in rows
        ]

    async def mark_released(self, relay: str, released: Sequence[Releasable]) -> None:
        """The relay has recorded these releases."""

        async def change() -> None:
            async with self.database.transaction() as tx:
                now = self._clock.now()
                await tx.execute_many(
                    "UPDATE fragment SET released_at = ? "
                    "WHERE submission = ? AND fragment_index = ? AND relay = ?",
                    [(now, one.submission, one.descriptor.index, relay) for one in released],
                )

        if released:
            await patiently(change)

    async def standing(self, commitments: Sequence[bytes]) -> dict[bytes, str]:
        """For each known commitment ``collected``, ``void``, ``lapsed`` or its other state."""
        marks = ", ".join("?" * len(commitments))
        rows = await self.database.fetch_all(
            "SELECT commitment, state, "
            "EXISTS (SELECT 1 FROM envelope WHERE envelope.submission = s.id) AS has_envelope, "
            "EXISTS (SELECT 1 FROM outcome WHERE outcome.submission = s.id) AS has_outcome "
            f"FROM submission AS s WHERE call = ? AND commitment IN ({marks})",
            (self._call, *commitments),
        )
        return {bytes(row["commitment"]): _standing(row) for row in rows}

    async def progress(self) -> Progress:
        """Numbers for people."""
        row = await self.database.fetch_one(
            "SELECT "
            f"sum(state = 'staged' AND {NOT_CONCLUDED}) AS staged, "
            "sum(EXISTS (SELECT 1 FROM envelope WHERE envelope.submission = s.id)) AS collected, "
            "sum(EXISTS (SELECT 1 FROM outcome WHERE outcome.submission = s.id "
            "AND outcome.outcome = 'void')) AS void, "
            "sum(state = 'lapsed') AS lapsed, sum(state = 'ticketed') AS ticketed "
            "FROM submission AS s WHERE call = ?",
            (self._call,),
        )
        left = await self.database.fetch_one(
            "SELECT count(*) FROM fragment JOIN submission AS s ON s.id = fragment.submission "
            f"WHERE released_at IS NULL AND call = ? AND {_CONCLUDED}",
            (self._call,),
        )
        found = {} if row is None else {key: int(row[key] or 0) for key in row.keys()}  # noqa: SIM118
        return Progress(
            staged_count=found.get("staged", 0),
            collected_count=found.get("collected", 0),
            void_count=found.get("void", 0),
            lapsed_count=found.get("lapsed", 0),
            ticketed_count=found.get("ticketed", 0),
            unreleased_count=0 if left is None else int(left[0]),
        )


def _standing(row: Row) -> str:
    if row["has_envelope"]:
        return "collected"
    return "void" if row["has_outcome"] and row["state"] != "lapsed" else str(row["state"])
