"""Hands an archive from the thread that reads it to the one that seals it, in slabs.

The first bytes, up to the lead's size, stay in memory; what follows goes to the other thread in
slabs that are used again and again. When all slabs are on their way the reader waits, so that
memory does not depend on which of the two is slower.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Final

SLAB_SIZE: Final = 262_144
_SLAB_COUNT: Final = 3


class Belt:
    """What is read, on its way.

    Args:
        lead: Bytes that stay here; those before ``lead_at`` are filled in later.
        take: Takes a slab, which is its own until it returns.
        pool: Of one thread, so that slabs are taken in order.
    """

    def __init__(
        self, lead: bytearray, *, lead_at: int, take: Callable[[memoryview], None], pool: Executor
    ) -> None:
        self._take = take
        self._pool = pool
        self._slab = memoryview(lead)
        self._at = lead_at
        self._is_lead = True
        self._free: list[memoryview] = [
            memoryview(bytearray(SLAB_SIZE)) for _ in range(_SLAB_COUNT)
        ]
        self._taken: deque[tuple[memoryview, Future[None]]] = deque()

    def room(self) -> memoryview:
        """Where the next bytes go: at least one."""
        if self._at == len(self._slab):
            self._hand_on()
        return self._slab[self._at :]

    def filled(self, size: int) -> None:
        """So many bytes were put at the beginning of ``room``."""
        self._at += size

    def put(self, data: bytes) -> None:
        """Copy ``data`` to the end."""
        left = memoryview(data)
        while left:
            room = self.room()
            piece = left[: len(room)]
            room[: len(piece)] = piece
            self.filled(len(piece))
            left = left[len(piece) :]

    def finish(self) -> None:
        """Hand on what is left, and return when all of it was taken.

        Raises:
            StorageError: As ``take`` raised it.
        """
        if not self._is_lead:
            self._send()
        while self._taken:
            self._reclaim()

    def _hand_on(self) -> None:
        if not self._is_lead:
            self._send()
        if not self._free:
            self._reclaim()
        self._slab, self._at, self._is_lead = self._free.pop(), 0, False

    def _send(self) -> None:
        future = self._pool.submit(self._take, self._slab[: self._at])
        self._taken.append((self._slab, future))

    def _reclaim(self) -> None:
        """Wait for the oldest slab; what went wrong with it is raised here."""
        slab, future = self._taken.popleft()
        future.result()
        self._free.append(slab)
