"""Small fragments that came whole: from checked bytes to the receipt, by the batch.

Whatever waits when the previous batch is durable becomes the next one; there is no timer. Two
stages work at the same time, and between them the sequencer of the call's ledger:

| stage | does | a crash after it leaves |
|---|---|---|
| writing | hashes, writes records, one sync | records without a row: dead |
| sequencer | receipts, one sync | records with receipts: the start makes their rows |
| recording | rows, one commit; answers | all as it was promised |

That a fragment is held already is found by the sequencer: its receipt has the same key. What
is refused for itself, late or wrong bytes, is looked up before that is said, because a held
fragment is answered with its receipt whatever is sent.

Source: docs/spec/staging.md, creation; docs/spec/segments.md, the index.
"""

from __future__ import annotations

import asyncio
import copy
import secrets
from collections import defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NoReturn

from bistro.clock import Clock
from bistro.daemon import logs
from bistro.errors import (
    BistroError,
    ChecksumMismatchError,
    ConflictError,
    RelayFullError,
    StorageError,
)
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.ledger.appended import Appended
from bistro.ledger.sequencer import Result
from bistro.protocol.transfer import TransferState
from bistro.storage.finishing import finish
from bistro_relay.metrics import RelayMetrics
from bistro_relay.services.arrivals import Arrivals
from bistro_relay.services.claims import ClaimDesk, Examined
from bistro_relay.services.ledgers import CustodyLedgers
from bistro_relay.services.quotas import Quotas
from bistro_relay.services.room import Room, full_answered
from bistro_relay.services.whole_fragment import Kept, Tell, Whole
from bistro_relay.store.placing import PlacedUploads
from bistro_relay.store.shared import SMALL_SIZE, Record, Wanted
from bistro_relay.store.shelf import Shelf
from bistro_relay.store.uploads import Upload

BATCH_COUNT: Final = 256
BATCH_SIZE: Final = 8_388_608
MEMORY_SIZE: Final = 16_777_216
"""Bytes of fragments in memory at most; what comes beyond is streamed to a file."""

_AROUND: Final = 32_768
_HASHED_AT_ONCE: Final = 131_072
"""Fragments up to this size are hashed when they come: they are in the processor's cache still."""

_log = logs.get_logger("intake")


class WholeIntake:
    """Takes small fragments that came whole; ``run`` is the part that does it.

    Args:
        desk: Tells whether a fragment may be staged now.
        shelf: Keeps them.
        placed: Their rows.
        ledgers: Promise.
        room: Told what has come, and what is given back.
        quotas: Say how many may come.
        arrivals: Told what can be seen at ``/staged``.
        clock: Dates rows.
        metrics: Counts bytes and ends.
    """

    def __init__(  # noqa: PLR0913 - it stands between all of these
        self,
        *,
        desk: ClaimDesk,
        shelf: Shelf,
        placed: PlacedUploads,
        ledgers: CustodyLedgers,
        room: Room,
        quotas: Quotas,
        arrivals: Arrivals,
        clock: Clock,
        metrics: RelayMetrics,
    ) -> None:
        self._desk = desk
        self._shelf = shelf
        self._placed = placed
        self._ledgers = ledgers
        self._room = room
        self._quotas = quotas
        self._arrivals = arrivals
        self._clock = clock
        self._metrics = metrics
        self._memory = MEMORY_SIZE
        self._arrived: deque[Whole] = deque()
        self._has_arrived = asyncio.Event()
        self._settled: list[Whole] = []
        self._has_settled = asyncio.Event()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="segments")

    @property
    def largest(self) -> int:
        """The largest fragment that is small, in bytes."""
        return SMALL_SIZE

    def admit(self, size: int) -> bool:
        """Take memory for a fragment, if it is small and there is some; give it back after."""
        if not 0 < size <= SMALL_SIZE + _AROUND or size > self._memory:
            return False
        self._memory -= size
        return True

    def give_back(self, size: int) -> None:
        """Give back what ``admit`` took."""
        self._memory += size

    def is_open(self, examined: Examined) -> bool:
        """Whether a new fragment would be taken now: to be asked before its bytes are read."""
        origin, size = examined.claim.origin, examined.claim.descriptor.size
        try:
            quota = self._desk.require_open(examined)
            self._room.require(origin.server, size, quota_bytes=quota)
        except BistroError:
            return False
        return True

    async def take(
        self, examined: Examined, body: bytes | memoryview, *, begun: Upload | None = None
    ) -> Kept:
        """Keep a fragment; what this returns is durable and promised.

        Args:
            examined: Its claim.
            body: As long as the claim says.
            begun: Its upload, if that was created before; nobody else works on it.

        Raises:
            BistroError: As ``begin`` tells it.
        """
        ended: asyncio.Future[Kept | BistroError] = asyncio.get_running_loop().create_future()

        def tell(result: Kept | BistroError) -> None:
            if not ended.done():
                ended.set_result(result)

        self.begin(examined, body, tell, begun=begun)
        result = await ended
        if isinstance(result, BistroError):
            raise copy.copy(result) from result
        return result

    def begin(
        self,
        examined: Examined,
        body: bytes | memoryview,
        tell: Tell,
        *,
        begun: Upload | None = None,
        is_reserved: bool = False,
    ) -> None:
        """Keep a fragment; what is told as kept is durable and promised.

        Told errors are ``DeadlinePassedError``, ``RelayFullError``, ``ChecksumMismatchError``
        where the bytes are not the descriptor's, ``UnavailableError``, ``StorageError``.

        Args:
            examined: Its claim.
            body: As long as the claim says.
            tell: Hears how it ended.
            begun: Its upload, if that was created before: it was let in then.
            is_reserved: Whether it was let in before without an upload, its room reserved.
        """
        now = self._clock.now()
        one = Whole(examined, body, tell, now=now, on_settled=self._note_settled, begun=begun)
        one.is_reserved = is_reserved
        if begun is None and not is_reserved:
            try:
                quota = self._desk.require_open(examined)
                self._quotas.take(one.origin, one.fragment[0])
                self._room.reserve(one.origin.server, one.size, quota_bytes=quota)
            except BistroError as exc:
                one.tell(exc)
                return
            one.is_reserved = True
        if one.size <= _HASHED_AT_ONCE:
            one.hashed()
        self._arrived.append(one)
        self._has_arrived.set()

    def _note_settled(self, one: Whole) -> None:
        self._settled.append(one)
        self._has_settled.set()

    async def run(self) -> NoReturn:
        """Keep what arrives until cancelled; a batch that has begun is finished."""
        async with asyncio.TaskGroup() as stages:
            stages.create_task(self._run_writing())
            stages.create_task(self._run_recording())
        raise AssertionError

    async def _run_writing(self) -> NoReturn:
        while True:
            await self._has_arrived.wait()
            await finish(self._write(self._take()))

    def _take(self) -> list[Whole]:
        batch: list[Whole] = []
        size = 0
        while self._arrived and len(batch) < BATCH_COUNT and size < BATCH_SIZE:
            one = self._arrived.popleft()
            batch.append(one)
            size += one.size
        if not self._arrived:
            self._has_arrived.clear()
        return batch

    async def _write(self, batch: Sequence[Whole]) -> None:
        loop = asyncio.get_running_loop()
        try:
            good = await loop.run_in_executor(self._writer, self._store, batch)
        except StorageError as exc:
            answer = _as_answer(exc)
            for one in batch:
                one.tell(answer)
            return
        by_origin: defaultdict[Origin, list[Whole]] = defaultdict(list)
        for one in batch:
            if one in good:
                by_origin[one.origin].append(one)
            else:
                one.tell(_mismatch(one))
        for origin, some in by_origin.items():
            await self._promise(origin, some)

    def _store(self, batch: Sequence[Whole]) -> set[Whole]:
        """Hash and write; which of them are what their claims say. Runs in a thread."""
        good = [
            one for one in batch if one.hashed()[0] == one.examined.claim.descriptor.fragment_hash
        ]
        records = [Record(one.examined.encoded, one.body, one.hashed()[1]) for one in good]
        if records:
            for one, place in zip(good, self._shelf.write(records), strict=True):
                one.place = place
        return set(good)

    async def _promise(self, origin: Origin, batch: Sequence[Whole]) -> None:
        try:
            ledger = await self._ledgers.of(origin)
            for one in batch:
                one.ledger = ledger.origin
            ledger.sequencer.enqueue(batch)
        except BistroError as exc:
            for one in batch:
                one.tell(exc)

    async def _run_recording(self) -> NoReturn:
        while True:
            await self._has_settled.wait()
            self._has_settled.clear()
            settled, self._settled = self._settled, []
            await finish(self._record(settled))

    async def _record(self, settled: Sequence[Whole]) -> None:
        doubtful: defaultdict[Origin, list[Whole]] = defaultdict(list)
        for one in settled:
            if not one.is_fresh:
                doubtful[one.origin].append(one)
        try:
            await self._insert([one for one in settled if one.is_fresh])
            for origin, some in doubtful.items():
                await self._look_up(origin, some)
        except StorageError as exc:
            # Records with receipts stay alive and waiting: the next start makes their rows.
            for one in settled:
                one.answer(_as_answer(exc))

    async def _insert(self, batch: Sequence[Whole]) -> None:
        """Rows, and answers; those that have a custody already are looked up."""
        if not batch:
            return
        now = self._clock.now()
        uploads = [
            one.upload(_new_id(now) if one.begun is None else one.begun.id, now) for one in batch
        ]
        begun = [one.begun.id for one in batch if one.begun is not None]
        try:
            # A crash here leaves records with receipts: the next start makes their rows.
            await self._placed.insert_held(uploads, now=now, begun=begun)
        except ConflictError:
            if len(batch) == 1:
                await self._look_up(batch[0].origin, batch)
                return
            for one in batch:
                await self._insert([one])
            return
        self._note_held(batch)
        for one, upload in zip(batch, uploads, strict=True):
            assert isinstance(one.result, Appended)  # noqa: S101 - only these come here
            one.answer(Kept(upload.id, one.size, one.result.proof))

    def _note_held(self, batch: Sequence[Whole]) -> None:
        size = sum(one.size for one in batch)
        for one in batch:
            assert one.place is not None  # noqa: S101 - it was written
            self._shelf.keep(one.place)
        for server in {one.origin.server for one in batch}:
            sizes = [one.missing_size for one in batch if one.origin.server == server]
            self._room.fill(server, sum(sizes))
        self._metrics.uploads.labels(TransferState.HELD.value).inc(len(batch))
        for origin in {one.origin for one in batch}:
            self._arrivals.announce(origin)
        _log.info("receipts_signed", count=len(batch), size=size)

    async def _look_up(self, origin: Origin, batch: Sequence[Whole]) -> None:
        """Answer for fragments that may be held already, with their receipts if they are."""
        found = await self._placed.find_custodies(origin, [one.fragment for one in batch])
        for one in batch:
            twin = found.get(one.fragment)
            result = one.result
            if twin is None and isinstance(result, Appended):
                # Its row is lost, or the twin came to nothing: the promise stands, with our bytes.
                await self._insert([one])
                continue
            self._drop(one)
            if twin is None:
                assert isinstance(result, BistroError)  # noqa: S101 - settled
                one.answer(result)
            else:
                one.answer(await self._receipt_of(twin, result))

    async def _receipt_of(self, twin: Upload, result: Result | None) -> Kept | BistroError:
        if isinstance(result, Appended):
            return Kept(twin.id, twin.transfer.size, result.proof)
        ledger = await self._ledgers.of(twin.origin)
        found = await ledger.find_receipt(twin.commitment, twin.index)
        if found is None:
            assert result is not None  # noqa: S101 - settled
            return result
        return Kept(twin.id, twin.transfer.size, found.proof)

    def _drop(self, one: Whole) -> None:
        """Forget bytes that nobody was promised."""
        if one.place is not None:
            wanted = Wanted(one.place, one.examined.encoded, one.size)
            self._shelf.give_up(wanted, is_waiting=True)
        if one.is_reserved:
            self._room.give_back(one.origin.server, size=one.size, missing_size=one.size)


def _mismatch(one: Whole) -> ChecksumMismatchError:
    return ChecksumMismatchError(
        f"fragment: its bytes do not hash to {one.examined.claim.descriptor.fragment_hash.hex()}",
        hint="the bytes were dropped; upload the fragment again from its start",
    )


def _as_answer(error: StorageError) -> BistroError:
    try:
        with full_answered():
            raise error
    except (RelayFullError, StorageError) as answer:
        return answer


def _new_id(now: UnixMillis) -> str:
    """Ids of the same time stand together in the index: that costs fewer pages."""
    return f"{now:012x}{secrets.token_hex(10)}"
