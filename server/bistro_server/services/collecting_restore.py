"""Restores an envelope from k fragments, and proves that all n fragments belong to it.

All n fragments are computed from the envelope that k of them gave; if they are what the
commitment says, so were those that were read. Only where they are not, all is done once more and
what is read is hashed as well: only bytes that are what their descriptors say may lead to the
verdict ``inconsistent``, which the filer has to bear. A fragment that changed on our disk is
fetched again.

Source: docs/spec/fragments.md, consistency after restoring.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from bistro.crypto.treehash import TreeHash
from bistro.errors import UnknownObjectError
from bistro.protocol.collection import Source
from bistro.protocol.fragmenting import StripeReader, StripeSums
from bistro.storage.blobs import BlobStore
from bistro.storage.durable import ReadFile
from bistro.wire.fragment import Cut, Descriptor
from bistro_server.services.collecting_files import FragmentFiles
from bistro_server.store.collection import Staged


@dataclass(frozen=True, slots=True)
class Restored:
    """The envelope is durable here; all its fragments as recomputed."""

    cut: Cut


@dataclass(frozen=True, slots=True)
class Damaged:
    """Fragments on our own disk are not what was fetched: to be fetched again."""

    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Inconsistent:
    """The fragments are what the commitment says, and do not belong together: void, for good."""

    text: str


Restoration = Restored | Damaged | Inconsistent


class _AbandonedError(Exception):
    """Writing an envelope stops, and leaves nothing behind; the reason is a result."""

    def __init__(self, reason: Damaged | Inconsistent) -> None:
        super().__init__(str(reason))
        self.reason = reason


def blob_name(commitment: bytes) -> str:
    """The name of an envelope in its call's blob store."""
    return f"{commitment.hex()}.age"


class Restorer:
    """Restores envelopes of one call.

    Args:
        files: Where fragments are; kept as an attribute.
        blobs: Where envelopes go.
    """

    def __init__(self, files: FragmentFiles, blobs: BlobStore) -> None:
        self.files = files
        self._blobs = blobs

    async def restore(self, staged: Staged, parts: Mapping[Source, Descriptor]) -> Restoration:
        """Write the envelope, durably, if all its fragments belong together; else nothing.

        Args:
            staged: The submission.
            parts: k fragments that were verified here, of distinct indexes.

        Raises:
            StorageError: Our own disk failed.
        """
        try:
            return await self._restore(staged, parts, is_suspect=False)
        except _AbandonedError as exc:
            if isinstance(exc.reason, Damaged):
                return exc.reason
        try:
            return await self._restore(staged, parts, is_suspect=True)
        except _AbandonedError as exc:
            return exc.reason

    async def _restore(
        self, staged: Staged, parts: Mapping[Source, Descriptor], *, is_suspect: bool
    ) -> Restored:
        with ExitStack() as stack:
            files = await asyncio.to_thread(self._open, stack, staged, parts)
            work = _Work(staged, files, is_suspect=is_suspect)
            async with self._blobs.writing(blob_name(staged.commitment)) as blob:
                while chunk := await asyncio.to_thread(work.step):
                    await blob.write(chunk)
                work.require_undamaged(parts)
                cut = work.require_consistent()
            # A crash before this is recorded: the same envelope is written again.
            return Restored(cut)

    def _open(
        self, stack: ExitStack, staged: Staged, parts: Mapping[Source, Descriptor]
    ) -> dict[Source, ReadFile]:
        found: dict[Source, ReadFile] = {}
        for source in parts:
            try:
                file = self.files.open(staged.commitment, source.index, source.relay)
            except UnknownObjectError as exc:
                raise _AbandonedError(Damaged((source,))) from exc
            found[source] = stack.enter_context(file)
        return found


class _Work:
    """One envelope in the making: constant memory, one row of units at a time.

    Args:
        staged: The submission.
        files: Its fragments.
        is_suspect: Whether to hash what is read.
    """

    def __init__(
        self, staged: Staged, files: Mapping[Source, ReadFile], *, is_suspect: bool
    ) -> None:
        layout = staged.layout
        self._staged = staged
        self._files = files
        self._hashes = {source: TreeHash() for source in files if is_suspect}
        self._reader = StripeReader(k=layout.k, n=layout.n, envelope_size=layout.envelope_size)
        self._sums = StripeSums(k=layout.k, n=layout.n)
        self._at = 0

    def step(self) -> bytes:
        """The next bytes of the envelope; empty at its end. Blocks, takes CPU."""
        size = self._reader.next_size
        if not size:
            return b""
        pieces: dict[int, bytes] = {}
        for source, file in self._files.items():
            piece = file.read(offset=self._at, size=size)
            if len(piece) != size:
                raise _AbandonedError(Damaged((source,)))
            if source in self._hashes:
                self._hashes[source].update(piece)
            pieces[source.index] = piece
        self._at += size
        chunk = self._reader.feed(pieces)
        self._sums.feed(chunk)
        return chunk

    def require_undamaged(self, parts: Mapping[Source, Descriptor]) -> None:
        """Accept fragments that are still what they were, where these are hashed."""
        damaged = tuple(
            source
            for source, found in self._hashes.items()
            if found.digest() != parts[source].fragment_hash
        )
        if damaged:
            raise _AbandonedError(Damaged(damaged))

    def require_consistent(self) -> Cut:
        """All fragments as recomputed, if they give the commitment."""
        staged, cut = self._staged, self._sums.cut()
        if cut.layout != staged.layout:
            raise _AbandonedError(
                Inconsistent(
                    "the commitment binds an envelope with the tree hash "
                    f"{staged.layout.envelope_hash.hex()}, its fragments give one with "
                    f"{cut.layout.envelope_hash.hex()}"
                )
            )
        if cut.commitment(staged.header_leaf) != staged.commitment:
            text = "the fragments of the restored envelope are not those that the commitment binds"
            raise _AbandonedError(Inconsistent(text))
        return cut
