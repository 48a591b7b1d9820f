"""Small fragments that come whole, but slowly: their bytes wait on the disk until all are there.

Thousands may come at the same time for a thousandth of their memory: one that crawls has its
claim, some bytes that are not written yet, and a slot of the spool. When its last byte has come
it is read back and kept like any other.

| what happens | what follows |
|---|---|
| the connection breaks, is silent, or brings too little | slot and room are given back |
| no memory for a fragment that is all there | it waits; no more is read of its connection |
| the spool cannot be written | those whose bytes they were are told why |
| the process ends | all is gone; nobody was told of an upload that could go on |

Source: docs/spec/staging.md, creation; docs/spec/segments.md, waiting bytes.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from bistro.clock import Clock
from bistro.errors import BistroError, UnknownObjectError
from bistro.ids import Origin
from bistro.storage.finishing import finish
from bistro_relay.services.claims import ClaimDesk, Examined
from bistro_relay.services.quotas import Quotas
from bistro_relay.services.room import Room, full_answered
from bistro_relay.services.whole import WholeIntake
from bistro_relay.services.whole_fragment import Kept, Tell
from bistro_relay.store.spool import SpoolFile

GATHERED_SIZE: Final = 8_192
"""Bytes of one that wait in memory to be written together."""
BEHIND_SIZE: Final = 131_072
"""Bytes of one that wait in memory at most: no more is read before they are written."""

_RETRY_S: Final = 0.05


class Crawl:
    """One fragment on its way.

    Args:
        examined: Its claim, of which no more than the encoded form is kept.
        slot: Where its bytes wait.
        now_ms: On the monotonic clock.
        on_room: Called when bytes were written: more may be read.
        tell: Hears how it ended; not called once it was given up.

    Attributes:
        claim: Encoded.
        origin: The call.
        commitment: The submission.
        size: Bytes of the fragment.
        received: Of these, those that have come.
    """

    __slots__ = (
        "begun_ms",
        "claim",
        "commitment",
        "gathered",
        "heard_ms",
        "is_writing",
        "on_room",
        "origin",
        "pieces",
        "received",
        "size",
        "slot",
        "tell",
    )

    def __init__(
        self,
        examined: Examined,
        slot: int,
        now_ms: int,
        *,
        on_room: Callable[[], None],
        tell: Tell,
    ) -> None:
        claim = examined.claim
        self.claim = examined.encoded
        self.origin: Origin = claim.origin
        self.commitment = claim.commitment
        self.size = claim.descriptor.size
        self.slot = slot
        self.begun_ms = self.heard_ms = now_ms
        self.received = 0
        self.pieces: list[bytes] = []
        self.gathered = 0  # bytes in memory, those that are being written included
        self.is_writing = False
        self.on_room = on_room
        self.tell: Tell | None = tell

    @property
    def missing_size(self) -> int:
        """Bytes that have not come."""
        return self.size - self.received

    @property
    def is_behind(self) -> bool:
        """Whether so much waits to be written that no more should be read."""
        return self.gathered > BEHIND_SIZE


class Crawls:
    """All of them; ``run`` is the part that writes.

    Args:
        desk: Lets them in, and knows their claims again.
        whole: Keeps them.
        room: Has room reserved for each.
        quotas: Count each as begun, and say how slow one may be.
        spool: Holds their bytes.
        clock: Tells how long one lasts.
    """

    def __init__(
        self,
        *,
        desk: ClaimDesk,
        whole: WholeIntake,
        room: Room,
        quotas: Quotas,
        spool: SpoolFile,
        clock: Clock,
    ) -> None:
        self._desk = desk
        self._whole = whole
        self._room = room
        self._quotas = quotas
        self._spool = spool
        self._clock = clock
        self._free: list[int] = []
        self._slots = 0
        self._due: dict[Crawl, None] = {}
        self._ended: list[Crawl] = []
        self._has_work = asyncio.Event()

    def begin(self, examined: Examined, *, on_room: Callable[[], None], tell: Tell) -> Crawl:
        """Let a fragment in whose bytes will come slowly; ``tell`` or ``give_up`` ends it.

        Raises:
            DeadlinePassedError, RelayFullError, OverloadedError, UnavailableError: As
                ``Intake.create``.
        """
        claim = examined.claim
        server, size = claim.origin.server, claim.descriptor.size
        quota = self._desk.require_open(examined)
        self._quotas.take(claim.origin, claim.commitment)
        self._room.reserve(server, size, quota_bytes=quota)
        try:
            self._quotas.begin(claim.origin, claim.commitment)
        except BistroError:
            self._room.give_back(server, size=size, missing_size=size)
            raise
        if not self._free:
            heapq.heappush(self._free, self._slots)
            self._slots += 1
        slot = heapq.heappop(self._free)
        return Crawl(examined, slot, self._clock.monotonic_ms(), on_room=on_room, tell=tell)

    def add(self, crawl: Crawl, data: bytes) -> None:
        """Take bytes, not more than are missing; with the last of them the fragment is kept."""
        crawl.received += len(data)
        crawl.heard_ms = self._clock.monotonic_ms()
        crawl.gathered += len(data)
        crawl.pieces.append(data)
        if not crawl.missing_size:
            self._ended.append(crawl)
        elif crawl.gathered < GATHERED_SIZE:
            return
        self._due[crawl] = None
        self._has_work.set()

    def require_pace(self, crawl: Crawl) -> None:
        """Check that a fragment comes fast enough to be waited for.

        Raises:
            UnavailableError: It is silent, or brings too little.
        """
        now_ms = self._clock.monotonic_ms()
        self._quotas.require_heard(now_ms - crawl.heard_ms)
        self._quotas.require_pace(now_ms - crawl.begun_ms, crawl.received)

    def give_up(self, crawl: Crawl) -> None:
        """Forget a fragment whose last byte has not come."""
        crawl.tell = None
        self._due.pop(crawl, None)
        self._quotas.end(crawl)
        self._room.give_back(crawl.origin.server, size=crawl.size, missing_size=crawl.size)
        if not crawl.is_writing:
            self._leave_slot(crawl)

    def _leave_slot(self, crawl: Crawl) -> None:
        heapq.heappush(self._free, crawl.slot)
        # The part looks whether anybody is left.
        self._has_work.set()

    async def run(self) -> NoReturn:
        """Write what comes and keep what is whole, until cancelled.

        Raises:
            StorageError: The spool cannot be emptied.
        """
        try:
            while True:
                await self._wait()
                await finish(self._work())
        finally:
            await finish(asyncio.to_thread(self._spool.close))

    async def _wait(self) -> None:
        """Return when there is something to do; what waits for memory is looked at again soon."""
        try:
            async with asyncio.timeout(_RETRY_S if self._ended else None):
                await self._has_work.wait()
        except TimeoutError:
            pass
        self._has_work.clear()

    async def _work(self) -> None:
        due, self._due = list(self._due), {}
        if due:
            await self._write(due)
        ended, self._ended = self._ended, []
        for crawl in ended:
            if crawl.tell is None:
                continue
            if crawl.gathered or not self._whole.admit(crawl.size):
                # Its last bytes came while others were written, or there is no memory.
                self._ended.append(crawl)
            else:
                await self._keep(crawl)
        if self._slots and len(self._free) == self._slots:
            self._free, self._slots = [], 0
            await asyncio.to_thread(self._spool.clear)

    async def _write(self, due: Sequence[Crawl]) -> None:
        batch: list[tuple[int, int, bytes]] = []
        for crawl in due:
            crawl.is_writing = True
            data, crawl.pieces = b"".join(crawl.pieces), []
            batch.append((crawl.slot, crawl.received - len(data), data))
        error: BistroError | None = None
        try:
            with full_answered():
                await asyncio.to_thread(self._spool.write, batch)
        except BistroError as exc:
            error = exc
        for crawl, (_, _, data) in zip(due, batch, strict=True):
            crawl.is_writing = False
            crawl.gathered -= len(data)
            if crawl.tell is None:
                self._leave_slot(crawl)
            elif error is not None:
                self._fail(crawl, error)
            else:
                crawl.on_room()

    def _fail(self, crawl: Crawl, error: BistroError) -> None:
        tell = crawl.tell
        self.give_up(crawl)
        if tell is not None:
            tell(error)

    async def _keep(self, crawl: Crawl) -> None:
        """Have a fragment kept that is all there; its memory has been taken."""
        try:
            examined = self._recall(crawl)
            body = await asyncio.to_thread(self._spool.read, crawl.slot, size=crawl.size)
        except BistroError as exc:
            self._whole.give_back(crawl.size)
            self._fail(crawl, exc)
            return
        tell, crawl.tell = crawl.tell, None
        self._quotas.end(crawl)
        self._leave_slot(crawl)

        def tell_end(result: Kept | BistroError) -> None:
            self._whole.give_back(crawl.size)
            if tell is not None:
                tell(result)

        # Its room stays reserved, and is the whole fragment's from here on.
        self._whole.begin(examined, memoryview(body), tell_end, is_reserved=True)

    def _recall(self, crawl: Crawl) -> Examined:
        examined = self._desk.recall(crawl.claim)
        if examined is None:
            raise UnknownObjectError("claim: its call is not served here any more")
        self._desk.require_allowed(crawl.origin, crawl.commitment, examined.claim.descriptor.index)
        return examined
