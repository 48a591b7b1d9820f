"""Has checkpoints stamped by an authority that is not ours, so that they are not our word alone.

| what is seen of a call's log | what follows |
|---|---|
| no entry since the last anchor | nothing |
| entries, and ``closed`` or ``opening`` among them | its newest checkpoint is stamped at once |
| other entries | its newest checkpoint is stamped once ``interval_ms`` have passed |
| the authority fails, or its stamp does not hold | asked again, with backoff |

No ticket waits for any of this. A stamp is verified before it is kept, and kept before it is
shown. A crash anywhere before it is durable asks for another one.

Source: docs/spec/timestamps.md, anchors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from bistro.clock import Clock
from bistro.daemon import logs
from bistro.errors import (
    BistroError,
    StorageError,
    UnavailableError,
    UnknownObjectError,
)
from bistro.protocol.backoff import Backoff, Chooser
from bistro.storage.durable import SYSTEM_DISK, Disk, waiting_for_room
from bistro.wire.anchor import Anchor, StampedEntry, stamped_digest
from bistro.wire.checkpoint import verify_checkpoint
from bistro_server.services.ledgers import CallLedgers
from bistro_server.services.notary import Notary
from bistro_server.services.serving import CallsInService
from bistro_server.store.anchors import AnchorFiles

KEPT: Final = "kept"
Report = Callable[[str], None]
"""Told of every attempt: ``KEPT``, or the code of the error."""

_FIRST_RETRY_MS: Final = 1_000

_log = logs.get_logger("anchoring")


@dataclass(slots=True)
class _Call:
    """What is known of one call's anchors.

    Attributes:
        next_ms: Not before this monotonic time, unless the log has been closed or opened.
        retry_ms: Not before this one at all.
        failed_count: Attempts since the last that was good.
        waits_since_ms: Since when there is something to be stamped; ``None``: there is not.
    """

    files: AnchorFiles
    next_ms: int = 0
    retry_ms: int = 0
    failed_count: int = 0
    waits_since_ms: int | None = None


@dataclass(slots=True)
class Anchoring:
    """Keeps the anchors of all calls.

    Attributes:
        calls: Whose logs.
        notary: Stamps; ``None``: nobody does, and what was kept is handed out all the same.
        clock: Measures pauses.
        interval_ms: Pause between two anchors of a log that grows.
        poll_s: Pause between two looks at all logs.
        chooser: Where jitter comes from.
        report: Told of every attempt.
        disk: The system calls with which anchors are kept.
    """

    calls: CallsInService
    notary: Notary | None
    clock: Clock
    interval_ms: int
    poll_s: float
    chooser: Chooser
    report: Report
    disk: Disk = SYSTEM_DISK
    _known: dict[str, _Call] = field(default_factory=dict)

    async def run(self) -> None:
        """Stamp what is due until cancelled.

        Raises:
            StorageError: The disk failed.
        """
        while True:
            await self.step()
            await asyncio.sleep(self.poll_s)

    async def step(self) -> None:
        """Look at every log once, and have stamped what is due.

        Raises:
            StorageError: The disk failed.
        """
        if self.notary is not None:
            for ledgers in self.calls:
                await self._look(self.notary, ledgers)

    async def _look(self, notary: Notary, ledgers: CallLedgers) -> None:
        call = await self._of(ledgers)
        size, sizes = ledgers.log.size, call.files.sizes()
        now_ms = self.clock.monotonic_ms()
        if size == 0 or (sizes and sizes[-1] >= size):
            call.waits_since_ms = None
            return
        is_due = now_ms >= call.next_ms or ledgers.is_closed or ledgers.is_opened
        if not is_due:
            return
        if call.waits_since_ms is None:
            call.waits_since_ms = now_ms
        if now_ms < call.retry_ms:
            return
        try:
            await self._anchor(notary, ledgers, call)
        except StorageError:
            raise
        except BistroError as exc:
            asked_s = exc.retry_after_s if isinstance(exc, UnavailableError) else None
            backoff = Backoff(_FIRST_RETRY_MS, max(self.interval_ms, _FIRST_RETRY_MS))
            pause_ms = backoff.delay_ms(call.failed_count, self.chooser, retry_after_s=asked_s)
            call.failed_count += 1
            call.retry_ms = now_ms + pause_ms
            self.report(exc.code)
            _log.warning(
                "anchor_missed",
                call=ledgers.call.id,
                message=exc.message,
                pause_s=pause_ms // 1_000,
            )

    async def _anchor(self, notary: Notary, ledgers: CallLedgers, call: _Call) -> None:
        note = ledgers.checkpoint()
        checkpoint = verify_checkpoint(note, ledgers.call.log_key)
        timestamp = await notary.stamp(stamped_digest(note))
        # A crash before this is durable asks for another stamp: nobody has seen this one.
        with waiting_for_room("anchors"):
            await asyncio.to_thread(call.files.write, Anchor(note, timestamp))
        call.failed_count, call.retry_ms, call.waits_since_ms = 0, 0, None
        call.next_ms = self.clock.monotonic_ms() + self.interval_ms
        self.report(KEPT)
        _log.info("anchor_kept", call=ledgers.call.id, tree_size=checkpoint.size)

    async def _of(self, ledgers: CallLedgers) -> _Call:
        name = ledgers.call.id
        if name not in self._known:
            files = AnchorFiles(ledgers.call.folder.anchors, disk=self.disk)
            await asyncio.to_thread(files.sizes)  # from here on they are known without a disk
            self._known.setdefault(name, _Call(files))
        return self._known[name]

    def waiting_ms(self) -> int:
        """For how long the checkpoint that has waited longest is due; 0 if none is."""
        now_ms = self.clock.monotonic_ms()
        waiting = [call.waits_since_ms for call in self._known.values()]
        return max((now_ms - since for since in waiting if since is not None), default=0)

    async def stamped(self, ledgers: CallLedgers, index: int) -> StampedEntry:
        """Where an entry stands under the earliest anchor that covers it.

        Raises:
            UnknownObjectError: No anchor covers it.
            StorageError: A file is missing or damaged, or the disk failed.
        """
        return await stamped_entry(ledgers, index, (await self._of(ledgers)).files)


async def stamped_entry(ledgers: CallLedgers, index: int, files: AnchorFiles) -> StampedEntry:
    """See ``Anchoring.stamped``."""
    anchor = await asyncio.to_thread(files.covering, index)
    if anchor is None:
        raise UnknownObjectError(
            f"call {ledgers.call.id}: no anchor covers entry {index}", hint="ask again later"
        )
    found = await ledgers.log.prove(index, note=anchor.note)
    return StampedEntry(found.proof.decode(), (anchor.timestamp,))
