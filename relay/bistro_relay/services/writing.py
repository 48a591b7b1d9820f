"""The bytes of one request on their way to the disk: gathered, hashed, appended, made durable.

Memory is one block, whatever comes, and less where many come slowly. Hashing and writing happen
together in a thread.

Source: docs/spec/staging.md, continuing and the last byte.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from bistro.crypto.treehash import TreeHash
from bistro.storage.finishing import finish
from bistro_relay.store.segments import CHUNK_SIZE, Segment

if TYPE_CHECKING:
    from hashlib import _Hash

BLOCKS_SIZE: Final = 4_194_304
"""Bytes of all requests that are gathered; beyond, each is written as it comes."""
CHECKPOINT_SIZE: Final = 8_388_608
"""A long request loses at most this much to a crash."""

_STATES: Final = 1_024


@dataclass
class Digest:
    """Tree hash and CRC-32 of the data so far.

    Attributes:
        size: Bytes that went in.
    """

    tree: TreeHash
    crc: int = 0
    size: int = 0

    @classmethod
    def empty(cls) -> Self:
        """The digest of no data."""
        return cls(TreeHash())

    def copy(self) -> Digest:
        """One that goes its own way from here."""
        return Digest(self.tree.copy(), self.crc, self.size)

    def update(self, chunk: bytes | bytearray) -> None:
        """Add data; releases the interpreter's lock for larger pieces."""
        self.tree.update(chunk)
        self.crc = zlib.crc32(chunk, self.crc)
        self.size += len(chunk)


class Digests:
    """Digests of uploads between requests; one that is not here is computed again."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Digest] = OrderedDict()

    async def take(self, upload_id: str, segment: Segment, *, size: int) -> Digest:
        """The digest of an upload's first ``size`` bytes, from memory or by reading them."""
        known = self._known.pop(upload_id, None)
        if known is not None and known.size == size:
            return known
        return await finish(asyncio.to_thread(_digest_of, segment, size))

    def keep(self, upload_id: str, digest: Digest) -> None:
        """Remember a digest for the next request; the oldest are forgotten."""
        self._known[upload_id] = digest
        while len(self._known) > _STATES:
            self._known.popitem(last=False)

    def forget(self, upload_id: str) -> None:
        """Drop the digest of an upload that has ended."""
        self._known.pop(upload_id, None)


def _digest_of(segment: Segment, size: int) -> Digest:
    digest = Digest.empty()
    while digest.size < size:
        digest.update(segment.read(offset=digest.size, size=min(CHUNK_SIZE, size - digest.size)))
    return digest


class Blocks:
    """Bytes that all requests together have gathered and not written yet."""

    def __init__(self) -> None:
        self.size = 0

    @property
    def is_full(self) -> bool:
        """Whether no more should be gathered."""
        return self.size > BLOCKS_SIZE


class Writing:
    """One request's bytes; its owner closes the segment.

    Args:
        segment: Cut to what is durable.
        digest: Of what is durable.
        blocks: What all requests have gathered.
        check: The hash of the request's ``Upload-Checksum``, if it has one.

    Attributes:
        digest: Of everything written.
        recorded: Bytes that the upload's row counts; its owner keeps this.
    """

    def __init__(
        self, segment: Segment, digest: Digest, blocks: Blocks, *, check: _Hash | None = None
    ) -> None:
        self.digest = digest
        self.recorded = digest.size
        self._blocks = blocks
        self._segment = segment
        self._check = check
        self._block = bytearray()
        self._synced = digest.size

    async def add(self, chunk: bytes) -> None:
        """Take bytes; they are written when a block is full."""
        self._block += chunk
        self._blocks.size += len(chunk)
        if len(self._block) >= CHUNK_SIZE or self._blocks.is_full:
            await self.flush()

    async def flush(self) -> None:
        """Write what has been gathered; durable only after ``sync``."""
        if self._block:
            block, self._block = self._block, bytearray()
            self._blocks.size -= len(block)
            await finish(asyncio.to_thread(self._write, block))

    def give_up(self) -> None:
        """Drop what has been gathered and will not be written."""
        self._blocks.size -= len(self._block)
        self._block = bytearray()

    def _write(self, block: bytearray) -> None:
        self._segment.append(memoryview(block))
        self.digest.update(block)
        if self._check is not None:
            self._check.update(block)

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether so much has come that it should be made durable now."""
        return self._check is None and self.digest.size - self._synced >= CHECKPOINT_SIZE

    async def sync(self) -> None:
        """Make durable what was written."""
        await self.flush()
        await finish(asyncio.to_thread(self._segment.sync))
        self._synced = self.digest.size

    async def finish(self) -> None:
        """Write the record's end, and make all of it durable."""
        await self.flush()
        await finish(asyncio.to_thread(self._segment.finish, self.digest.crc))

    def checksum(self) -> bytes | None:
        """The digest of this request's bytes, if one was announced."""
        return None if self._check is None else self._check.digest()
