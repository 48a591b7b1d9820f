# ruff: noqa: S608 - what is put into a statement are question marks
"""What ``reconcile`` reads: every submission with everything known of its fragments.

Source: docs/spec/collection.md, reconcile.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from bistro.instant import UnixMillis
from bistro.storage.database import Database
from bistro.wire.fragment import Layout

PAGE_COUNT: Final = 500


@dataclass(frozen=True, slots=True)
class KnownAt:
    """A fragment at a relay, and what became of it."""

    index: int
    relay: str
    fate: str
    has_receipt: bool
    hold_until: UnixMillis
    is_released: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A submission as the database has it."""

    commitment: bytes
    log_index: int
    ticketed_at: UnixMillis
    state: str
    layout: Layout | None
    blob: str | None
    blob_size: int | None
    outcome: str | None
    is_unpacked: bool
    repair: tuple[int, ...]
    fragments: tuple[KnownAt, ...]


async def list_records(database: Database, call: str, *, after_index: int) -> list[Record]:
    """The next submissions behind ``after_index``, in the order of the log."""
    rows = await database.fetch_all(
        "SELECT s.id, s.commitment, s.log_index, s.ticketed_at, s.state, s.layout, "
        "envelope.blob, envelope.size, o.outcome, r.is_unpacked, repair.indexes "
        "FROM submission AS s LEFT JOIN envelope ON envelope.submission = s.id "
        "LEFT JOIN outcome AS o ON o.submission = s.id "
        "LEFT JOIN reading AS r ON r.submission = s.id "
        "LEFT JOIN repair ON repair.submission = s.id "
        "WHERE s.call = ? AND s.log_index > ? ORDER BY s.log_index LIMIT ?",
        (call, after_index, PAGE_COUNT),
    )
    fragments = await _fragments(database, [int(row["id"]) for row in rows])
    return [
        Record(
            commitment=bytes(row["commitment"]),
            log_index=int(row["log_index"]),
            ticketed_at=UnixMillis(row["ticketed_at"]),
            state=str(row["state"]),
            layout=None if row["layout"] is None else Layout.decode(bytes(row["layout"])),
            blob=row["blob"],
            blob_size=row["size"],
            outcome=row["outcome"],
            is_unpacked=bool(row["is_unpacked"]),
            repair=tuple(bytes(row["indexes"] or b"")),
            fragments=tuple(fragments[int(row["id"])]),
        )
        for row in rows
    ]


async def _fragments(database: Database, ids: list[int]) -> dict[int, list[KnownAt]]:
    marks = ", ".join("?" * len(ids))
    rows = await database.fetch_all(
        "SELECT submission, fragment_index, relay, fate, receipt IS NOT NULL AS has_receipt, "
        "hold_until, released_at IS NOT NULL AS is_released FROM fragment "
        f"WHERE submission IN ({marks}) ORDER BY fragment_index, relay",
        tuple(ids),
    )
    found: dict[int, list[KnownAt]] = defaultdict(list)
    for row in rows:
        found[int(row["submission"])].append(
            KnownAt(
                int(row["fragment_index"]),
                str(row["relay"]),
                str(row["fate"]),
                bool(row["has_receipt"]),
                UnixMillis(row["hold_until"]),
                bool(row["is_released"]),
            )
        )
    return found
