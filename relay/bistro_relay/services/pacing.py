"""Says when the next bytes of a batch stream may leave, and counts those that did.

| bound | kept by |
|---|---|
| the request's ``Bistro-Rate`` | each stream, from its beginning |
| ``collection.bytes_per_s``, or that of quiet hours | all together: each piece has its turn |
| a pause, quiet hours without any rate, the month's traffic | no piece leaves: the stream is cut |

Bytes of fragments are counted, heads of frames are not; both take their turns.

Source: docs/spec/collection.md, batches; docs/spec/relay-life.md, pace of collection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from bistro.clock import Clock
from bistro_relay.services.accounts import Accounts
from bistro_relay.services.orders import StandingOrders
from bistro_relay.services.room import Room
from bistro_relay.store.segments import CHUNK_SIZE

_MS_PER_S: Final = 1_000
_SMALLEST: Final = 1_024
_PIECES_PER_S: Final = 4
_NAP_S: Final = 1.0


class Pacing:
    """What all streams share.

    Args:
        clock: Measures.
        orders: What the operator wants now.
        accounts: Count what leaves, and know the month's traffic.
        room: Knows what is owed to others.
        sleep: What waits; tests pass their own.
    """

    def __init__(
        self,
        clock: Clock,
        orders: StandingOrders,
        accounts: Accounts,
        room: Room,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._orders = orders
        self._accounts = accounts
        self._room = room
        self._free_ms = 0
        self.sleep = sleep

    def pacer(self, server: str, bytes_per_s: int | None) -> Pacer:
        """The pace of one stream for a destination, at its own rate if it asked for one."""
        return Pacer(self, self._clock, server, bytes_per_s)

    @property
    def bytes_per_s(self) -> int | None:
        """The rate of all streams together now; None: no limit."""
        return self._orders.bytes_per_s()

    def require(self, server: str, size: int = 0) -> None:
        """Check that so many bytes may leave now, beyond those that are counted already.

        Raises:
            UnavailableError: They may not, and until when.
        """
        self._orders.require_handing()
        self._accounts.require_leaving(size, owed_to_others=self._room.owed_to_others(server))

    def count(self, server: str, size: int) -> None:
        """Bytes of fragments are about to leave."""
        self._accounts.sent(server, size)

    def left(self, size: int) -> int:
        """Bytes leave: when by the common rate the next may, on the monotonic clock.

        Streams that ask at the same time get turns one after the other.
        """
        rate, now_ms = self.bytes_per_s, self._clock.monotonic_ms()
        if not rate:
            return now_ms
        self._free_ms = max(self._free_ms, now_ms) + size * _MS_PER_S // rate
        return self._free_ms


class Pacer:
    """Keeps one stream below its rate, and below its share of the common one."""

    def __init__(self, pacing: Pacing, clock: Clock, server: str, bytes_per_s: int | None) -> None:
        self._pacing = pacing
        self._clock = clock
        self._server = server
        self._rate = bytes_per_s
        self._began_ms = clock.monotonic_ms()
        self._sent = 0

    @property
    def piece_size(self) -> int | None:
        """Bytes that may leave at once: a slow stream is an even one; None: no bound."""
        rates = [rate for rate in (self._rate, self._pacing.bytes_per_s) if rate]
        if not rates:
            return None
        return min(CHUNK_SIZE, max(_SMALLEST, min(rates) // _PIECES_PER_S))

    def require(self) -> None:
        """Check that what is counted may leave now.

        Raises:
            UnavailableError: It may not: the stream is to be cut.
        """
        self._pacing.require(self._server)

    async def after(self, size: int) -> None:
        """So many bytes leave: wait until the next are due.

        Raises:
            UnavailableError: Handing over rests from now on: the stream is to be cut.
        """
        self._sent += size
        due_ms = self._pacing.left(size)
        if self._rate is not None:
            due_ms = max(due_ms, self._began_ms + self._sent * _MS_PER_S // self._rate)
        while (pause_s := (due_ms - self._clock.monotonic_ms()) / _MS_PER_S) > 0:
            # A pause that is ordered meanwhile does not wait for the end of this one.
            await self._pacing.sleep(min(pause_s, _NAP_S))
            self._pacing.require(self._server)
