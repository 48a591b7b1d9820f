"""Uploads at a relay."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bistro.crypto.digest import sha256
from bistro.errors import (
    BistroError,
    ChecksumMismatchError,
    ConflictError,
    LimitExceededError,
    RefusedError,
)
from bistro.instant import UnixMillis
from bistro.protocol.transfer import (
    INCOMPLETE_MS,
    Transfer,
    TransferState,
    require_intact_chunk,
)

DATA = b"fragment"
DIGEST = sha256(DATA)
NOW = UnixMillis(1_000)
LATER = UnixMillis(10**9)


def offered() -> Transfer:
    return Transfer.offer(size=len(DATA), fragment_hash=DIGEST, now=NOW)


def filled() -> Transfer:
    return offered().accept(at=0, length=len(DATA))


def held() -> Transfer:
    return filled().complete(found_hash=DIGEST).hold(LATER)


def test_an_upload_goes_from_offer_to_release() -> None:
    """The life of a fragment at a relay without trouble."""
    upload = offered().accept(at=0, length=3)
    assert (upload.offset, upload.missing_size) == (3, 5)
    upload = upload.accept(at=3, length=5).complete(found_hash=DIGEST)
    assert upload.state is TransferState.COMPLETE
    upload = upload.hold(LATER)
    assert (upload.state, upload.hold_until) == (TransferState.HELD, LATER)
    assert upload.release(DIGEST).state.is_final


@pytest.mark.parametrize("at", [0, 2, 4])
def test_only_the_next_offset_is_taken(at: int) -> None:
    """A repeated or skipping PATCH gets 409 and learns the offset."""
    upload = offered().accept(at=0, length=3)
    with pytest.raises(ConflictError, match="expected 3") as caught:
        upload.accept(at=at, length=1)
    assert caught.value.http_status == 409


def test_bytes_beyond_the_announced_size_are_refused() -> None:
    """Space was reserved for the announced size only."""
    with pytest.raises(LimitExceededError):
        offered().accept(at=0, length=len(DATA) + 1)
    offered().require_offset(0)


def test_an_incomplete_upload_does_not_complete() -> None:
    """The receipt stands for all bytes."""
    with pytest.raises(ConflictError, match="expected 8 bytes"):
        offered().complete(found_hash=DIGEST)


def test_wrong_bytes_end_the_upload_with_460() -> None:
    """They are dropped, and the offset of that upload never goes down: it has ended."""
    upload = filled()
    with pytest.raises(ChecksumMismatchError) as caught:
        upload.complete(found_hash=bytes(32))
    assert (caught.value.http_status, caught.value.code) == (460, "checksum-mismatch")
    assert upload.terminate().state is TransferState.TERMINATED


def test_a_wrong_chunk_leaves_the_offset() -> None:
    """A tus checksum covers one request."""
    require_intact_chunk(expected=DIGEST, found=DIGEST)
    with pytest.raises(ChecksumMismatchError):
        require_intact_chunk(expected=DIGEST, found=bytes(32))


def test_a_receipt_makes_termination_forbidden() -> None:
    """From the moment the receipt is being written."""
    for upload in (filled().complete(found_hash=DIGEST), held()):
        with pytest.raises(RefusedError) as caught:
            upload.terminate()
        assert caught.value.http_status == 403
    with pytest.raises(ConflictError):
        held().release(DIGEST).terminate()


def test_a_hold_is_never_shortened() -> None:
    """Later terms only extend it; the same receipt written twice is one."""
    assert held().extend(UnixMillis(LATER - 1)).hold_until == LATER
    assert held().hold(UnixMillis(LATER + 1)).hold_until == LATER + 1


def test_a_release_names_the_bytes() -> None:
    """The destination confirms what it has; another hash is a conflict."""
    with pytest.raises(ConflictError, match="expected the hash"):
        held().release(bytes(32))
    with pytest.raises(ConflictError, match="held"):
        filled().release(DIGEST)


def test_expiry_waits_for_the_end_of_the_promise() -> None:
    """At its last millisecond a hold still binds."""
    upload = offered()
    assert not upload.is_expired(UnixMillis(NOW + INCOMPLETE_MS))
    assert upload.expire(UnixMillis(NOW + INCOMPLETE_MS + 1)).state is TransferState.EXPIRED
    with pytest.raises(ConflictError, match="found 1970"):
        held().expire(LATER)
    with pytest.raises(ConflictError, match="never"):
        filled().complete(found_hash=DIGEST).expire(UnixMillis(10**12))


@pytest.mark.parametrize("again", ["release", "expire", "terminate"])
def test_a_repeated_ending_changes_nothing(again: str) -> None:
    """A crash may repeat it."""
    ended = {
        "release": held().release(DIGEST),
        "expire": held().expire(UnixMillis(LATER + 1)),
        "terminate": offered().terminate(),
    }[again]
    repeat = {
        "release": lambda: ended.release(DIGEST),
        "expire": lambda: ended.expire(NOW),
        "terminate": ended.terminate,
    }[again]
    assert repeat() == ended


class UploadMachine(RuleBasedStateMachine):
    """Any events in any order: offsets and promises never go down, endings are final."""

    def __init__(self) -> None:
        super().__init__()
        self.upload = offered()
        self.now = NOW

    def attempt(self, event: Callable[[], Transfer]) -> None:
        before = self.upload
        with contextlib.suppress(BistroError):
            self.upload = event()
        assert self.upload.offset >= before.offset
        assert (self.upload.hold_until or 0) >= (before.hold_until or 0)
        if before.state.is_final:
            assert self.upload == before
        if before.state is TransferState.HELD and self.upload.state is TransferState.EXPIRED:
            assert before.hold_until is not None
            assert self.now > before.hold_until
        had_receipt = before.state in {TransferState.COMPLETE, TransferState.HELD}
        assert not (had_receipt and self.upload.state is TransferState.TERMINATED)

    @rule(at=st.integers(0, 9), length=st.integers(0, 9))
    def accept(self, at: int, length: int) -> None:
        self.attempt(lambda: self.upload.accept(at=at, length=length))

    @rule(digest=st.sampled_from([DIGEST, bytes(32)]))
    def complete(self, digest: bytes) -> None:
        self.attempt(lambda: self.upload.complete(found_hash=digest))

    @rule(after=st.integers(0, 10**8))
    def hold(self, after: int) -> None:
        self.attempt(lambda: self.upload.hold(UnixMillis(self.now + after)))

    @rule(digest=st.sampled_from([DIGEST, bytes(32)]))
    def release(self, digest: bytes) -> None:
        self.attempt(lambda: self.upload.release(digest))

    @rule()
    def terminate(self) -> None:
        self.attempt(self.upload.terminate)

    @rule(passed=st.integers(0, 10**8))
    def expire(self, passed: int) -> None:
        self.now = UnixMillis(self.now + passed)
        self.attempt(lambda: self.upload.expire(self.now))

    @invariant()
    def a_hold_stands_on_all_bytes(self) -> None:
        if self.upload.hold_until is not None:
            assert self.upload.offset == self.upload.size


TestUploadMachine = UploadMachine.TestCase
TestUploadMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
