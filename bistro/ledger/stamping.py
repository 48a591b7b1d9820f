"""Whether the clock may be trusted to stamp: the rules of time.

| what is seen | what follows |
|---|---|
| error bound unknown, or above the limit | refuse to stamp, for now |
| wall time went back by up to 1 s | entries keep the previous time |
| wall time went back by more than 1 s | the ledger stops |
| wall time ran ahead of the monotonic clock by more than 500 ms | the ledger stops |

Going back is seen against the last entry, against what was received, and against the monotonic
clock; so also after a restart, and after an idle hour. Both clocks are compared since the guard
was made, not since the last stamp: many small steps must not add up unseen.

Source: docs/spec/ticketing.md, the clock.
"""

from __future__ import annotations

from typing import Final

from bistro.clock import Clock
from bistro.errors import StorageError, UnavailableError
from bistro.instant import UnixMillis, format_duration, format_rfc3339

MAX_BACK_MS: Final = 1_000
MAX_AHEAD_MS: Final = 500
DEFAULT_ERROR_LIMIT_MS: Final = 100

_HINT = "set the clock right, then start again"


class ClockGuard:
    """Looks at the clock before every batch.

    Args:
        clock: The clock that stamps.
        error_limit_ms: The largest error bound with which to stamp.
    """

    def __init__(self, clock: Clock, *, error_limit_ms: int = DEFAULT_ERROR_LIMIT_MS) -> None:
        self._clock = clock
        self._error_limit_ms = error_limit_ms
        self._offset_ms = clock.now() - clock.monotonic_ms()

    def require_time(self, *, previous: UnixMillis, received: UnixMillis) -> UnixMillis:
        """The time now, if the clock may stamp.

        Args:
            previous: Time of the ledger's last entry.
            received: When the latest request of the batch was received.

        Raises:
            UnavailableError: The clock's error is unknown or too large.
            StorageError: The clock was set: the ledger must stop.
        """
        bound = self._clock.error_bound_ms()
        if bound is None or bound > self._error_limit_ms:
            found = "unknown" if bound is None else format_duration(bound)
            raise UnavailableError(
                f"clock error: expected at most {self._error_limit_ms} ms, found {found}",
                hint="run a time service, or state an assumed clock error in the settings",
            )
        now = self._clock.now()
        newest = max(previous, received)
        if now < newest - MAX_BACK_MS:
            raise StorageError(
                f"the clock went back from {format_rfc3339(newest)} to {format_rfc3339(now)}",
                hint=_HINT,
            )
        drift = now - self._clock.monotonic_ms() - self._offset_ms
        if not -MAX_BACK_MS <= drift <= MAX_AHEAD_MS:
            raise StorageError(
                f"the clock was set by {format_duration(drift)} since the ledger was opened",
                hint=_HINT,
            )
        return now
