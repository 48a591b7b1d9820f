"""Uploads from the claim to the receipt: what may begin, go on, end.

A creation is a row and no file. A crash in it leaves an upload at offset 0 whose client had no
answer: it expires. ``receiving`` and ``small_ends`` say what is left behind when bytes come.

Source: docs/spec/staging.md; tus 1.0.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from bistro.clock import Clock
from bistro.daemon import logs
from bistro.errors import BistroError, RefusedError, RelayFullError, UnknownObjectError
from bistro.instant import UnixMillis
from bistro.protocol.transfer import (
    Transfer,
    TransferState,
)
from bistro_relay.metrics import RelayMetrics
from bistro_relay.services.busy import BusyUploads, UploadEndedError
from bistro_relay.services.claims import ClaimDesk, Examined
from bistro_relay.services.custody import Custody
from bistro_relay.services.quotas import Quotas
from bistro_relay.services.receiving import Checksum, Receiver
from bistro_relay.services.room import Room, full_answered
from bistro_relay.services.small_ends import SmallEnds
from bistro_relay.services.whole import WholeIntake
from bistro_relay.services.whole_fragment import Kept
from bistro_relay.store.shared import SMALL_SIZE
from bistro_relay.store.uploads import Upload, UploadStore

_ID_SIZE: Final = 16
_ENDED: Final = frozenset({TransferState.EXPIRED, TransferState.TERMINATED})

_log = logs.get_logger("intake")


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an upload stands, as its client may know.

    Attributes:
        id: Its id.
        offset: Bytes that are durable.
        size: Bytes in all.
        expires_at: When it is dropped if nothing more comes; None once it is complete.
        claim: The encoded claim it was created with.
        receipt: The receipt's proof text, once there is one.
    """

    id: str
    offset: int
    size: int
    expires_at: UnixMillis | None
    claim: bytes
    receipt: bytes | None = None


class Intake:
    """Uploads, from the claim to the receipt."""

    def __init__(  # noqa: PLR0913 - it stands between all of these
        self,
        *,
        desk: ClaimDesk,
        uploads: UploadStore,
        whole: WholeIntake,
        ends: SmallEnds,
        custody: Custody,
        receiver: Receiver,
        room: Room,
        quotas: Quotas,
        busy: BusyUploads,
        clock: Clock,
        metrics: RelayMetrics,
    ) -> None:
        self._desk = desk
        self._uploads = uploads
        self._whole = whole
        self._ends = ends
        self._custody = custody
        self._receiver = receiver
        self._room = room
        self._quotas = quotas
        self._busy = busy
        self._clock = clock
        self._metrics = metrics

    @property
    def largest(self) -> int:
        """The largest fragment that is taken, in bytes."""
        return self._desk.limits.fragment_bytes

    async def create(self, data: bytes, *, length: int) -> Progress:
        """Check a claim, reserve room, and begin an upload; no byte of the fragment is read.

        A fragment that is held already is answered with its receipt.

        Args:
            data: The encoded claim.
            length: The size that the upload announces.

        Raises:
            FormatError: No claim, or another length than it says.
            NotRegisteredError: The destination is not served here.
            UnknownObjectError: It has no such call.
            VerificationError: The claim does not hold.
            DeadlinePassedError: ``repair_by`` has passed.
            RelayFullError: Quota or disk have no room.
            OverloadedError: Too much of its ticket or destination was begun.
            UnavailableError: Terms cannot be fetched, or no receipt could be given now.
        """
        examined = await self._desk.examine(data, length=length)
        claim = examined.claim
        found = await self._uploads.find_custody(
            claim.origin, claim.commitment, claim.descriptor.index
        )
        if found is not None:
            return await self._progress(found)
        quota = self._desk.require_open(examined)
        self._quotas.take(claim.origin, claim.commitment)
        self._room.reserve(claim.origin.server, length, quota_bytes=quota)
        try:
            return await self._begin(examined)
        except BaseException:
            self._room.give_back(claim.origin.server, size=length, missing_size=length)
            raise

    def admit(self, *, length: int, size: int | None) -> bool:
        """Whether a fragment is small, comes whole, and may be held in memory until it is kept.

        Args:
            length: The size that the upload announces.
            size: Bytes of the request's body, if they are known.
        """
        return size == length <= SMALL_SIZE and self._whole.admit(length)

    def dismiss(self, length: int) -> None:
        """What was admitted is not in memory any more."""
        self._whole.give_back(length)

    async def examine(self, data: bytes, *, length: int) -> Examined:
        """See ``ClaimDesk.examine``."""
        return await self._desk.examine(data, length=length)

    def is_open(self, examined: Examined) -> bool:
        """See ``WholeIntake.is_open``."""
        return self._whole.is_open(examined)

    async def keep(self, examined: Examined, body: bytes) -> Progress:
        """Keep a whole fragment that was admitted; one that is held already is not kept twice.

        Raises:
            BistroError: See ``WholeIntake.begin``.
        """
        try:
            kept = await self._whole.take(examined, body)
        except RelayFullError:
            # No room for a segment; for one fragment there may be, and else this says so.
            return await self._keep_alone(examined.encoded, body)
        return _finished(kept, examined.encoded)

    async def _keep_alone(self, claim: bytes, body: bytes) -> Progress:
        async def chunks() -> AsyncIterator[bytes]:
            yield body

        progress = await self.create(claim, length=len(body))
        if progress.receipt is not None:
            return progress
        try:
            # Without a length it is streamed: there is no other way now.
            return await self.append(progress.id, chunks(), at=0, length=None)
        except BistroError:
            # Nobody was told of this upload, so nobody would go on with it.
            with suppress(BistroError, UploadEndedError):
                await self.terminate(progress.id)
            raise

    async def _begin(self, examined: Examined) -> Progress:
        now, claim = self._clock.now(), examined.claim
        descriptor = claim.descriptor
        transfer = Transfer.offer(
            size=descriptor.size, fragment_hash=descriptor.fragment_hash, now=now
        )
        upload = Upload.of(secrets.token_hex(_ID_SIZE), claim, examined.encoded, transfer)
        self._quotas.begin(claim.origin, claim.commitment)
        try:
            with full_answered():
                await self._uploads.insert(upload, now=now)
        except BaseException:
            self._quotas.end(upload)
            raise
        self._metrics.uploads.labels(TransferState.RECEIVING.value).inc()
        _log.info(
            "upload_created",
            upload=upload.id,
            origin=str(upload.origin),
            commitment=upload.commitment.hex(),
            fragment_index=upload.index,
            size=transfer.size,
        )
        return await self._progress(upload)

    async def look(self, upload_id: str) -> Progress:
        """Where an upload stands.

        Raises:
            UnknownObjectError: There is none of that id.
            UploadEndedError: It has ended without a receipt.
            UploadBusyError: A request writes to it now.
        """
        with self._busy.held(upload_id):
            return await self._progress(await self._require(upload_id))

    async def append(
        self,
        upload_id: str,
        chunks: AsyncIterator[bytes],
        *,
        at: int,
        length: int | None,
        checksum: Checksum | None = None,
    ) -> Progress:
        """Take bytes from offset ``at`` on; what this returns is durable.

        If the connection breaks, what had come until then is kept, unless a checksum that
        covers all of it was announced.

        Args:
            upload_id: The upload.
            chunks: The request's body.
            at: The offset that the client believes in.
            length: Bytes that the body announces, if it does.
            checksum: What the body must hash to.

        Raises:
            ConflictError: Another offset is next.
            LimitExceededError: More bytes than the fragment has.
            ChecksumMismatchError: The body is not what was announced: it was dropped; or the
                fragment is not the descriptor's: the upload has ended.
            RelayFullError: The disk is full; the offset stays.
            UnavailableError: The connection broke, or brought too little for too long.
            UploadBusyError, UploadEndedError, UnknownObjectError: As ``look``.
        """
        with self._busy.held(upload_id):
            upload = await self._require(upload_id)
            transfer = upload.transfer
            is_done = transfer.state is not TransferState.RECEIVING
            if is_done and at == transfer.size and not length:
                return await self._progress(upload)
            transfer.require_offset(at, length=length)
            with full_answered():
                body = self._quotas.keep_pace(chunks)
                ended = await self._ends.receive(upload, body, length=length, checksum=checksum)
            if isinstance(ended, Kept):
                return _finished(ended, upload.claim)
            upload = ended
            if upload.transfer.state is TransferState.COMPLETE:
                await self._drop_if_taken_down(upload)
                upload = await self._custody.hold(upload)
            return await self._progress(upload)

    async def _drop_if_taken_down(self, upload: Upload) -> None:
        """Hold nothing that was taken down while it came.

        Raises:
            RefusedError: It was; the upload has ended.
        """
        try:
            self._desk.require_allowed(upload.origin, upload.commitment, upload.index)
        except RefusedError:
            await self._receiver.drop(upload)
            raise

    async def terminate(self, upload_id: str) -> None:
        """Give an upload up.

        Raises:
            RefusedError: A receipt was given.
            UploadBusyError, UploadEndedError, UnknownObjectError: As ``look``.
        """
        with self._busy.held(upload_id):
            upload = await self._require(upload_id)
            upload.with_transfer(upload.transfer.terminate())
            await self._receiver.drop(upload)
            _log.info("upload_terminated", upload=upload_id)

    async def expire(self, upload: Upload) -> None:
        """Drop an incomplete upload whose time is over; one that is busy is left alone.

        Raises:
            ConflictError: It is too early.
        """
        if upload.id in self._busy:
            return
        with self._busy.held(upload.id):
            ended = upload.with_transfer(upload.transfer.expire(self._clock.now()))
            await self._uploads.update(ended, now=self._clock.now())
            await self._receiver.discard(upload)
            _log.info("upload_expired", upload=upload.id)

    async def receipt(self, upload_id: str) -> bytes:
        """The receipt of an upload, a tlog-proof text, or of the one that was first.

        Raises:
            UnknownObjectError: There is no such upload, or no receipt yet.
        """
        upload = await self._uploads.find(upload_id)
        if upload is None:
            raise UnknownObjectError("there is no such upload")
        if upload.transfer.state in _ENDED:
            key = upload.origin, upload.commitment, upload.index
            upload = await self._uploads.find_custody(*key) or upload
        return await self._custody.find_receipt(upload)

    async def _require(self, upload_id: str) -> Upload:
        upload = await self._uploads.find(upload_id)
        if upload is None:
            raise UnknownObjectError(
                "there is no such upload", hint="create it again with the same claim"
            )
        if upload.transfer.state in _ENDED:
            raise UploadEndedError(upload_id)
        if upload.transfer.state is TransferState.RECEIVING and upload.transfer.is_expired(
            self._clock.now()
        ):
            raise UploadEndedError(upload_id)
        return upload

    async def _progress(self, upload: Upload) -> Progress:
        transfer = upload.transfer
        if transfer.state is TransferState.COMPLETE:
            upload = await self._custody.hold(upload)
        receipt = None
        if transfer.state is not TransferState.RECEIVING:
            receipt = await self._custody.find_receipt(upload)
        return Progress(
            id=upload.id,
            offset=transfer.offset,
            size=transfer.size,
            expires_at=transfer.expires_at if receipt is None else None,
            claim=upload.claim,
            receipt=receipt,
        )


def _finished(kept: Kept, claim: bytes) -> Progress:
    return Progress(kept.id, kept.size, kept.size, None, claim, kept.receipt)
