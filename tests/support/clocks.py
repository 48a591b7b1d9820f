"""A clock that stands still until a test moves it."""

from __future__ import annotations

from bistro.instant import UnixMillis

NOON = UnixMillis(1_795_348_800_000)
"""Where a manual clock begins: noon of 22 November 2026, UTC."""


class ManualClock:
    """Fulfils ``bistro.clock.Clock``.

    Attributes:
        bound_ms: What ``error_bound_ms`` says; set it at will.
    """

    def __init__(self, now: UnixMillis = NOON, *, bound_ms: int | None = 10) -> None:
        self.bound_ms = bound_ms
        self._now = now
        self._monotonic_ms = 1_000_000

    def now(self) -> UnixMillis:
        return self._now

    def monotonic_ms(self) -> int:
        return self._monotonic_ms

    def error_bound_ms(self) -> int | None:
        return self.bound_ms

    def advance(self, ms: int) -> None:
        """Let time pass."""
        self._now = UnixMillis(self._now + ms)
        self._monotonic_ms += ms

    def step(self, ms: int) -> None:
        """Set the time of day, forward or back; the monotonic clock does not notice."""
        self._now = UnixMillis(self._now + ms)
