"""Watches uploads, and ends those that are hopeless: a relay may take bytes for ever.

An upload that moves no byte for a while is stalled; where none moves, it may be the filer's own
line, and they get longer. One that would take many times as long as
the others is a laggard: it is left if the fragment can go elsewhere, or need not go now.

Source: docs/spec/staging.md, choosing relays.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from bistro.errors import UnavailableError
from bistro_client.uploading import Delivery

STALL_S: Final = 20.0
DEAD_S: Final = 90.0
PERIOD_S: Final = 1.0
_YOUNG_S: Final = 5.0
"""Before this nothing is known about a rate."""
_BEARABLE_S: Final = 60.0
_TIMES_SLOWER: Final = 8.0


@dataclass(frozen=True, slots=True)
class Limits:
    """When an upload is given up.

    Attributes:
        stall_s: After so long without a byte, while others move.
        dead_s: After so long without a byte, while no other moves either.
        period_s: How often it is looked at.
        young_s: Age below which no rate is believed.
        bearable_s: What would end within this time is no laggard.
    """

    stall_s: float = STALL_S
    dead_s: float = DEAD_S
    period_s: float = PERIOD_S
    young_s: float = _YOUNG_S
    bearable_s: float = _BEARABLE_S


@dataclass(slots=True)
class _Lap:
    """One attempt to bring one fragment, as it is watched."""

    delivery: Delivery
    size: int
    limit: asyncio.Timeout
    began_at: float
    moved_at: float
    first: int
    seen: int
    has_moved: bool = False
    verdict: str = ""

    def rate(self, now: float) -> float:
        """Bytes a second since the first that was seen."""
        return max(0, self.seen - self.first) / max(now - self.began_at, 1e-6)

    def end(self, verdict: str) -> None:
        self.verdict = verdict
        self.limit.reschedule(asyncio.get_running_loop().time())


@dataclass(slots=True)
class Oversight:
    """Watches all uploads of one run.

    Attributes:
        may_leave: Whether a laggard may be given up: the fragment can go elsewhere, or wait.
        on_laggard: Told of each as soon as it is one, given up or not.
        limits: When.
    """

    may_leave: Callable[[Delivery], bool]
    on_laggard: Callable[[], None]
    limits: Limits = field(default_factory=Limits)
    _laps: list[_Lap] = field(default_factory=list)
    _best_rate: float = 0.0
    _moved_at: float = 0.0

    @asynccontextmanager
    async def watching(self, delivery: Delivery, size: int) -> AsyncIterator[None]:
        """Watch one attempt.

        Raises:
            UnavailableError: It was given up; the message says why.
        """
        now = asyncio.get_running_loop().time()
        lap = _Lap(delivery, size, asyncio.timeout(None), now, now, delivery.sent, delivery.sent)
        try:
            async with lap.limit:
                self._laps.append(lap)
                try:
                    yield
                finally:
                    self._laps.remove(lap)
        except TimeoutError as exc:
            raise UnavailableError(f"relay {delivery.relay.name}: {lap.verdict}") from exc

    async def run(self) -> None:
        """Look at all uploads, again and again; never returns."""
        while True:
            await asyncio.sleep(self.limits.period_s)
            now = asyncio.get_running_loop().time()
            for lap in list(self._laps):
                self._notice(lap, now)
            for lap in list(self._laps):
                self._judge(lap, now)

    def _notice(self, lap: _Lap, now: float) -> None:
        if lap.delivery.sent != lap.seen:
            if not lap.has_moved:
                # Measured from here: one that goes on where the relay is has sent nothing yet.
                lap.first, lap.began_at, lap.has_moved = lap.delivery.sent, now, True
            lap.seen, lap.moved_at = lap.delivery.sent, now
            self._moved_at = now
        if now - lap.began_at >= self.limits.young_s:
            self._best_rate = max(self._best_rate, lap.rate(now))

    def _bearable_silence(self, lap: _Lap) -> float:
        have_others_moved = self._moved_at > lap.moved_at
        return self.limits.stall_s if have_others_moved else self.limits.dead_s

    def _judge(self, lap: _Lap, now: float) -> None:
        silent_s = now - lap.moved_at
        if silent_s >= self._bearable_silence(lap):
            self.on_laggard()
            lap.end(f"it took no byte for {silent_s:.0f} s")
            return
        if now - lap.began_at < self.limits.young_s or not self._best_rate:
            return
        left_s = (lap.size - lap.seen) / max(lap.rate(now), 1e-6)
        usual_s = lap.size / self._best_rate
        if left_s > max(self.limits.bearable_s, _TIMES_SLOWER * usual_s):
            self.on_laggard()
            if self.may_leave(lap.delivery):
                lap.end("it is many times slower than the others")
