"""The network addresses that have connections: how many each may have, and what they share.

Source: docs/spec/api.md, rules for all routes.
"""

from __future__ import annotations

from typing import Final

DEFAULT_LIMIT: Final = 10_000


class Address:
    """What all connections from one address share.

    Attributes:
        name: The address; empty for a Unix socket.
        connections: How many it has.
    """

    __slots__ = ("connections", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.connections = 0


class Addresses:
    """The addresses of a listener's connections.

    Args:
        limit: Connections of all together; one address may have half of them.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._count = 0
        self._known: dict[str, Address] = {}

    def enter(self, name: str) -> Address | None:
        """The address of a new connection; ``None`` where there is no room for it."""
        address = self._known.get(name)
        if self._count >= self._limit:
            return None
        if address is None:
            address = self._known[name] = Address(name)
        elif address.connections >= self._limit // 2:
            return None
        address.connections += 1
        self._count += 1
        return address

    def leave(self, address: Address) -> None:
        """A connection that entered was lost."""
        self._count -= 1
        address.connections -= 1
        if not address.connections:
            del self._known[address.name]
