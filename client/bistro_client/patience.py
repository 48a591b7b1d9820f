"""How long to go on asking somebody who cannot be reached: backoff, told and bounded.

Source: docs/spec/ticketing.md, repeating; docs/spec/commands.md, submit.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from bistro.clock import Clock
from bistro.errors import FormatError, UnavailableError
from bistro.instant import MAX_INSTANT, UnixMillis
from bistro.protocol.backoff import Backoff, Chooser
from bistro_client import notices, peer_messages
from bistro_client.listening import SILENT, Listener, Notice
from bistro_client.times import UNSURE_MS, ServerTime

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]
TELL_AGAIN_MS: Final = 30_000
"""The same words more often than this help nobody."""
_MS_PER_S: Final = 1_000
_SHORTEST_CUT_MS: Final = 250
"""However near the deadline is, pauses are not cut below this."""


@dataclass(frozen=True, slots=True)
class Patience:
    """The policy for everything that may be tried again.

    Attributes:
        clock: Measures how long it has been tried.
        limit_ms: Give up after this long without an answer; None: only when it is too late.
        backoff: How long to wait in between.
        chooser: Where chance comes from.
        sleep: Waits; tests advance a clock instead.
        listener: Told before each wait.
    """

    clock: Clock
    limit_ms: int | None = None
    backoff: Backoff = field(default_factory=lambda: Backoff(first_ms=500, cap_ms=15_000))
    chooser: Chooser = field(default_factory=secrets.SystemRandom)
    sleep: Sleep = asyncio.sleep
    listener: Listener = SILENT
    _told_ms: dict[str, int] = field(default_factory=dict, repr=False)

    def tell(self, reason: str, notice: Notice) -> None:
        """Tell about a reason for waiting when it is new, and from time to time again."""
        now_ms = self.clock.monotonic_ms()
        told_ms = self._told_ms.get(reason)
        if told_ms is None or now_ms - told_ms >= TELL_AGAIN_MS:
            self._told_ms[reason] = now_ms
            self.listener.tell(notice)

    def begin(
        self,
        *,
        until: UnixMillis | None = None,
        best_by: UnixMillis | None = None,
        time: ServerTime | None = None,
    ) -> Wait:
        """Start to wait for one thing, by the server's ``time``.

        Args:
            until: Give up then.
            best_by: An answer by then is worth much more: until then no pause is longer than
                half the time that is left, whatever the other side asked for.
            time: The server's clock.
        """
        return Wait(self, self.clock.monotonic_ms(), until, best_by, time)


@dataclass(slots=True)
class Wait:
    """One thing that is waited for: how often it failed, and whether to go on."""

    policy: Patience
    began_ms: int
    until: UnixMillis | None
    best_by: UnixMillis | None
    time: ServerTime | None
    failures: int = 0

    async def pause(self, error: UnavailableError) -> None:
        """Wait before the next attempt.

        Raises:
            UnavailableError: ``error`` itself, when waiting makes no more sense.
        """
        policy = self.policy
        delay_ms = policy.backoff.delay_ms(
            self.failures, policy.chooser, retry_after_s=error.retry_after_s
        )
        delay_ms = min(delay_ms, self._longest_pause_ms())
        self.failures += 1
        waited_ms = policy.clock.monotonic_ms() - self.began_ms
        if policy.limit_ms is not None and waited_ms + delay_ms > policy.limit_ms:
            raise error
        if self._is_too_late(delay_ms):
            raise error
        policy.tell(error.message, notices.waiting(error, delay_ms))
        await policy.sleep(delay_ms / _MS_PER_S)

    async def ask(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Make the attempt until it succeeds, or fails with more than ``UnavailableError``.

        An answer that cannot be read counts as none: something stands in between.
        """
        while True:
            try:
                return await attempt()
            except UnavailableError as exc:
                await self.pause(exc)
            except FormatError as exc:
                await self.pause(peer_messages.nonsense(exc))

    def _longest_pause_ms(self) -> int:
        """Nobody sleeps through a service that is back before the deadline."""
        if self.best_by is None or self.time is None:
            return MAX_INSTANT
        left_ms = self.best_by - self.time.now()
        # The server's clock is known to seconds only: the last of them count as not yet over.
        return max(_SHORTEST_CUT_MS, left_ms // 2) if left_ms > -UNSURE_MS else MAX_INSTANT

    def _is_too_late(self, delay_ms: int) -> bool:
        # Without a word from the server its clock is unknown, and ours decides nothing.
        if self.until is None or self.time is None or self.time.offset_ms is None:
            return False
        return self.time.now() + delay_ms > self.until
