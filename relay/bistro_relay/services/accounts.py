"""Counts bytes for each destination and month: for the cap on traffic, and for the statement.

Counted in memory, written once a second by the keeper: a crash forgets at most that much.

Source: docs/spec/relay-life.md, traffic.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from bistro.clock import Clock
from bistro.errors import RelayFullError, UnavailableError
from bistro.instant import UnixMillis
from bistro_relay.metrics import RelayMetrics
from bistro_relay.store.accounts import Account, AccountStore

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_MS_PER_S: Final = 1_000


def month_of(now: UnixMillis) -> tuple[str, UnixMillis]:
    """The month of a time, ``YYYY-MM``, and when the next one begins; both of UTC."""
    date = _EPOCH + now * _MS
    first = datetime(date.year + date.month // 12, date.month % 12 + 1, 1, tzinfo=UTC)
    return f"{date.year:04d}-{date.month:02d}", UnixMillis((first - _EPOCH) // _MS)


class Accounts:
    """All accounts, and what the month's traffic allows.

    Args:
        store: Their rows.
        clock: Tells the month.
        traffic_bytes: The most that may come and leave in a month; None: no limit.
        metrics: Counts as well.
    """

    def __init__(
        self,
        store: AccountStore,
        clock: Clock,
        *,
        traffic_bytes: int | None,
        metrics: RelayMetrics,
    ) -> None:
        self._store = store
        self._clock = clock
        self._limit = traffic_bytes
        self._metrics = metrics
        self._accounts: dict[tuple[str, str], Account] = {}
        self._changed: set[tuple[str, str]] = set()
        self._month, self._month_ends = month_of(clock.now())
        self._traffic = 0
        metrics.traffic.set_function(lambda: self.traffic)
        metrics.traffic_limit.set(0 if traffic_bytes is None else traffic_bytes)

    async def load(self) -> None:
        """Read what was counted before; once, at the start."""
        for account in await self._store.load():
            self._accounts[account.month, account.server] = account
        self._traffic = self._sum()

    async def save(self) -> None:
        """Write what has changed, durably; a crash before this returns leaves older counts."""
        changed, self._changed = self._changed, set()
        if not changed:
            return
        try:
            await self._store.save([self._accounts[key] for key in changed])
        except BaseException:
            self._changed |= changed
            raise

    @property
    def limit(self) -> int | None:
        """The cap on a month's traffic, in bytes."""
        return self._limit

    @property
    def traffic(self) -> int:
        """Bytes that came and left this month."""
        self._begin_month()
        return self._traffic

    def accounts(self, month: str | None = None) -> list[Account]:
        """Accounts of one month, or of all, by month and destination."""
        found = sorted(self._accounts)
        return [self._accounts[key] for key in found if month is None or key[0] == month]

    def received(self, server: str, size: int) -> None:
        """Bytes of fragments were made durable."""
        self._metrics.received.inc(size)
        found = self._account(server)
        self._note(replace(found, accepted_bytes=found.accepted_bytes + size), size)

    def sent(self, server: str, size: int) -> None:
        """Bytes of fragments leave."""
        self._metrics.sent.inc(size)
        found = self._account(server)
        self._note(replace(found, delivered_bytes=found.delivered_bytes + size), size)

    def require_taking(self, size: int, *, owed: int) -> None:
        """Check that traffic is left to take a fragment, and to hand it over.

        Args:
            size: Of the fragment.
            owed: Bytes that are held and must leave still, or are promised room and must come.

        Raises:
            RelayFullError: The month's cap would be passed.
        """
        if self._limit is not None and self.traffic + owed + 2 * size > self._limit:
            raise RelayFullError(
                f"traffic of this month: expected at most {self._limit} bytes, found "
                f"{self.traffic}, {owed} that are owed, and {2 * size} more",
                hint="use another relay",
            )

    def require_leaving(self, size: int, *, owed_to_others: int) -> None:
        """Check that more bytes may leave without using up what is owed to other destinations.

        Raises:
            UnavailableError: They may not before the next month.
        """
        if self._limit is not None and self.traffic + owed_to_others + size > self._limit:
            raise UnavailableError(
                f"traffic of this month: the cap of {self._limit} bytes is reached",
                hint="ask again next month; what is promised is held",
                retry_after_s=(self._month_ends - self._clock.now()) / _MS_PER_S,
            )

    def _account(self, server: str) -> Account:
        self._begin_month()
        found = self._accounts.get((self._month, server))
        return Account(server, self._month, 0, 0) if found is None else found

    def _note(self, account: Account, size: int) -> None:
        key = account.month, account.server
        self._accounts[key] = account
        self._changed.add(key)
        self._traffic += size

    def _begin_month(self) -> None:
        now = self._clock.now()
        if now >= self._month_ends:
            self._month, self._month_ends = month_of(now)
            self._traffic = self._sum()

    def _sum(self) -> int:
        return sum(one.accepted_bytes + one.delivered_bytes for one in self.accounts(self._month))
