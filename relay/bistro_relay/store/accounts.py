"""Rows of accounts: how many bytes came and left for whom, by the month.

Source: docs/spec/relay-life.md, traffic and statement of service.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bistro.storage.database import Database


@dataclass(frozen=True, slots=True)
class Account:
    """What one destination's fragments were in one month, in bytes.

    Attributes:
        server: The destination.
        month: ``YYYY-MM``, of UTC.
        accepted_bytes: Made durable here.
        delivered_bytes: Handed over.
    """

    server: str
    month: str
    accepted_bytes: int
    delivered_bytes: int


class AccountStore:
    """All accounts.

    Args:
        database: Open, with this relay's schema.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> list[Account]:
        """All of them, by month and server."""
        rows = await self._database.fetch_all(
            "SELECT server, month, accepted, delivered FROM account ORDER BY month, server"
        )
        return [Account(*row) for row in rows]

    async def save(self, accounts: Iterable[Account]) -> None:
        """Write accounts as they stand now, durably, all or none."""
        rows = [
            (one.server, one.month, one.accepted_bytes, one.delivered_bytes) for one in accounts
        ]
        async with self._database.transaction() as tx:
            await tx.execute_many(
                "INSERT INTO account (server, month, accepted, delivered) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (server, month) DO UPDATE SET accepted = excluded.accepted, "
                "delivered = excluded.delivered",
                rows,
            )
