"""One registered call: verifies admissions, keeps them, and lets their items into the log's queue.

Ed25519 takes 0.1 ms, ten times a ticket. So admissions are verified in a thread, which holds no
interpreter lock meanwhile, in batches for which addresses take turns: a crowd of forged ones
delays nobody else, and no call of anyone's at all.

```
turns by address → verify → bucket of the filer → append, sync → queue of the log
```

Source: docs/spec/admission.md; docs/spec/ticketing.md, fairness.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from bistro.daemon.buckets import Bucket, Buckets
from bistro.daemon.turns import Turns
from bistro.errors import (
    BistroError,
    NotRegisteredError,
    OverloadedError,
    StorageError,
    UnavailableError,
    VerificationError,
)
from bistro.storage.background import background_thread
from bistro.storage.finishing import finish
from bistro.wire.admission import Admitted
from bistro_server.services.filer_registry import FilerRegistry
from bistro_server.services.ledgers import CallLedgers
from bistro_server.services.registered_items import AdmittedItem
from bistro_server.store.admission_file import AdmissionFile

QUEUE_LIMIT: Final = 4_096
"""Admissions that may wait: what one core verifies in the shortest time that one may wait."""

BATCH: Final = 64
"""Admissions of a batch: 6 ms of one core."""

_NICE: Final = 5
"""By how much verifying stands back where it shares a core with tickets; it gets a quarter."""

_RECENT: Final = 65_536
"""Admissions that are known to be kept, so that asking again costs no signature and no disk."""

Report = Callable[[str], None]
"""Told, by its code, of each item that was answered without being judged."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all registered calls of a server have in common.

    Attributes:
        registry: Who is registered.
        buckets: Of all filers.
        verifier: The thread that verifies: see ``verifying_thread``.
        report: For metrics.
    """

    registry: FilerRegistry
    buckets: Buckets[bytes]
    verifier: Executor
    report: Report


class RegisteredCall:
    """The admissions of one call; ``run`` is the part that works on them.

    Args:
        ledgers: The call's.
        file: Where its admissions are kept.
        counts: Tickets of each filer so far.
        shared: What it has in common with others.

    Attributes:
        ledgers: As given.
    """

    def __init__(
        self, ledgers: CallLedgers, file: AdmissionFile, counts: dict[bytes, int], shared: Shared
    ) -> None:
        self.ledgers = ledgers
        self._file = file
        self._counts = counts
        self._shared = shared
        self._turns: Turns[AdmittedItem] = Turns(QUEUE_LIMIT)
        self._has_work = asyncio.Event()
        self._kept: OrderedDict[bytes, None] = OrderedDict()
        self._stopped: str | None = None

    # --- what the rules ask: see ``registered_items.Roll`` ---

    def is_registered(self, key: bytes) -> bool:
        """Whether the key counts now."""
        return self._shared.registry.is_registered(key)

    def has_room(self, key: bytes) -> bool:
        """Whether the filer may have another ticket."""
        limit = self.ledgers.terms.tickets_per_filer
        return limit is None or self._counts.get(key, 0) < limit

    def count(self, key: bytes, change: int) -> None:
        """A ticket more of this filer, or one less."""
        self._counts[key] = self._counts.get(key, 0) + change

    # --- the way of an item ---

    def require_room(self, who: str, count: int) -> None:
        """Accept so many items of an address.

        Raises:
            OverloadedError: There is no room for all of them.
            UnavailableError: Admissions cannot be kept any more.
        """
        if self._stopped is not None:
            raise UnavailableError(self._stopped)
        if not self._turns.has_room(who, count):
            self._shared.report(OverloadedError.code)
            raise OverloadedError(f"{len(self._turns)} admissions wait already")

    def add(self, who: str, items: Sequence[AdmittedItem]) -> None:
        """Let items wait for their turn, for which there is room; each is told its result."""
        known: list[AdmittedItem] = []
        for item in items:
            # Whoever is on no list costs no signature.
            if self._shared.registry.is_known(item.filer):
                known.append(item)
            else:
                self._answer(item, NotRegisteredError("this filer's key is not registered"))
        self._turns.add(who, known)
        self._has_work.set()

    def _answer(self, item: AdmittedItem, error: BistroError) -> None:
        self._shared.report(error.code)
        item.tell(error)

    async def run(self) -> None:
        """Work until cancelled; a batch that has begun is finished.

        Raises:
            StorageError: Admissions cannot be kept any more.
        """
        try:
            while True:
                await self._has_work.wait()
                batch = [item for item in self._turns.take(BATCH) if item.is_wanted()]
                if not len(self._turns):
                    self._has_work.clear()
                await finish(self._process(batch))
        finally:
            self._stopped = self._stopped or "the server is stopping"
            for item in self._turns.take(QUEUE_LIMIT):
                item.tell(UnavailableError(self._stopped))

    async def _process(self, batch: Sequence[AdmittedItem]) -> None:
        await self._verify(batch)
        good = [item for item in batch if item.is_wanted() and self._may_ask(item)]
        try:
            await self._keep([item for item in good if item.may_be_stamped])
        except UnavailableError as exc:
            # The disk is full. Whoever's admission is kept, or needs none, is answered as ever.
            for item in good:
                if item.may_be_stamped and not item.is_kept:
                    self._answer(item, exc)
        except StorageError as exc:
            # Whether they lasted is unknown, and nothing may rest on them: the server stops.
            self._stopped = f"admissions cannot be kept: {exc.message}"
            for item in good:
                item.tell(UnavailableError(self._stopped))
            raise
        self._enqueue([item for item in good if not item.is_done])

    async def _verify(self, batch: Sequence[AdmittedItem]) -> None:
        """Answer those whose admission does not hold."""
        unknown = [item for item in batch if item.admitted.encode() not in self._kept]
        faults = await asyncio.get_running_loop().run_in_executor(
            self._shared.verifier, _verify, [item.admitted for item in unknown]
        )
        for item, fault in zip(unknown, faults, strict=True):
            if fault is not None:
                self._answer(item, fault)

    def _enqueue(self, items: Sequence[AdmittedItem]) -> None:
        try:
            self.ledgers.log_sequencer.enqueue(items)
        except UnavailableError as exc:
            for item in items:
                self._answer(item, exc)

    def _may_ask(self, item: AdmittedItem) -> bool:
        """Whether the filer's bucket lets it through; its holder alone pays for it."""
        bucket: Bucket = self._shared.buckets.of(item.filer)
        wait_s = bucket.take(1, asyncio.get_running_loop().time())
        if wait_s:
            self._answer(item, OverloadedError("too many requests", retry_after_s=wait_s))
        return not wait_s

    async def _keep(self, items: Sequence[AdmittedItem]) -> None:
        """Make admissions durable, those that are not already.

        Raises:
            UnavailableError: The disk is full; only those that were before are.
            StorageError: Which of them last is unknown.
        """
        new: dict[bytes, AdmittedItem] = {}
        for item in items:
            data = item.admitted.encode()
            item.is_kept = data in self._kept
            if item.is_kept:
                self._kept.move_to_end(data)
            else:
                new[data] = item
        if not new:
            return
        # A crash before this returns leaves admissions without tickets, which mean nothing.
        await asyncio.to_thread(self._file.append, [item.admitted for item in new.values()])
        self._kept |= dict.fromkeys(new)
        while len(self._kept) > _RECENT:
            self._kept.popitem(last=False)
        for item in items:
            item.is_kept = True

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def verifying_thread() -> ThreadPoolExecutor:
    """One thread for all calls, which leaves the core to tickets where there is only one."""
    return background_thread("admissions", niceness=_NICE)


def _verify(admitted: Sequence[Admitted]) -> list[VerificationError | None]:
    """What is wrong with the signature of each; blocks, without the interpreter's lock."""
    return [_fault(one) for one in admitted]


def _fault(admitted: Admitted) -> VerificationError | None:
    try:
        admitted.verify()
    except VerificationError as exc:
        return exc
    return None
