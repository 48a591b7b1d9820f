"""What filers are asked to stage again: written by ``collect``, listed by ``serve``.

Source: docs/spec/collection.md, repairs.
"""

from __future__ import annotations

from bistro.instant import UnixMillis
from bistro.storage.database import Database
from bistro.wire.staging import Repair


async def list_repairs(
    database: Database, call: str, *, after: int, limit: int, until: UnixMillis
) -> tuple[Repair, ...]:
    """The repairs of a call from the first cursor above ``after``, at most ``limit``.

    Args:
        database: The server's.
        call: The call id.
        after: The last cursor that is known already, or 0.
        limit: Most rows.
        until: When a repair is too late, by the latest terms.
    """
    rows = await database.fetch_all(
        "SELECT cursor, commitment, indexes FROM repair "
        "JOIN submission ON submission.id = repair.submission "
        "WHERE call = ? AND cursor > ? ORDER BY cursor LIMIT ?",
        (call, after, limit),
    )
    return tuple(
        Repair(
            cursor=int(row["cursor"]),
            commitment=bytes(row["commitment"]),
            indexes=tuple(bytes(row["indexes"])),
            until=until,
        )
        for row in rows
    )
