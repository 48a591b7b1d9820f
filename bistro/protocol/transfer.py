"""One upload at a relay, as a frozen value.

| state | event | next | otherwise |
|---|---|---|---|
| receiving | ``accept`` | receiving | 409 wrong offset, 413 too long |
| receiving, all bytes | ``complete`` | complete | 460 wrong SHA-256 |
| receiving | ``terminate`` | terminated | |
| receiving | ``expire`` after ``expires_at`` | expired | 409 too early |
| complete | ``hold`` | held | |
| held | ``extend`` | held | |
| held | ``release`` | released | 409 other SHA-256 |
| held | ``expire`` after ``hold_until`` | expired | 409 too early |
| complete, held | ``terminate`` | - | 403: a receipt exists or is being written |
| released, expired, terminated | the same event again | unchanged | 409 |

An offset never goes down: ``accept`` is called after the bytes are durable, so that an offset
once told survives a crash. Bytes whose whole SHA-256 is wrong are dropped with their upload.

Source: docs/spec/staging.md; tus 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from bistro.errors import (
    ChecksumMismatchError,
    ConflictError,
    LimitExceededError,
    RefusedError,
)
from bistro.instant import UnixMillis, format_rfc3339

INCOMPLETE_MS = 3_600_000
"""How long an upload may stay incomplete before it expires."""


class TransferState(StrEnum):
    """Where an upload stands; the texts are what a relay stores."""

    RECEIVING = "receiving"
    COMPLETE = "complete"
    HELD = "held"
    RELEASED = "released"
    EXPIRED = "expired"
    TERMINATED = "terminated"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows and no bytes are kept."""
        return self in {TransferState.RELEASED, TransferState.EXPIRED, TransferState.TERMINATED}


def require_intact_chunk(*, expected: bytes, found: bytes) -> None:
    """Check one request's ``Upload-Checksum``; on failure its bytes are dropped, not the upload.

    Raises:
        ChecksumMismatchError: The digests differ; the offset stays where it was.
    """
    if expected != found:
        raise ChecksumMismatchError(
            f"chunk checksum: expected {expected.hex()}, found {found.hex()}",
            hint="send the same bytes again from the same offset",
        )


@dataclass(frozen=True, slots=True)
class Transfer:
    """The upload of one fragment.

    Attributes:
        size: What the descriptor announces, in bytes.
        fragment_hash: What the descriptor announces.
        expires_at: When an incomplete upload may be dropped.
        offset: Bytes that are durable here.
        state: See the table above.
        hold_until: The end of the promise; None before there is a receipt.
    """

    size: int
    fragment_hash: bytes
    expires_at: UnixMillis
    offset: int = 0
    state: TransferState = TransferState.RECEIVING
    hold_until: UnixMillis | None = None

    @classmethod
    def offer(cls, *, size: int, fragment_hash: bytes, now: UnixMillis) -> Transfer:
        """A new upload of a claim that has been checked; no byte has arrived."""
        return cls(
            size=size, fragment_hash=fragment_hash, expires_at=UnixMillis(now + INCOMPLETE_MS)
        )

    @property
    def missing_size(self) -> int:
        """Bytes still to come."""
        return self.size - self.offset

    def require_offset(self, at: int, *, length: int | None = None) -> None:
        """Check a request before its bytes are read.

        Args:
            at: The request's ``Upload-Offset``.
            length: Its ``Content-Length``, where it has one.

        Raises:
            ConflictError: Another offset is next, or the upload takes no more bytes.
            LimitExceededError: The bytes would go beyond the announced size.
        """
        self._require(TransferState.RECEIVING)
        if at != self.offset:
            raise ConflictError(
                f"upload offset: expected {self.offset}, found {at}",
                hint="ask for the offset with HEAD and continue there",
            )
        if length is not None and length > self.missing_size:
            raise LimitExceededError(
                f"upload length: expected at most {self.missing_size} bytes, found {length}"
            )

    def accept(self, *, at: int, length: int) -> Transfer:
        """``length`` bytes from offset ``at`` on are durable.

        Raises:
            ConflictError: Another offset is next, or the upload takes no more bytes.
            LimitExceededError: The bytes go beyond the announced size.
        """
        self.require_offset(at, length=length)
        return replace(self, offset=at + length)

    def complete(self, *, found_hash: bytes) -> Transfer:
        """All bytes have arrived and hash to ``found_hash``.

        Raises:
            ConflictError: Bytes are missing.
            ChecksumMismatchError: They are not the announced ones. The caller drops the bytes,
                ends the upload with ``terminate`` and lets this error out.
        """
        self._require(TransferState.RECEIVING)
        if self.missing_size:
            raise ConflictError(f"upload: expected {self.size} bytes, found {self.offset}")
        if found_hash != self.fragment_hash:
            raise ChecksumMismatchError(
                f"fragment: expected the tree hash {self.fragment_hash.hex()}, "
                f"found {found_hash.hex()}",
                hint="the bytes were dropped; upload the fragment again from its start",
            )
        return replace(self, state=TransferState.COMPLETE)

    def hold(self, until: UnixMillis) -> Transfer:
        """The receipt is durable: the fragment is held until ``until``. Repeating is harmless."""
        if self.state is TransferState.HELD:
            return self.extend(until)
        self._require(TransferState.COMPLETE)
        return replace(self, state=TransferState.HELD, hold_until=until)

    def extend(self, until: UnixMillis) -> Transfer:
        """The hold ends at ``until`` if that is later; a promise is never shortened."""
        self._require(TransferState.HELD)
        return replace(self, hold_until=max(until, self.hold_until or until))

    def release(self, fragment_hash: bytes) -> Transfer:
        """The destination confirmed possession of a fragment that hashes to ``fragment_hash``.

        Raises:
            ConflictError: Not held, or what is confirmed is not what is held.
        """
        if fragment_hash != self.fragment_hash:
            raise ConflictError(
                f"release: expected the hash {self.fragment_hash.hex()}, "
                f"found {fragment_hash.hex()}"
            )
        if self.state is TransferState.RELEASED:
            return self
        self._require(TransferState.HELD)
        return replace(self, state=TransferState.RELEASED)

    def terminate(self) -> Transfer:
        """The client gave the upload up, or its bytes were wrong.

        Raises:
            RefusedError: A receipt exists or is being written: the promise stands.
            ConflictError: Released or expired already.
        """
        if self.state is TransferState.TERMINATED:
            return self
        if self.state in {TransferState.COMPLETE, TransferState.HELD}:
            raise RefusedError("termination: a receipt was given for this fragment")
        self._require(TransferState.RECEIVING)
        return replace(self, state=TransferState.TERMINATED)

    def ends_at(self) -> UnixMillis | None:
        """When ``expire`` becomes possible; None where nothing expires."""
        if self.state is TransferState.RECEIVING:
            return self.expires_at
        return self.hold_until if self.state is TransferState.HELD else None

    def is_expired(self, now: UnixMillis) -> bool:
        """Whether ``expire`` would succeed: at its very end a hold still binds."""
        end = self.ends_at()
        return end is not None and now > end

    def expire(self, now: UnixMillis) -> Transfer:
        """The time of an incomplete upload, or of a hold, is over.

        Raises:
            ConflictError: It is too early, or there is nothing that expires.
        """
        if self.state is TransferState.EXPIRED:
            return self
        if not self.is_expired(now):
            end = self.ends_at()
            until = "never" if end is None else f"after {format_rfc3339(end)}"
            raise ConflictError(
                f"expiry of an upload that is {self.state}: expected {until}, "
                f"found {format_rfc3339(now)}"
            )
        return replace(self, state=TransferState.EXPIRED)

    def _require(self, state: TransferState) -> None:
        if self.state is not state:
            raise ConflictError(f"upload: expected to be {state}, found {self.state}")
