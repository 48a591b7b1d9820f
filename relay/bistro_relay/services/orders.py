"""What the operator has ordered for now: to drain, to pause; and at which pace to hand over.

Source: docs/spec/relay-life.md, standing orders and pace of collection.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from types import EllipsisType
from typing import Final, NoReturn

from bistro.clock import Clock
from bistro.daemon import logs
from bistro.errors import UnavailableError
from bistro.instant import UnixMillis, format_rfc3339
from bistro.protocol.quiet_hours import QuietHours
from bistro_relay.metrics import RelayMetrics
from bistro_relay.store.orders import Orders, OrdersFile

LOOK_S: Final = 0.5
"""How often the file is looked at."""

_MS_PER_S: Final = 1_000

_log = logs.get_logger("orders")


@dataclass(frozen=True, slots=True)
class HandingPace:
    """How fast fragments leave, all streams together; None: as fast as they can.

    Attributes:
        bytes_per_s: Usually.
        quiet: When the other rate is kept.
        quiet_bytes_per_s: Then; 0: nothing leaves.
    """

    bytes_per_s: int | None
    quiet: QuietHours
    quiet_bytes_per_s: int


class StandingOrders:
    """The orders in force.

    Args:
        file: Where commands leave them.
        pace: What the settings say.
        clock: Tells whether a pause is over, and the hour.
        metrics: Told what is in force.
    """

    def __init__(
        self, file: OrdersFile, pace: HandingPace, clock: Clock, *, metrics: RelayMetrics
    ) -> None:
        self._file = file
        self._pace = pace
        self._clock = clock
        self._stamp = file.stamp()
        self._orders = file.load()
        metrics.draining.set_function(lambda: float(self.is_draining))
        metrics.paused.set_function(lambda: float(self.rest_ends_at() is not None))

    async def run(self) -> NoReturn:
        """Look at the file until cancelled.

        Raises:
            StorageError: The file is not one of orders.
        """
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Take notice of what a command has changed.

        Raises:
            StorageError: The file is not one of orders.
        """
        stamp = self._file.stamp()
        if stamp == self._stamp:
            return
        # Read after looking: what is written in between is seen at the next look.
        self._orders, self._stamp = self._file.load(), stamp
        _log.info("orders_changed", state=self.state)

    @property
    def current(self) -> Orders:
        """As they were last read."""
        return self._orders

    @property
    def state(self) -> str:
        """``open``, ``draining``, ``paused`` or both, for people and logs."""
        found = ("draining" * self.is_draining, "paused" * (self.rest_ends_at() is not None))
        return ", ".join(filter(None, found)) or "open"

    @property
    def is_draining(self) -> bool:
        """Whether no new upload is taken."""
        return self._orders.draining_since is not None

    def require_taking(self) -> None:
        """Accept a state in which new uploads are taken.

        Raises:
            UnavailableError: The relay is draining.
        """
        if self._orders.draining_since is not None:
            raise UnavailableError(
                "this relay is draining: it takes nothing new and keeps what it holds",
                hint="use another relay; operator: bistro-relay undrain ends it",
            )

    def require_handing(self) -> None:
        """Accept a state in which fragments leave.

        Raises:
            UnavailableError: Handing over rests, and until when.
        """
        end = self.rest_ends_at()
        if end is not None:
            raise UnavailableError(
                f"this relay hands nothing over until {format_rfc3339(end)}",
                hint="ask again then; what it promised it holds",
                retry_after_s=(end - self._clock.now()) / _MS_PER_S,
            )

    def rest_ends_at(self) -> UnixMillis | None:
        """Until when nothing is handed over; None: it is."""
        now, paused = self._clock.now(), self._orders.paused_until
        ends = [paused] if paused is not None and paused > now else []
        if not self._pace.quiet_bytes_per_s:
            quiet = self._pace.quiet.end_after(now)
            ends += [] if quiet is None else [quiet]
        return max(ends, default=None)

    def bytes_per_s(self) -> int | None:
        """The rate of all streams together now; None: no limit."""
        is_quiet = self._pace.quiet.end_after(self._clock.now()) is not None
        return self._pace.quiet_bytes_per_s if is_quiet else self._pace.bytes_per_s


def give_order(
    directory: Path,
    *,
    draining_since: UnixMillis | EllipsisType | None = ...,
    paused_until: UnixMillis | EllipsisType | None = ...,
) -> None:
    """Change standing orders from another process, durably; a relay that serves hears of it.

    Args:
        directory: The relay's data folder.
        draining_since: Since when to drain; None: no more. Who drains already goes on.
        paused_until: Until when to pause; None: no more.

    Raises:
        UnavailableError: Another command changes them just now.
        StorageError: The file cannot be read or written.
    """
    file = OrdersFile(directory)
    lock = file.lock()
    try:
        orders = file.load()
        if draining_since is None or (draining_since is not ... and orders.draining_since is None):
            orders = replace(orders, draining_since=draining_since)
        if paused_until is not ...:
            orders = replace(orders, paused_until=paused_until)
        file.save(orders)
    finally:
        lock.release()
