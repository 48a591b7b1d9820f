"""How fast all uploads together may send: the filer's line is not ours alone."""

from __future__ import annotations

import asyncio
from typing import Final

_BITS: Final = 8


class Pace:
    """Shares a rate among all who send.

    Args:
        bits_per_s: For all together; None: no limit.
    """

    def __init__(self, bits_per_s: int | None = None) -> None:
        self._bits_per_s = bits_per_s
        self._free_at = 0.0

    async def take(self, size: int) -> None:
        """Wait until ``size`` bytes may be sent; whoever asks first goes first."""
        if self._bits_per_s is None:
            return
        now = asyncio.get_running_loop().time()
        begins_at = max(now, self._free_at)
        # Taken before anything is awaited: the next one must see it.
        self._free_at = begins_at + size * _BITS / self._bits_per_s
        await asyncio.sleep(begins_at - now)
