"""The two passes of opening: which filings count, and unpacking those that do.

Envelopes are read in the order of the log and each is recorded; then every filer's slot is
decided by itself, so that memory does not grow with the call. A fault that shows only while
unpacking is recorded, and its slot is decided again.

Source: docs/spec/opening.md, two passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bistro.crypto.age.keys import KeyIdentity
from bistro.daemon import logs
from bistro.errors import StorageError
from bistro.protocol.opening import (
    Decision,
    Fault,
    Outcome,
    Reason,
    Resolution,
    judge_admission,
)
from bistro.storage.blobs import BlobStore
from bistro.storage.disk import Disk
from bistro.wire.admission import Admission
from bistro.wire.header import SignedHeader
from bistro_server.services.calls import Call
from bistro_server.services.opening_reading import Envelope, Reading
from bistro_server.services.unpacking import Inbox
from bistro_server.store.opening import OpeningStore, Read, Unread

Report = Callable[[str, int, int], None]
"""Told a step, how much of it is done, and how much there is."""

_log = logs.get_logger("opening")


@dataclass(frozen=True, slots=True)
class Passes:
    """Both passes over the envelopes of one call.

    Attributes:
        call: The call, closed and with its ``opening`` entry.
        store: What was found and decided.
        inbox: Where filings go.
        identities: Keys that open its envelopes.
        disk: The system calls to use.
        report: Told how far it is.
    """

    call: Call
    store: OpeningStore
    inbox: Inbox
    identities: Sequence[KeyIdentity]
    disk: Disk
    report: Report

    async def read_all(self) -> None:
        """Pass 1: decrypt ``submission.bin`` of every envelope that was not read yet.

        Raises:
            StorageError: Our own disk failed; what was recorded stays.
        """
        total, done = await self.store.count_unread(), 0
        blobs = await asyncio.to_thread(BlobStore, self.call.folder.envelopes, disk=self.disk)
        hashes = {one.hash for one in self.call.versions}
        while page := await self.store.unread():
            readings: list[tuple[Unread, SignedHeader | None, bool, Fault | None]] = []
            for unread in page:
                envelope = self._envelope(blobs, unread)
                found: Reading = await asyncio.to_thread(
                    envelope.read_submission,
                    self.identities,
                    header_leaf=unread.header_leaf,
                    terms_hashes=hashes,
                )
                fault = found.fault or self._judge(unread, found)
                readings.append((unread, found.signed, found.is_believed, fault))
                done += 1
                self.report("reading", done, total)
            # A crash before this reads the same page again.
            await self.store.record_readings(readings)

    def _judge(self, unread: Unread, found: Reading) -> Fault | None:
        """Whether whoever signed the header is who asked for the ticket, for the same slot."""
        if self.call.terms.filers == "anyone" or found.signed is None:
            return None
        if unread.admission is None:
            raise StorageError(
                f"submission {unread.commitment.hex()}: the admission of its ticket is gone",
                hint="restore the call's file of admissions from a copy; nothing was decided",
            )
        admission = Admission.decode(unread.admission)
        return judge_admission(found.signed.header, admission, commitment=unread.commitment)

    async def decide_all(self) -> None:
        """Pass 2: an outcome for everything that was read; what counts lies in the inbox.

        Raises:
            StorageError: Our own disk failed; what was recorded stays.
        """
        await asyncio.to_thread(self.inbox.prepare)
        blobs = await asyncio.to_thread(BlobStore, self.call.folder.envelopes, disk=self.disk)
        while page := await self.store.unbelieved():
            await self.store.record_outcomes(
                [(one, fault.outcome, (fault.reason,), token) for one, fault, token in page]
            )
        total, done = await self.store.count_undecided(), 0
        async for reads in self.store.slots():
            if not await self.store.has_outcome(reads[0]):
                await self._decide(reads, blobs)
                done += len(reads)
                self.report("unpacking", done, total)

    async def _decide(self, reads: list[Read], blobs: BlobStore) -> None:
        """Unpack until nothing of this slot is left to unpack, then record all its outcomes."""
        known = {read.candidate.commitment: read for read in reads}
        unread = await self.store.unread_previous(reads)
        resolution = Resolution([*unread, *(read.candidate for read in reads)])
        waiting = list(resolution.standing)
        while waiting:
            read = known[waiting.pop()]
            fault = None if read.is_unpacked else await self._unpack(read, blobs)
            if fault is not None:
                again = resolution.reject(read.candidate.commitment, fault)
                waiting += [] if again is None else [again]
        await self.store.record_outcomes(
            [_outcome(one, known) for one in resolution.decisions if one.commitment in known]
        )

    async def _unpack(self, read: Read, blobs: BlobStore) -> Fault | None:
        header = read.signed.header
        signed = self.call.version(header.terms_hash)
        if signed is None:
            raise StorageError(f"terms {header.terms_hash.hex()} were there, and are not now")
        commitment = read.candidate.commitment
        found = await asyncio.to_thread(
            self.inbox.unpack,
            commitment,
            self._envelope(blobs, read),
            self.identities,
            signed.terms,
        )
        if isinstance(found, Fault):
            await self.store.record_fault(read.submission, found)
            _log.warning("unpacking_failed", commitment=commitment.hex(), reason=found.reason.code)
            return found
        # A crash before this finds the filing where it is.
        await self.store.record_unpacked(read.submission, found)
        return None

    def _envelope(self, blobs: BlobStore, one: Unread | Read) -> Envelope:
        return Envelope(blobs.path_of(one.blob), envelope_hash=one.envelope_hash, disk=self.disk)


def _outcome(
    decision: Decision, known: dict[bytes, Read]
) -> tuple[int, Outcome, tuple[Reason, ...], bytes]:
    read = known[decision.commitment]
    return read.submission, decision.outcome, decision.reasons, read.signed.header.token
