"""A bounded queue in which those who wait take turns, so that nobody waits behind one's crowd.

While less waits than one batch takes, it is a queue like any other. When more does, everybody
gets an equal share of the batch (deficit round robin with items of one size), and what one does
not need goes to the others. And nobody may have more waiting than there is room left, so that
there always is some for others: with m greedy ones each ends at 1/(m + 1) of it.

Source: docs/spec/ticketing.md, fairness.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """What waits, by whom it belongs to.

    Args:
        limit: How much may wait.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._waiting: dict[str, deque[T]] = {}

    def __len__(self) -> int:
        """How much waits."""
        return self._count

    def has_room(self, who: str, count: int) -> bool:
        """Whether ``who`` may add ``count`` more."""
        mine = self._waiting.get(who, ())
        return len(mine) + count <= self._limit - self._count

    def add(self, who: str, items: Sequence[T]) -> None:
        """Let items wait, in order; the caller has asked for room."""
        if items:
            self._waiting.setdefault(who, deque()).extend(items)
            self._count += len(items)

    def take(self, count: int) -> list[T]:
        """The next ``count`` items, or all; each one's items in their order."""
        taken: list[T] = []
        while self._waiting and len(taken) < count:
            share = max(1, (count - len(taken)) // len(self._waiting))
            for who in list(self._waiting):
                # Out of the front, and to the back if something is left: the next turn begins
                # with whoever had none in this one.
                mine = self._waiting.pop(who)
                stop = min(share, len(mine), count - len(taken))
                taken.extend(mine.popleft() for _ in range(stop))
                if mine:
                    self._waiting[who] = mine
                if len(taken) == count:
                    break
        self._count -= len(taken)
        return taken
