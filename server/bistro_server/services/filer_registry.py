"""The registered filers in memory: what the ticket path asks, without a database.

About 200 bytes a filer. Commands write the list from other processes; ``refresh`` reads what
changed since the last time, a page at a time.

Source: docs/spec/admission.md, registration.
"""

from __future__ import annotations

from bistro_server.store.filers import Filers, Place


class FilerRegistry:
    """Who is registered, as far as ``refresh`` has read.

    Args:
        filers: The list.
    """

    def __init__(self, filers: Filers) -> None:
        self._filers = filers
        self._counts: dict[bytes, bool] = {}
        self._place = Place()

    def __len__(self) -> int:
        """How many keys are known, those revoked too."""
        return len(self._counts)

    def is_known(self, key: bytes) -> bool:
        """Whether the key was ever registered."""
        return key in self._counts

    def is_registered(self, key: bytes) -> bool:
        """Whether the key counts now."""
        return self._counts.get(key, False)

    async def refresh(self) -> int:
        """Read what changed; how many keys did.

        Raises:
            UnavailableError: Another process holds the database; what was read counts.
            StorageError: The database failed.
        """
        count = 0
        while True:
            changed, self._place = await self._filers.changes(self._place)
            if not changed:
                return count
            self._counts.update(changed)
            count += len(changed)
