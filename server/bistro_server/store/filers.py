"""The list of registered filers: written by commands, followed by ``serve``.

Rows are never deleted: a revoked key stays known, so that what it was promised can be shown.

Source: docs/spec/admission.md, registration.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Self

from bistro.clock import Clock
from bistro.errors import UnknownObjectError
from bistro.instant import UnixMillis
from bistro.storage.database import Database, Row, Transaction

PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Filer:
    """Somebody who may file in registered calls.

    Attributes:
        key: Ed25519 public key, 32 bytes.
        name: For people.
        added_at: When the key was first registered.
        revoked_at: When it was revoked; ``None`` while it counts.
    """

    key: bytes
    name: str
    added_at: UnixMillis
    revoked_at: UnixMillis | None

    @classmethod
    def of(cls, row: Row) -> Self:
        """The filer in a row."""
        revoked_at = row["revoked_at"]
        return cls(
            key=bytes(row["key"]),
            name=str(row["name"]),
            added_at=UnixMillis(row["added_at"]),
            revoked_at=None if revoked_at is None else UnixMillis(revoked_at),
        )


@dataclass(frozen=True, slots=True)
class Place:
    """How far changes have been read: the last change, and the last key of it."""

    change: int = 0
    key: bytes = b""


class Filers:
    """The table of filers.

    Args:
        database: The server's.
        clock: Dates the changes.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def put(self, filers: Iterable[tuple[bytes, str]]) -> int:
        """Register keys with names, all or none; how many there were.

        A key that is known gets the new name and is valid again.

        Raises:
            UnavailableError: Another process holds the database; nothing was changed.
            StorageError: The disk failed; all or nothing was changed.
        """
        now, rest, count = self._clock.now(), iter(filers), 0
        async with self._database.transaction() as tx:
            change = await _next_change(tx)
            while page := list(islice(rest, PAGE)):
                await tx.execute_many(
                    "INSERT INTO filer (key, name, added_at, change) VALUES (?, ?, ?, ?) "
                    "ON CONFLICT (key) DO UPDATE SET name = excluded.name, revoked_at = NULL, "
                    "change = excluded.change",
                    [(key, name, now, change) for key, name in page],
                )
                count += len(page)
        return count

    async def revoke(self, keys: Sequence[bytes]) -> int:
        """Let keys count no more, all or none; how many did until now.

        Raises:
            UnknownObjectError: One was never registered; nothing was changed.
        """
        now, count = self._clock.now(), 0
        async with self._database.transaction() as tx:
            change = await _next_change(tx)
            for key in keys:
                row = await tx.fetch_one("SELECT revoked_at FROM filer WHERE key = ?", (key,))
                if row is None:
                    raise UnknownObjectError(
                        f"filer {key.hex()}: no such key is registered",
                        hint="see bistro-server filers list",
                    )
                count += await tx.execute(
                    "UPDATE filer SET revoked_at = ?, change = ? "
                    "WHERE key = ? AND revoked_at IS NULL",
                    (now, change, key),
                )
        return count

    async def all(self) -> AsyncIterator[Filer]:
        """Every filer, by key; page by page, so memory does not grow with them."""
        after = b""
        while rows := await self._database.fetch_all(
            "SELECT key, name, added_at, revoked_at FROM filer WHERE key > ? ORDER BY key LIMIT ?",
            (after, PAGE),
        ):
            for row in rows:
                yield Filer.of(row)
            after = bytes(rows[-1]["key"])

    async def changes(self, since: Place) -> tuple[dict[bytes, bool], Place]:
        """What changed behind ``since``: whether each key counts now; at most ``PAGE``.

        Returns:
            Keys, and where to go on; nothing is left when there are no keys.
        """
        rows = await self._database.fetch_all(
            "SELECT key, revoked_at, change FROM filer WHERE (change, key) > (?, ?) "
            "ORDER BY change, key LIMIT ?",
            (since.change, since.key, PAGE),
        )
        if not rows:
            return {}, since
        last = Place(int(rows[-1]["change"]), bytes(rows[-1]["key"]))
        return {bytes(row["key"]): row["revoked_at"] is None for row in rows}, last


async def _next_change(tx: Transaction) -> int:
    """A number above all that were used; one writer at a time asks for it."""
    row = await tx.fetch_one("SELECT max(change) FROM filer")
    return 1 if row is None or row[0] is None else int(row[0]) + 1
