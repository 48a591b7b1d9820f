"""All registered calls of a server: the desk that takes their requests, and the part behind it.

Source: docs/spec/admission.md; docs/spec/ticketing.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from bistro.clock import Clock
from bistro.daemon import logs, supervise
from bistro.daemon.buckets import Buckets, Rate
from bistro.daemon.recurring import Recurring
from bistro.errors import UnavailableError
from bistro.instant import UnixMillis
from bistro.storage.database import Database
from bistro.storage.durable import SYSTEM_DISK, Disk
from bistro.wire.admission import Admitted
from bistro.wire.ticketing import TicketRequest
from bistro_server.services.admission_keeper import AdmissionKeeper, admissions_path
from bistro_server.services.control import DirectLog
from bistro_server.services.filer_registry import FilerRegistry
from bistro_server.services.ledgers import CallLedgers
from bistro_server.services.registered_call import RegisteredCall, Report, Shared, verifying_thread
from bistro_server.services.registered_items import AdmittedItem
from bistro_server.services.ticket_items import Item
from bistro_server.services.ticket_parties import Party
from bistro_server.store.admission_file import AdmissionFile
from bistro_server.store.admissions import Admissions
from bistro_server.store.filers import Filers

_log = logs.get_logger("registration")


class Registration:
    """The registered calls of a server, and who may file in them.

    Args:
        database: The server's.
        clock: Dates changes of the list; nobody makes any here.
        filer_rate: What one filer may ask for.
        poll_s: Pause between two looks at the list and the logs.
        report: For metrics.
        disk: The system calls with which admissions are kept.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        filer_rate: Rate,
        poll_s: float,
        report: Report,
        disk: Disk = SYSTEM_DISK,
    ) -> None:
        self._admissions = Admissions(database)
        self._registry = FilerRegistry(Filers(database, clock))
        self._poll_s = poll_s
        self._disk = disk
        self._verifier = verifying_thread()
        self._shared = Shared(self._registry, Buckets(filer_rate), self._verifier, report)
        self._calls: dict[str, RegisteredCall] = {}
        self._keepers: dict[str, AdmissionKeeper] = {}

    def has(self, call: str) -> bool:
        """Whether this call is for registered filers only."""
        return call in self._calls

    def is_registered(self, key: bytes) -> bool:
        """Whether a filer's key counts now."""
        return self._registry.is_registered(key)

    async def attend(self, ledgers: CallLedgers) -> None:
        """Prepare for a call's requests before there are any; nothing if anyone may file.

        Raises:
            StorageError: The disk failed, or admissions of tickets are lost.
        """
        if ledgers.terms.filers == "anyone":
            return
        call, path = ledgers.call.id, admissions_path(ledgers.call.folder)
        read = await self._admissions.read(call)
        file = await asyncio.to_thread(
            AdmissionFile.open, path, known_size=read.size, disk=self._disk
        )
        try:
            entries = DirectLog(ledgers).entries
            keeper = AdmissionKeeper(
                call,
                path,
                entries,
                self._admissions,
                durable_size=lambda: file.size,
                disk=self._disk,
            )
            await keeper.catch_up()
            counts = await self._admissions.counts(call)
            await self._registry.refresh()
        except BaseException:
            file.close()
            raise
        self._keepers[call] = keeper
        self._calls[call] = RegisteredCall(ledgers, file, counts, self._shared)

    def enqueue(
        self,
        party: Party,
        requests: Sequence[TicketRequest],
        received_at: UnixMillis,
        *,
        who: str,
    ) -> None:
        """Let requests wait; the party hears when every ticket and refusal is durable.

        Args:
            party: Who asks; their call is one that ``has`` knows.
            requests: One for each place.
            received_at: When the last byte of all had been read.
            who: The address that they came from, for fairness.

        Raises:
            OverloadedError: Too much waits; nothing was stamped.
            UnavailableError: Ledger or admissions have stopped.
        """
        call = self._calls[party.ledgers.call.id]
        admitted, others = [], []
        for place, one in enumerate(requests):
            if one.admission is None:
                others.append(Item(party, place, (one.commitment, one.terms_hash), received_at))
            else:
                asked = Admitted(one.commitment, one.terms_hash, one.admission)
                admitted.append(AdmittedItem(party, place, asked, call, received_at))
        call.require_room(who, len(admitted))
        if others:
            party.ledgers.log_sequencer.enqueue(others)
        call.add(who, admitted)

    async def run(self) -> None:
        """Work on all calls, old and new, and follow the list of filers, until cancelled.

        Raises:
            StorageError: A disk failed: nothing may be promised any more.
        """
        begun: set[str] = set()
        interruptions = Recurring()
        async with supervise.task_group() as group:
            while True:
                for call in self._calls.keys() - begun:
                    group.create_task(self._calls[call].run())
                    begun.add(call)
                works = [self._registry.refresh, *[one.step for one in self._keepers.values()]]
                failures = [failure for work in works if (failure := await _try(work))]
                for failure in failures:
                    # Another process holds the database, or the disk is full: the next round
                    # tries again.
                    if count := interruptions.came(failure):
                        _log.warning("round_interrupted", message=failure.message, count=count)
                if not failures and (count := interruptions.ended()):
                    _log.info("rounds_resumed", count=count)
                await asyncio.sleep(self._poll_s)

    def close(self) -> None:
        """Give all files back."""
        self._verifier.shutdown()
        for call in self._calls.values():
            call.close()
        self._calls.clear()


async def _try(work: Callable[[], Awaitable[object]]) -> UnavailableError | None:
    """Do it; what kept it from being done for now."""
    try:
        await work()
    except UnavailableError as exc:
        return exc
    return None
