"""Rows of terms that were verified, and nonces of signed requests.

Source: docs/spec/terms.md, versions; docs/spec/collection.md, signed requests.
"""

from __future__ import annotations

from bistro.instant import UnixMillis
from bistro.storage.database import Database
from bistro.wire.served_terms import ServedTerms


class TermsStore:
    """Every version of terms that this relay has verified.

    Args:
        database: Open, with this relay's schema.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, served: ServedTerms) -> None:
        """Keep a version, durably; saving it again changes nothing."""
        origin = served.signed.origin
        async with self._database.transaction() as tx:
            await tx.execute(
                "INSERT INTO terms (server, call, version, body) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                (origin.server, origin.call, served.signed.terms.version, served.encode()),
            )

    async def load_latest(self) -> list[ServedTerms]:
        """The latest version of each call."""
        rows = await self._database.fetch_all(
            "SELECT body, MAX(version) FROM terms GROUP BY server, call"
        )
        return [ServedTerms.decode(row["body"]) for row in rows]


class NonceStore:
    """Nonces that may not come again, until their requests have expired.

    Args:
        database: Open, with this relay's schema.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def remember(self, key: str, nonce: str, *, expires_at: UnixMillis) -> None:
        """Keep a nonce, durably: a restart must not make it good again.

        Raises:
            ConflictError: It was used before with this key.
        """
        async with self._database.transaction() as tx:
            await tx.execute(
                "INSERT INTO nonce (key, nonce, expires_at) VALUES (?, ?, ?)",
                (key, nonce, expires_at),
            )

    async def forget_expired(self, now: UnixMillis) -> None:
        """Drop nonces of requests that are refused for their age by now."""
        async with self._database.transaction() as tx:
            await tx.execute("DELETE FROM nonce WHERE expires_at < ?", (now,))
