"""Whether this machine's clock may stamp, looked at before the first request comes.

The ledgers look again before every batch; what is found here is found while an operator is
still looking.

Source: docs/spec/ticketing.md, the clock.
"""

from __future__ import annotations

from bistro.clock import Clock
from bistro.errors import StorageError
from bistro.instant import UnixMillis, format_duration, format_rfc3339
from bistro.ledger.stamping import MAX_BACK_MS, ClockGuard


def require_trusted_clock(clock: Clock, *, error_limit_ms: int) -> None:
    """Accept a clock that may stamp.

    Raises:
        UnavailableError: Its error is unknown or too large.
    """
    now = clock.now()
    ClockGuard(clock, error_limit_ms=error_limit_ms).require_time(previous=now, received=now)


def require_clock_reached(clock: Clock, last_time: UnixMillis, *, origin: str) -> None:
    """Accept a clock that has reached the time of a ledger's last entry, or nearly.

    Up to a second less is borne: what comes meanwhile gets the time of the last entry.

    Args:
        clock: Is going to stamp.
        last_time: Of the ledger's last entry; 0 if it is empty.
        origin: The ledger's, for the message.

    Raises:
        StorageError: It is further behind: one of the two clocks was wrong.
    """
    now = clock.now()
    if now < last_time - MAX_BACK_MS:
        last = format_rfc3339(last_time)
        raise StorageError(
            f"ledger {origin} ends at {last}, and this clock says {format_rfc3339(now)}, "
            f"{format_duration(last_time - now)} earlier",
            hint="set the clock right, then start again; if it is right, the ledger was stamped "
            f"by a clock that was not, and can be continued from {last} on",
        )
