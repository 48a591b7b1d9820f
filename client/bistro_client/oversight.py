"""Watches uploads: ends those that are hopeless, and lets other relays race slow ones.

An upload that moves no byte for a while is stalled; where none moves, it may be the filer's own
line, and they get longer. One that would take many times as long as the others is a laggard: a
second relay races it, or it is left if the fragment need not go now. At the end, when nothing is
left to be begun and receipts are still needed, much less is slow.

Source: docs/spec/staging.md, choosing relays.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from bistro.errors import UnavailableError
from bistro_client.wording import say

if TYPE_CHECKING:  # whoever waits for a ticket loads limits, and no uploads
    from bistro_client.uploading import Delivery

STALL_S: Final = 20.0
DEAD_S: Final = 90.0
PERIOD_S: Final = 1.0
_YOUNG_S: Final = 5.0
"""Before this nothing is known about a rate."""
_BEARABLE_S: Final = 60.0
_TIMES_SLOWER: Final = 8.0
_TIMES_SLOWER_AT_THE_END: Final = 4.0


@dataclass(frozen=True, slots=True)
class Limits:
    """When an upload is given up.

    Attributes:
        stall_s: After so long without a byte, while others move.
        dead_s: After so long without a byte, while no other moves either.
        period_s: How often it is looked at.
        young_s: Age below which no rate is believed.
        bearable_s: What would end within this time is no laggard.
        race_s: What would end within this time needs no race at the end.
        race_silence_s: A race begins after so long without a byte, at the end, while others move.
    """

    stall_s: float = STALL_S
    dead_s: float = DEAD_S
    period_s: float = PERIOD_S
    young_s: float = _YOUNG_S
    bearable_s: float = _BEARABLE_S
    race_s: float = 10.0
    race_silence_s: float = 5.0


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
    started_at: float
    start: int
    has_moved: bool = False
    verdict: str = ""

    def rate(self, now: float) -> float:
        """Bytes a second since the first that was seen."""
        return max(0, self.seen - self.first) / max(now - self.began_at, 1e-6)

    def end(self, verdict: str) -> None:
        self.verdict = verdict
        self.limit.reschedule(asyncio.get_running_loop().time())


class Judge(Protocol):
    """Who knows what may become of slow uploads."""

    def on_laggard(self) -> None:
        """An upload is stalled or many times slower than the others."""
        ...

    def is_end(self) -> bool:
        """Whether receipts are needed, and every fragment without one is under way."""
        ...

    def challenge(self, delivery: Delivery) -> bool:
        """Bring the fragment to another relay as well; whether one is on its way."""
        ...

    def may_leave(self, delivery: Delivery) -> bool:
        """Whether an upload may be given up: the fragment can go elsewhere, or wait."""
        ...


@dataclass(slots=True)
class Oversight:
    """Watches all uploads of one run.

    Attributes:
        judge: What may become of slow uploads.
        limits: When they are slow.
    """

    judge: Judge
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
        sent = delivery.sent
        lap = _Lap(delivery, size, asyncio.timeout(None), now, now, sent, sent, now, sent)
        try:
            async with lap.limit:
                self._laps.append(lap)
                try:
                    yield
                finally:
                    self._laps.remove(lap)
                self._arrived(lap)
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

    def _arrived(self, lap: _Lap) -> None:
        """A receipt shows how fast a relay may be, also where nobody looked in between."""
        took_s = asyncio.get_running_loop().time() - lap.started_at
        self._best_rate = max(self._best_rate, (lap.size - lap.start) / max(took_s, 1e-6))

    def _bearable_silence(self, lap: _Lap) -> float:
        have_others_moved = self._moved_at > lap.moved_at
        return self.limits.stall_s if have_others_moved else self.limits.dead_s

    def _judge(self, lap: _Lap, now: float) -> None:
        silent_s = now - lap.moved_at
        if silent_s >= self._bearable_silence(lap):
            self.judge.on_laggard()
            lap.end(say("oversight.took-no-byte", silent_s=silent_s))
        elif self._is_slower(lap, now, self.limits.bearable_s, _TIMES_SLOWER):
            self.judge.on_laggard()
            is_raced = self.judge.challenge(lap.delivery)
            if not is_raced and self.judge.may_leave(lap.delivery):
                lap.end(say("oversight.many-times-slower"))
        elif self.judge.is_end() and (
            silent_s >= self._silence_for_a_race(lap)
            or self._is_slower(lap, now, self.limits.race_s, _TIMES_SLOWER_AT_THE_END)
        ):
            self.judge.challenge(lap.delivery)

    def _silence_for_a_race(self, lap: _Lap) -> float:
        have_others_moved = self._moved_at > lap.moved_at
        return self.limits.race_silence_s if have_others_moved else self.limits.stall_s

    def _is_slower(self, lap: _Lap, now: float, bearable_s: float, times: float) -> bool:
        """Whether an upload takes longer than so long, and so many times the fastest one's time."""
        if now - lap.began_at < self.limits.young_s or not self._best_rate:
            return False
        left_s = (lap.size - lap.seen) / max(lap.rate(now), 1e-6)
        usual_s = lap.size / self._best_rate
        return left_s > max(bearable_s, times * usual_s)
