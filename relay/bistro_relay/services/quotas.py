"""How much one ticket, and one destination, may begin: at once, and in a second.

Whoever has one good ticket can claim its fragments as often as they like. What that may cost is
bounded here: uploads that are begun and not ended, each with room reserved, and new ones in a
second. Bytes and numbers of what is held are ``Room``'s, open requests ``Gate``'s.

Counts are in memory; the rows of uploads are the truth, and they are counted at every start.

Source: docs/spec/staging.md, quotas.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol

from bistro.clock import Clock
from bistro.daemon.buckets import Bucket, Buckets, Rate
from bistro.errors import OverloadedError, UnavailableError
from bistro.ids import Origin
from bistro_relay.store.uploads import UploadStore

BURST_S: Final = 16
"""A full bucket has so many seconds' worth."""

_RETRY_S: Final = 60.0
_MS_PER_S: Final = 1_000


@dataclass(frozen=True, slots=True)
class UploadQuotas:
    """What may be begun.

    Attributes:
        per_ticket_count: Uploads of one ticket that are begun and not ended.
        per_destination_count: The same of one destination.
        per_ticket_per_s: New fragments of one ticket in a second.
        per_destination_per_s: The same of one destination; None: as many as come.
        least_bytes_per_s: What a request must bring on average, once it lasts.
        patience_s: How long it may last before that is asked.
    """

    per_ticket_count: int
    per_destination_count: int
    per_ticket_per_s: int
    per_destination_per_s: int | None
    least_bytes_per_s: int
    patience_s: float


def _rate(per_s: int) -> Rate:
    return Rate(per_s, per_s * BURST_S)


class Begun(Protocol):
    """An upload, as far as it is counted here."""

    @property
    def origin(self) -> Origin:
        """The call."""
        ...

    @property
    def commitment(self) -> bytes:
        """The submission."""
        ...


class Quotas:
    """What has been begun.

    Args:
        quotas: What may be.
        clock: Fills buckets.
    """

    def __init__(self, quotas: UploadQuotas, clock: Clock) -> None:
        self._quotas = quotas
        self._clock = clock
        self._of_tickets: Counter[bytes] = Counter()
        self._of_destinations: Counter[str] = Counter()
        self._ticket_buckets: Buckets[bytes] = Buckets(_rate(quotas.per_ticket_per_s))
        self._destination_buckets: Buckets[str] | None = None
        if quotas.per_destination_per_s is not None:
            self._destination_buckets = Buckets(_rate(quotas.per_destination_per_s))

    async def load(self, uploads: UploadStore) -> None:
        """Count what the rows say; once, at the start."""
        for origin, commitment, count in await uploads.count_receiving():
            self._of_tickets[commitment] += count
            self._of_destinations[origin.server] += count

    def take(self, origin: Origin, commitment: bytes) -> None:
        """Count one new fragment against what may come in a second.

        Raises:
            OverloadedError: Too many came of its ticket, or of its destination.
        """
        now_s = self._clock.monotonic_ms() / _MS_PER_S
        wider: Bucket | None = None
        if self._destination_buckets is not None:
            wider = self._destination_buckets.of(origin.server)
        wait_s = self._ticket_buckets.of(commitment, wider).take(1, now_s)
        if wait_s:
            raise OverloadedError(
                f"new fragments of one ticket or of {origin.server}: too many in a short time",
                hint="send the same request again, later",
                retry_after_s=wait_s,
            )

    def begin(self, origin: Origin, commitment: bytes) -> None:
        """Count an upload that begins; ``end`` must follow.

        Raises:
            OverloadedError: Too many of its ticket or destination are begun and not ended.
        """
        quotas = self._quotas
        for found, limit, whose in (
            (self._of_tickets[commitment], quotas.per_ticket_count, "this ticket"),
            (self._of_destinations[origin.server], quotas.per_destination_count, origin.server),
        ):
            if found >= limit:
                raise OverloadedError(
                    f"uploads of {whose} that are not ended: expected fewer than {limit}",
                    hint="go on with those that were begun, or give them up with DELETE",
                    retry_after_s=_RETRY_S,
                )
        self._of_tickets[commitment] += 1
        self._of_destinations[origin.server] += 1

    def end(self, begun: Begun) -> None:
        """An upload that had begun has all its bytes, or came to nothing."""
        self._of_tickets[begun.commitment] -= 1
        if self._of_tickets[begun.commitment] <= 0:
            del self._of_tickets[begun.commitment]
        self._of_destinations[begun.origin.server] -= 1

    async def keep_pace(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """A body, for as long as it brings enough.

        Raises:
            UnavailableError: It lasts, and is slower than what must be brought.
        """
        begun_ms, size = self._clock.monotonic_ms(), 0
        async for chunk in chunks:
            size += len(chunk)
            yield chunk
            self.require_pace(self._clock.monotonic_ms() - begun_ms, size)

    def require_pace(self, lasted_ms: int, size: int) -> None:
        """Check how much a body brought in the time that it has lasted.

        Raises:
            UnavailableError: It lasts, and is slower than what must be brought.
        """
        quotas, lasted_s = self._quotas, lasted_ms / _MS_PER_S
        if lasted_s > quotas.patience_s and size < lasted_s * quotas.least_bytes_per_s:
            raise UnavailableError(
                f"request body: expected {quotas.least_bytes_per_s} bytes a second or more, "
                f"found {size} in {lasted_s:.0f} s",
                hint="ask for the offset with HEAD and go on there",
            )

    def require_heard(self, silent_ms: int) -> None:
        """Check for how long a body has brought nothing.

        Raises:
            UnavailableError: For longer than anybody waits.
        """
        patience_s = self._quotas.patience_s
        if silent_ms > patience_s * _MS_PER_S:
            raise UnavailableError(f"request body: no byte for {patience_s:g} s")
