"""Brings one fragment to one relay: found again after an interruption, and proved by a receipt.

Source: docs/spec/staging.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from bistro.api import routes
from bistro.crypto.treehash import TreeHash
from bistro.errors import BistroError, ConflictError, UnavailableError, UnknownObjectError
from bistro.ids import Origin
from bistro.net.relay_client import Piece, RelayClient, Upload
from bistro.protocol.promise_checks import HOLD_MARGIN_MS
from bistro.protocol.submission import Sealed, Submission
from bistro.storage.durable import make_directories, write_atomically
from bistro.wire.clauses import Relay
from bistro.wire.fragment import Descriptor
from bistro.wire.receipt import Receipt
from bistro.wire.terms import Terms
from bistro_client import messages, peer_messages
from bistro_client.claiming import claim_of
from bistro_client.fragments import SpooledFragment, open_fragment
from bistro_client.journal import Journal
from bistro_client.listening import Listener, Task
from bistro_client.pacing import Pace
from bistro_client.wording import say

CHUNK_SIZE: Final = 262_144
STEP_SIZE: Final = 32_768
"""What is handed to the network at once: on a thin line each step shows that it moves."""
SMALL_SIZE: Final = 1_048_576
"""A fragment up to this size travels with the request that creates its upload."""
FAREWELL_S: Final = 3.0
"""How long it is tried to end an upload that nobody needs."""


@dataclass(slots=True)
class Delivery:
    """One fragment on its way to one relay.

    Attributes:
        journal: Of the submission.
        index: Of the fragment.
        relay: Where it goes, as the terms name it.
        client: Asks that relay.
        terms: Those that the submission was sealed for.
        listener: Told how far the bytes are.
        pace: Of all uploads together.
        sent: Bytes that the listener was told of for this delivery.
        is_rival: It races another delivery of the fragment, which is the one in the journal.
        upload: The relay's name for the upload, once it is known.
    """

    journal: Journal
    index: int
    relay: Relay
    client: RelayClient
    terms: Terms
    listener: Listener
    pace: Pace = field(default_factory=Pace)
    sent: int = field(default=0)
    is_rival: bool = False
    upload: str | None = None

    async def bring(self) -> Receipt:
        """The relay's verified receipt; it is in the journal when this returns.

        Raises:
            StorageError: The fragment on our own disk is missing or damaged.
            UnavailableError: The relay cannot be reached, or the connection broke: call again.
            VerificationError: The receipt is not what the terms ask for.
            RefusedError: The relay will not take it.
        """
        size = self._sealed.cut.layout.fragment_size
        file = await asyncio.to_thread(self._open)
        try:
            upload = await self._find() or await self._create(file, size)
            while upload.receipt is None:
                upload = await self._continue(file, upload, size)
        finally:
            file.close()
        self._verify(upload.receipt)
        await self._keep(upload.receipt)
        self._progress_to(size)
        return upload.receipt

    async def require_intact(self) -> None:
        """Check the fragment on our own disk, after a relay said that it got something else.

        Raises:
            StorageError: It is damaged: no relay could do better.
        """
        descriptor = self._sealed.cut.descriptors[self.index]
        file = await asyncio.to_thread(self._open)
        try:
            digest = TreeHash()
            async for chunk in self._chunks(file, 0, descriptor.size, is_sent=False):
                digest.update(chunk)
        finally:
            file.close()
        if digest.digest() != descriptor.fragment_hash:
            raise messages.lost_fragment(file.path)

    def forget_progress(self) -> None:
        """Take back what the listener was told: the bytes must go to another relay."""
        self._progress_to(0)

    async def abandon(self) -> None:
        """Tell the relay that no more will come, so that it need not keep room."""
        if self.upload is None:
            return
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self.client.terminate(self.upload)
        except (BistroError, TimeoutError):
            # Gone, held already, or not to be reached: then it ends there by itself.
            return

    @property
    def _sealed(self) -> Sealed:
        sealed = self.journal.submission.sealed
        if sealed is None:
            raise ConflictError(say("uploading.fragments-expected-sealed"))
        return sealed

    @property
    def _origin(self) -> Origin:
        return self.journal.submission.request.origin

    def _open(self) -> SpooledFragment:
        layout = self._sealed.cut.layout
        return open_fragment(self.journal.folder, layout, self.index, disk=self.journal.disk)

    async def _find(self) -> Upload | None:
        """The upload that was created before, if the relay still has it."""
        if self.upload is None and not self.is_rival:
            known = self.journal.submission.fragments[self.index].upload_url
            self.upload = None if known is None else known.rpartition("/")[2]
        if self.upload is None:
            return None
        try:
            upload = await self.client.fetch_offset(self.upload)
        except UnknownObjectError:
            self.upload = None
            return None
        self._progress_to(upload.offset)
        return upload

    async def _create(self, file: SpooledFragment, size: int) -> Upload:
        whole = None
        if size <= SMALL_SIZE:
            whole = Piece(self._chunks(file, 0, size), size)
        upload = await self.client.create_upload(self._claim(), size=size, first=whole)
        self.upload = upload.id
        # A crash before this line leaves an upload that expires by itself, as a rival's does.
        if upload.receipt is None and not self.is_rival:
            url = routes.UPLOAD_OFFSET.url(self.relay.url, upload=upload.id)
            await self.journal.change(lambda s: s.upload_created(self.index, url))
        self._progress_to(upload.offset)
        return upload

    async def _continue(self, file: SpooledFragment, upload: Upload, size: int) -> Upload:
        if upload.offset >= size:
            return await self._await_receipt(upload)
        self._progress_to(upload.offset)
        rest = Piece(self._chunks(file, upload.offset, size), size - upload.offset)
        try:
            return await self.client.append(upload.id, rest, offset=upload.offset)
        except ConflictError:
            # An earlier request of ours was stored further than we heard.
            return await self._asked_again(upload)

    async def _await_receipt(self, upload: Upload) -> Upload:
        """The receipt of a fragment that is whole: a relay may have been unable to sign it."""
        try:
            receipt = await self.client.fetch_receipt(upload.id)
        except UnknownObjectError as exc:
            raise UnavailableError(say("uploading.relay-has-whole", relay=self.relay.name)) from exc
        return Upload(upload.id, upload.offset, receipt)

    async def _asked_again(self, upload: Upload) -> Upload:
        found = await self.client.fetch_offset(upload.id)
        if found.offset <= upload.offset and found.receipt is None:
            raise UnavailableError(say("uploading.relay-refuses-offset", relay=self.relay.name))
        return found

    async def _chunks(
        self, file: SpooledFragment, offset: int, size: int, *, is_sent: bool = True
    ) -> AsyncIterator[bytes]:
        while offset < size:
            chunk = await asyncio.to_thread(
                file.read, offset=offset, size=min(CHUNK_SIZE, size - offset)
            )
            if not chunk:
                raise messages.lost_fragment(file.path)
            if not is_sent:
                offset += len(chunk)
                yield chunk
                continue
            for at in range(0, len(chunk), STEP_SIZE):
                step = chunk[at : at + STEP_SIZE]
                await self.pace.take(len(step))
                yield step
                offset += len(step)
                self._progress_to(offset)

    def _claim(self) -> bytes:
        return claim_of(self.journal.submission, self.index).encode()

    def _verify(self, receipt: Receipt) -> None:
        sealed = self._sealed
        receipt.verify(self.relay.vkey, self._origin, sealed.commitment)
        descriptor, entry = sealed.cut.descriptors[self.index], receipt.entry
        if Descriptor(entry.index, entry.size, entry.fragment_hash) != descriptor:
            raise peer_messages.receipt_for_another(self.relay.name, self.index)
        if receipt.hold_until < self.terms.repair_by + HOLD_MARGIN_MS:
            raise peer_messages.short_hold(self.relay.name, receipt.hold_until, self.terms)

    async def _keep(self, receipt: Receipt) -> None:
        text = receipt.text()
        await asyncio.to_thread(self._write, text.encode())
        # A crash here leaves the file only: the relay is asked again and shows it again.
        await self.journal.change(lambda s: self._received(s, text))

    def _received(self, submission: Submission, receipt: str) -> Submission:
        """The submission with this receipt, unless a race was lost meanwhile."""
        fragment = submission.fragments[self.index]
        if fragment.receipt is not None and fragment.relay != self.relay.name:
            return submission
        if self.is_rival:
            submission = submission.assign(self.index, self.relay.name)
        return submission.receive(self.index, receipt)

    def _write(self, receipt: bytes) -> None:
        path = self.journal.folder.receipt(self.index, self.relay.name)
        make_directories(path.parent, disk=self.journal.disk)
        write_atomically(path, receipt, disk=self.journal.disk)

    def _progress_to(self, offset: int) -> None:
        if offset != self.sent:
            self.listener.advance(Task.UPLOADING, offset - self.sent)
            self.sent = offset
