"""How long to wait before asking again: full jitter, capped, never below what was asked for.

Full jitter (a uniform choice between zero and the ceiling) spreads the clients that were all
turned away in the same second; anything narrower makes them return in the same second too.

Source: docs/spec/ticketing.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

_MS_PER_S = 1_000
_MAX_DOUBLINGS = 62  # beyond this every ceiling has been reached; keeps the shift small


class Chooser(Protocol):
    """A source of chance that is passed in: ``secrets.SystemRandom()`` or a seeded one."""

    def random(self) -> float:
        """A uniform number, at least 0 and below 1."""
        ...


@dataclass(frozen=True, slots=True)
class Backoff:
    """A policy of delays.

    Attributes:
        first_ms: The ceiling of the first delay; it doubles with every attempt.
        cap_ms: The ceiling that is never passed.
    """

    first_ms: int = 500
    cap_ms: int = 30_000

    def __post_init__(self) -> None:
        """Refuse a policy that could wait not at all or a negative time."""
        if not 0 < self.first_ms <= self.cap_ms:
            raise ValueError(
                f"expected 0 < first_ms <= cap_ms, found {self.first_ms}, {self.cap_ms}"
            )

    def ceiling_ms(self, attempt: int) -> int:
        """The longest delay after failed attempt number ``attempt``, counted from 0."""
        return min(self.cap_ms, self.first_ms << min(max(attempt, 0), _MAX_DOUBLINGS))

    def delay_ms(
        self, attempt: int, chooser: Chooser, *, retry_after_s: float | None = None
    ) -> int:
        """The delay after failed attempt number ``attempt``, counted from 0.

        Args:
            attempt: How many attempts have failed before this one.
            chooser: Where chance comes from.
            retry_after_s: What the peer asked for: a floor, also above the cap. The jitter is
                added to it, since the peer gave many clients the same number.
        """
        jitter = int(chooser.random() * (self.ceiling_ms(attempt) + 1))
        floor = 0 if retry_after_s is None else max(0, round(retry_after_s * _MS_PER_S))
        return floor + jitter
