"""A batch in the making: which claims become entries, at which time; and telling them.

Source: docs/spec/ticketing.md, the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bistro.errors import BistroError, OverloadedError
from bistro.instant import UnixMillis
from bistro.ledger.claims import Claim
from bistro.ledger.ledger import Appended
from bistro.ledger.record import Item


class Batch:
    """Claims that are stamped together.

    Args:
        previous: Time of the ledger's last entry.
        now: The time now.
        max_wait_ms: Who has waited longer is not stamped; ``None``: no limit.

    Attributes:
        items: The new entries.
        time: Time of the last of them, or of the entry before.
        refused_count: Claims that were answered with an error.
    """

    def __init__(self, previous: UnixMillis, now: UnixMillis, max_wait_ms: int | None) -> None:
        self.items: list[Item] = []
        self.time = previous
        self.refused_count = 0
        self._now = now
        self._oldest = 0 if max_wait_ms is None else now - max_wait_ms
        self._new: list[Claim] = []
        self._by_key: dict[bytes | None, int] = {}
        self._repeated: list[tuple[Claim, int]] = []

    def stamp(self, claims: Sequence[Claim]) -> None:
        """Make each an entry, the repetition of one, or answer it with an error; in order."""
        by_key, time = self._by_key, self.time
        for claim in claims:
            key, received_at = claim.key, claim.received_at
            if key in by_key:
                self._repeated.append((claim, by_key[key]))
                continue
            try:
                if received_at < self._oldest:
                    raise self._overloaded(received_at)
                entry_time = max(time, received_at)
                item = Item(key, claim.build(entry_time))
                item.require_sizes()
            except BistroError as exc:
                # The one refusal concerns nobody else, and does not move the time.
                claim.tell(exc)
                self.refused_count += 1
                continue
            if key is not None:
                by_key[key] = len(self.items)
            time = entry_time
            self.items.append(item)
            self._new.append(claim)
        self.time = time

    def _overloaded(self, received_at: UnixMillis) -> OverloadedError:
        waited_ms, limit_ms = self._now - received_at, self._now - self._oldest
        return OverloadedError(
            f"waited {waited_ms} ms, expected at most {limit_ms} ms", retry_after_s=1.0
        )

    def settle(self, appended: Sequence[Appended]) -> None:
        """Tell what is durable: first to those who set rules, then to those who wait."""
        last = self._new[-1]
        if last.is_barrier:
            last.confirm(appended[-1])
        for claim, entry in zip(self._new, appended, strict=True):
            claim.tell(entry)
        for claim, at in self._repeated:
            claim.tell(replace(appended[at], is_duplicate=True))
