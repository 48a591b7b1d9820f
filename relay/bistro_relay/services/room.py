"""How much may still be taken: quotas of destinations, room on the disk, open requests.

Space is reserved when an upload is created, so that one that was accepted can be finished.

Source: docs/spec/staging.md, creation.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bistro.clock import Clock
from bistro.daemon.buckets import Rate
from bistro.daemon.peers import Peers
from bistro.errors import OverloadedError, RelayFullError, StorageError, UnavailableError
from bistro.wire.discovery import FULL_LOAD
from bistro_relay.metrics import RelayMetrics
from bistro_relay.services.accounts import Accounts
from bistro_relay.store.segments import is_full
from bistro_relay.store.uploads import UploadStore

_RETRY_S = 2.0
_BURST_S = 16
_SAMPLE_MS = 20
"""In so many milliseconds a disk takes less than what is kept back for others."""


def free_disk_bytes(directory: Path) -> int:
    """Bytes that the file system of ``directory`` has for us."""
    try:
        return shutil.disk_usage(directory).free
    except OSError as exc:
        raise StorageError(f"free space of {directory}: {exc.strerror}") from exc


class SampledDisk:
    """Free bytes of a file system, looked at so often and no oftener.

    What is written in between has been reserved, so it is counted all the same, once.

    Args:
        directory: On the file system.
        clock: Tells when a look is too old.
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._seen_ms: int | None = None
        self._free = 0

    def __call__(self) -> int:
        """Bytes that the file system has for us."""
        now_ms = self._clock.monotonic_ms()
        if self._seen_ms is None or now_ms - self._seen_ms >= _SAMPLE_MS:
            self._free, self._seen_ms = free_disk_bytes(self._directory), now_ms
        return self._free


@contextmanager
def full_answered() -> Iterator[None]:
    """Answer a full disk as ``relay-full``: another relay has room, and nothing here is broken.

    Raises:
        RelayFullError: The disk had no room for what was written inside.
        StorageError: Any other failure, as it was.
    """
    try:
        yield
    except (StorageError, UnavailableError) as exc:
        if is_full(exc):
            raise RelayFullError(
                "the disk of this relay is full", hint="use another relay"
            ) from exc
        raise


class Room:
    """Bytes used and reserved, in memory; the rows of uploads are the truth.

    Args:
        free_disk: Bytes free on the disk now.
        accounts: Told what has come, and asked whether traffic is left for more.
        reserve_bytes: Of the free bytes, those never given to fragments.
        fragments_count: Fragments of one destination at most; None: as many as have room.
        metrics: Told what is used and free.
    """

    def __init__(
        self,
        free_disk: Callable[[], int],
        accounts: Accounts,
        *,
        reserve_bytes: int,
        metrics: RelayMetrics,
        fragments_count: int | None = None,
    ) -> None:
        self._fragments_count = fragments_count
        self._counts: Counter[str] = Counter()
        self._free_disk = free_disk
        self._accounts = accounts
        self._reserve_bytes = reserve_bytes
        self._used: Counter[str] = Counter()
        self._outstanding = 0
        metrics.held.set_function(self._used.total)
        metrics.free.set_function(self.free_bytes)

    async def load(self, uploads: UploadStore) -> None:
        """Count what the rows say; once, at the start."""
        async for tally in uploads.tally():
            if not tally.state.is_final:
                missing_size = tally.size - tally.durable_size
                self._counts[tally.origin.server] += tally.count
                self._count(tally.origin.server, size=tally.size, missing_size=missing_size)

    @property
    def servers(self) -> tuple[str, ...]:
        """The destinations for which anything is held or promised."""
        return tuple(server for server, size in self._used.items() if size)

    def used(self, server: str) -> int:
        """Bytes held for, or promised to uploads of, a destination."""
        return self._used[server]

    def owed_to_others(self, server: str) -> int:
        """Bytes held for, or promised to uploads of, all other destinations."""
        return self._used.total() - self._used[server]

    def free_bytes(self) -> int:
        """Room for further fragments; what accepted uploads still miss is taken off."""
        return max(0, self._free_disk() - self._reserve_bytes - self._outstanding)

    def require(self, server: str, size: int, *, quota_bytes: int | None) -> None:
        """Check that there is room for ``size`` bytes of an upload.

        Raises:
            RelayFullError: The destination's quota, the disk or the month's traffic has none.
        """
        if quota_bytes is not None and self._used[server] + size > quota_bytes:
            raise RelayFullError(
                f"quota of {server}: expected at most {quota_bytes} bytes, "
                f"found {self._used[server]} in use and {size} more",
                hint="use another relay",
            )
        count = self._counts[server]
        if self._fragments_count is not None and count >= self._fragments_count:
            raise RelayFullError(
                f"quota of {server}: expected fewer than {self._fragments_count} fragments, "
                f"found {count}",
                hint="use another relay",
            )
        free = self.free_bytes()
        if size > free:
            raise RelayFullError(
                f"disk: expected {size} bytes free, found {free}", hint="use another relay"
            )
        self._accounts.require_taking(size, owed=self._used.total() + self._outstanding)

    def reserve(self, server: str, size: int, *, quota_bytes: int | None) -> None:
        """Set ``size`` bytes aside for an upload.

        Raises:
            RelayFullError: As ``require``.
        """
        self.require(server, size, quota_bytes=quota_bytes)
        self._counts[server] += 1
        self._count(server, size=size, missing_size=size)

    def _count(self, server: str, *, size: int, missing_size: int) -> None:
        """Take note of an upload that is there, of which ``missing_size`` bytes are to come."""
        self._used[server] += size
        self._outstanding += missing_size

    def fill(self, server: str, size: int) -> None:
        """``size`` bytes that had been reserved are on the disk now."""
        self._outstanding -= size
        self._accounts.received(server, size)

    def give_back(self, server: str, *, size: int, missing_size: int = 0) -> None:
        """An upload has ended, of which ``missing_size`` bytes had not come."""
        self._counts[server] -= 1
        self._count(server, size=-size, missing_size=-missing_size)


class Gate:
    """Bounds how many requests are answered at once, in all and from one address.

    Addresses are kept while their requests are open, in memory only.

    Args:
        limit: Requests in all.
        per_address: Of these, requests of one address, or of one IPv6 network.
        per_s: How many of these may begin in a second; None: that is not limited.
    """

    def __init__(self, limit: int, *, per_address: int, per_s: int | None = None) -> None:
        self._peers = Peers(rate=None if per_s is None else Rate(per_s, per_s * _BURST_S))
        self._limit = limit
        self._per_address = per_address
        self._open: Counter[str] = Counter()
        self._count = 0

    @property
    def count(self) -> int:
        """Requests that are open now."""
        return self._count

    @property
    def load(self) -> int:
        """From 0, idle, to 1,000, nothing more is let in."""
        return min(FULL_LOAD, self._count * FULL_LOAD // self._limit)

    @contextmanager
    def entered(self, address: str | None) -> Iterator[None]:
        """One request, for as long as the block runs.

        Raises:
            OverloadedError: Too many are open; nothing was read of this one.
        """
        name = address or ""
        if not self.enter(name):
            raise OverloadedError("too many requests are being answered", retry_after_s=_RETRY_S)
        try:
            yield
        finally:
            self.leave(name)

    def enter(self, name: str) -> bool:
        """Let one request of an address in, if there is room; ``leave`` must follow."""
        bucket = self._peers.who(name).bucket
        name = self._network(name)
        if self._count >= self._limit or self._open[name] >= self._per_address:
            return False
        if bucket is not None and bucket.take(1, asyncio.get_running_loop().time()):
            return False
        self._count += 1
        self._open[name] += 1
        return True

    def leave(self, name: str) -> None:
        """A request that was let in is answered."""
        name = self._network(name)
        self._count -= 1
        self._open[name] -= 1
        if not self._open[name]:
            del self._open[name]

    def _network(self, name: str) -> str:
        """Whoever has one IPv6 address has very many of them: their network counts."""
        return self._peers.name(name)[0] if ":" in name else name
