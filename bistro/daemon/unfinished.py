"""The bytes of all requests that have begun and are not whole: one budget for a daemon.

Each request alone is limited by its route, but thousands of connections may begin one and let
it wait. So their bytes are counted together. When there are too many, the address that holds
most of them pays, and of its requests the one that began first: whoever sends a request in one
go is never in the way, and nobody's bytes push out those of an address that holds less.

Source: docs/spec/api.md, rules for all routes.
"""

from __future__ import annotations

from typing import Final, Protocol

DEFAULT_LIMIT: Final = 67_108_864


class Holder(Protocol):
    """Whoever holds the bytes of a request that is not whole."""

    def give_up(self) -> None:
        """Let go of them; called once they are not counted any more; must not raise."""


class Unfinished:
    """Counts the bytes of unfinished requests, by address.

    Args:
        limit: Bytes of all together; never exceeded once a call has returned.

    Attributes:
        size: Bytes of all together.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.size = 0
        self._limit = limit
        self._sizes: dict[str, int] = {}
        self._holders: dict[str, dict[Holder, int]] = {}

    def hold(self, holder: Holder, address: str, size: int) -> None:
        """Note how many bytes a holder has now; somebody, perhaps itself, may have to give up."""
        holders = self._holders.setdefault(address, {})
        more = size - holders.get(holder, 0)
        holders[holder] = size  # a known one keeps its place: the order is that of beginning
        self._sizes[address] = self._sizes.get(address, 0) + more
        self.size += more
        while self.size > self._limit:
            self._relieve()

    def release(self, holder: Holder, address: str) -> None:
        """Forget a holder; one that is not known is none."""
        holders = self._holders.get(address)
        size = holders.pop(holder, None) if holders else None
        if holders is None or size is None:
            return
        self.size -= size
        self._sizes[address] -= size
        if not holders:
            del self._holders[address], self._sizes[address]

    def _relieve(self) -> None:
        address = max(self._sizes, key=self._sizes.__getitem__)
        oldest = next(iter(self._holders[address]))
        self.release(oldest, address)
        oldest.give_up()
