"""Collects one call: in rounds that survey, fetch, restore, release and ask for repairs.

Each step is recorded when it is durable, and a round only looks at what is recorded: a crash
anywhere is made good by the next round, of this process or another.

| step | a crash after it leaves |
|---|---|
| rows of a relay recorded | fragments to fetch |
| a fragment written, perhaps in part | a file that is continued, and hashed again |
| k fragments verified | an envelope to restore |
| the envelope durable, not recorded | the same envelope to write again |
| the envelope recorded | fragments to release, files that ``sweep`` drops |
| the relay told, its answer not recorded | a release to repeat, which is harmless |

Source: docs/spec/collection.md, what the destination does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Self

from bistro.clock import Clock
from bistro.daemon import logs
from bistro.errors import StorageError, UnavailableError
from bistro.protocol.collection import Source
from bistro.storage.blobs import BlobStore
from bistro.storage.disk import SYSTEM_DISK, Disk
from bistro.storage.locks import FileLock
from bistro.wire import codec
from bistro.wire.document import encode_json
from bistro.wire.fragment import Cut
from bistro_server.services.calls import Call
from bistro_server.services.collecting_fetch import Fetched, Fetcher, Wanted
from bistro_server.services.collecting_files import CollectingFolder, FragmentFiles
from bistro_server.services.collecting_plan import (
    missing_fragments,
    plan_batches,
    restorable,
    silent_since,
)
from bistro_server.services.collecting_relays import RelayDesk
from bistro_server.services.collecting_release import Releaser
from bistro_server.services.collecting_restore import (
    Damaged,
    Inconsistent,
    Restored,
    Restorer,
    blob_name,
)
from bistro_server.services.collecting_survey import OpenLog, Surveyor, side_by_side
from bistro_server.store.collection import CollectionStore, Fate, Staged, patiently
from bistro_server.store.collection_done import DoneStore, Progress
from bistro_server.store.submissions import Submissions

PAGE_COUNT: Final = 200
"""Submissions that are looked at together."""
REPORT_MS: Final = 500
_PROGRESS_SIZE: Final = 65_536
"""Bytes of a fragment that count as a step forward, if nothing else was achieved."""

_MOST_DAMAGED: Final = 3

_log = logs.get_logger("collecting")

Report = Callable[[Progress], None]


@dataclass(slots=True)
class Round:
    """What one round did.

    Attributes:
        steps: Changes that bring collecting forward; 0 means that another round is of no use
            until something changes elsewhere.
        failures: Relays that could not be used, and why.
    """

    steps: int = 0
    failures: dict[str, UnavailableError] = field(default_factory=dict)


class Collector:
    """Collects one call; obtained from ``opened``.

    Args:
        call: The call.
        submissions: What is known of its submissions.
        desks: Its relays.
        surveyor: Reads the relays' lists.
        restorer: Makes envelopes of fragments.
        clock: Judges silence.
    """

    def __init__(
        self,
        call: Call,
        submissions: Submissions,
        desks: Sequence[RelayDesk],
        surveyor: Surveyor,
        restorer: Restorer,
        clock: Clock,
    ) -> None:
        self.call = call
        self._desks = {desk.name: desk for desk in desks}
        self._store = surveyor.store
        self._submissions = submissions
        self._surveyor = surveyor
        self._files = restorer.files
        self._restorer = restorer
        self._clock = clock
        self._fetcher = Fetcher(restorer.files)
        self._done = DoneStore(surveyor.store.database, call.id, clock)
        self._releaser = Releaser(call, self._done)
        self._slow: set[str] = set()
        self._damaged: Counter[int] = Counter()
        self._told_at: int | None = None

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        call: Call,
        submissions: Submissions,
        desks: Sequence[RelayDesk],
        open_log: OpenLog,
        clock: Clock,
        *,
        disk: Disk = SYSTEM_DISK,
    ) -> AsyncIterator[Self]:
        """The collector of a call, for as long as the block runs.

        Raises:
            UnavailableError: Another process collects this call.
            StorageError: The disk failed.
        """
        folder = CollectingFolder.of(call.folder.server, call.id)
        files = FragmentFiles(folder, disk=disk)
        await asyncio.to_thread(files.prepare)
        lock = FileLock.take(folder.lock, what=f"collecting call {call.id}")
        try:
            store = CollectionStore(submissions.database, clock)
            blobs = await asyncio.to_thread(BlobStore, call.folder.envelopes, disk=disk)
            await blobs.sweep()
            collector = cls(
                call,
                submissions,
                desks,
                Surveyor(call, store, open_log, clock),
                Restorer(files, blobs),
                clock,
            )
            await collector.sweep()
            yield collector
        finally:
            lock.release()

    async def sweep(self) -> None:
        """Drop files of submissions that are done; what proved one inconsistent stays."""
        found = await asyncio.to_thread(lambda: list(self._files.commitments()))
        for at in range(0, len(found), PAGE_COUNT):
            part = found[at : at + PAGE_COUNT]
            standing = await self._done.standing([one for _, one in part])
            for path, commitment in part:
                if standing.get(commitment) in {"collected", "lapsed", "opened"}:
                    await asyncio.to_thread(self._files.drop, path)

    async def progress(self) -> Progress:
        """How far it is."""
        return await self._done.progress()

    async def round(self, report: Report | None = None) -> Round:
        """Do once everything that can be done now.

        Raises:
            StorageError: Our own disk failed.
            UnavailableError: The log or the database is held by another process for too long.
        """
        done = Round()
        count, failures = await self._surveyor.survey(self._desks.values())
        done.steps += count
        done.failures.update(failures)
        async for page in self._pages():
            await self._collect_page(page, done)
            await self._tell(report)
        await self._release(done)
        for name, failure in done.failures.items():
            _log.warning("relay_failed", call=self.call.id, relay=name, message=failure.message)
        await self._note_silences(done.failures)
        await self._ask_for_repairs()
        while await patiently(self._publish):
            pass
        self._told_at = None
        await self._tell(report)
        return done

    async def _pages(self) -> AsyncIterator[list[Staged]]:
        after_index = -1
        while page := await self._store.staged(
            self.call.id, after_index=after_index, limit=PAGE_COUNT
        ):
            after_index = page[-1].log_index
            yield page

    async def _tell(self, report: Report | None) -> None:
        """Report progress, not more often than anybody could read."""
        now = self._clock.monotonic_ms()
        if report is not None and (self._told_at is None or now - self._told_at >= REPORT_MS):
            self._told_at = now
            report(await self.progress())

    async def _collect_page(self, page: Sequence[Staged], done: Round) -> None:
        """Fetch and restore until nothing of this page can be brought forward now."""
        left = {staged.id: staged for staged in page}
        while left:
            for batch in restorable(left.values()):
                # Side by side they share commits and syncs, which is what small ones cost.
                await side_by_side({one.id: self._restore(one, done) for one in batch})
                for one in batch:
                    await self._reload(left, one.id)
            plan = await self._plan(list(left.values()), done.failures)
            fetched = await side_by_side(
                {name: self._fetcher.fetch(self._desks[name], plan[name]) for name in plan}
            )
            if not await self._settle(fetched, done):
                return
            for submission in {one.submission for wanted in plan.values() for one in wanted}:
                await self._reload(left, submission)

    async def _reload(self, left: dict[int, Staged], submission: int) -> None:
        known = await self._store.reload(submission)
        if known is None:
            left.pop(submission, None)
        else:
            left[submission] = known

    async def _plan(
        self, page: Sequence[Staged], failures: Mapping[str, object]
    ) -> dict[str, list[Wanted]]:
        down = {*failures, *self._unknown_relays(page)}
        batches = plan_batches(page, down=down, slow=self._slow)
        return {
            name: [
                Wanted(
                    staged.id,
                    staged.commitment,
                    name,
                    await self._store.descriptor(staged.id, source),
                )
                for staged, source in batch
            ]
            for name, batch in batches.items()
        }

    def _unknown_relays(self, page: Sequence[Staged]) -> set[str]:
        names = {row.source.relay for staged in page for row in staged.fragments}
        return names - self._desks.keys()

    async def _settle(self, fetched: Mapping[str, Fetched], done: Round) -> bool:
        """Record what batches brought; whether that changed what is to be fetched."""
        fates: list[tuple[int, Source, Fate]] = []
        for name, found in fetched.items():
            for one, fate in found.fates:
                if fate == "wrong":
                    await self._keep_as_proof(one)
                fates.append((one.submission, one.source, fate))
            if found.failure is not None:
                done.failures[name] = found.failure
                self._slow.add(name)
            elif found.received_size:
                self._slow.discard(name)
            done.steps += found.received_size // _PROGRESS_SIZE
            done.steps += found.restarted_count
        # A crash before this: whole files are found again, without asking the relay.
        await self._store.set_fates(fates)
        done.steps += len(fates)
        return bool(fates) or any(
            found.failure is not None or found.restarted_count or found.is_cut
            for found in fetched.values()
        )

    async def _keep_as_proof(self, one: Wanted) -> None:
        claim, receipt = await self._store.promise(one.submission, one.source)
        index = one.descriptor.index
        await asyncio.to_thread(
            lambda: self._files.keep_as_proof(
                one.commitment, index, one.relay, claim=claim, receipt=receipt
            )
        )

    async def _restore(self, staged: Staged, done: Round) -> None:
        verified = {
            row.source.index: row.source for row in staged.fragments if row.fate == "verified"
        }
        chosen = [verified[index] for index in sorted(verified)[: staged.layout.k]]
        parts = {source: await self._store.descriptor(staged.id, source) for source in chosen}
        done.steps += 1
        match await self._restorer.restore(staged, parts):
            case Restored(cut):
                await self._conclude(staged, cut)
            case Damaged(sources):
                self._damaged[staged.id] += 1
                if self._damaged[staged.id] > _MOST_DAMAGED:
                    raise StorageError(
                        f"fragments of {staged.commitment.hex()} change on this disk, again and "
                        "again",
                        hint="check the disk; nothing was released",
                    )
                for source in sources:
                    await asyncio.to_thread(
                        self._files.delete, staged.commitment, source.index, source.relay
                    )
                await self._store.set_fates(
                    [(staged.id, source, "announced") for source in sources]
                )
            case Inconsistent(text):
                # The fragments stay: they are what proves it.
                reasons = encode_json([{"code": "inconsistent", "text": text}]).decode()
                await self._store.record_inconsistent(staged, reasons=reasons)
                _log.warning("inconsistency_found", commitment=staged.commitment.hex())

    async def _conclude(self, staged: Staged, cut: Cut) -> None:
        descriptors = codec.encode([one.encode() for one in cut.descriptors])
        await self._store.record_envelope(
            staged, blob=blob_name(staged.commitment), descriptors=descriptors
        )
        # From here on it is collected, whatever happens; files that stay are swept later.
        relays = sorted({row.source.relay for row in staged.fragments})
        await asyncio.to_thread(
            self._files.delete_all, staged.commitment, range(staged.layout.n), relays
        )
        _log.info(
            "submission_collected",
            commitment=staged.commitment.hex(),
            size=staged.layout.envelope_size,
        )

    async def _release(self, done: Round) -> None:
        """Release at all relays at the same time."""
        desks = [desk for desk in self._desks.values() if desk.name not in done.failures]
        results = await side_by_side({desk.name: self._releaser.release(desk) for desk in desks})
        for name, (count, failure) in results.items():
            done.steps += count
            if failure is not None:
                done.failures[name] = failure

    async def _note_silences(self, failures: Mapping[str, UnavailableError]) -> None:
        known = await self._store.silences(self.call.id)
        now, repair_by = self._clock.now(), self.call.terms.repair_by
        for name in self._desks:
            if (name in failures) != (name in known):
                failure = failures.get(name)
                since = None
                if failure is not None:
                    since = silent_since(failure, now=now, repair_by=repair_by)
                await self._store.set_silence(self.call.id, name, since=since)

    async def _ask_for_repairs(self) -> None:
        """Ask filers for what cannot be had, and for nothing that can be had again."""
        now, repair_by = self._clock.now(), self.call.terms.repair_by
        if now > repair_by:
            return
        silences = await self._store.silences(self.call.id)
        async for page in self._pages():
            for staged in page:
                missing = missing_fragments(staged, silences, now=now, repair_by=repair_by)
                if await self._store.set_repair(staged.id, missing) and missing:
                    _log.warning(
                        "repair_asked",
                        commitment=staged.commitment.hex(),
                        missing_count=len(missing),
                    )

    async def _publish(self) -> int:
        return await self._submissions.publish(self.call.origin, self.call.status_key)
