"""Envelopes: round trips, strictness, and what is released when something is wrong."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto.sealing import (
    CHUNK_SIZE,
    KEY_KINDS,
    KeyKind,
    Opener,
    Sealer,
    generate_identity,
)
from bistro.errors import FormatError, VerificationError
from tests.support.age_files import FILE_KEY, IDENTITY, OTHER, open_file, open_whole, seal

BORDERS = [
    at + around
    for at in (0, CHUNK_SIZE, 2 * CHUNK_SIZE)
    for around in (-1, 0, 1)
    if at + around >= 0
]


@pytest.mark.parametrize("kind", KEY_KINDS)
@pytest.mark.parametrize("size", BORDERS)
def test_an_envelope_opens_to_what_was_sealed(kind: KeyKind, size: int) -> None:
    """Around every chunk border, whatever the pieces, at the size that was foretold."""
    identity = generate_identity(kind)
    plaintext = bytes(i % 251 for i in range(size))
    for piece_size in (1 << 20, CHUNK_SIZE, CHUNK_SIZE + 1, 10_007):
        sealed = seal([identity.recipient], plaintext, piece_size=piece_size)
        assert len(sealed) == Sealer([identity.recipient]).envelope_size(size)
        assert open_whole(Opener([identity]), sealed, piece_size=piece_size) == plaintext


@given(
    cuts=st.lists(st.integers(0, 3 * CHUNK_SIZE + 5), max_size=6),
    size=st.integers(0, 3 * CHUNK_SIZE + 5) | st.sampled_from(BORDERS),
)
def test_cutting_never_changes_what_comes_out(cuts: list[int], size: int) -> None:
    """Pieces of uneven sizes, empty ones among them, give the same plaintext."""
    plaintext = bytes(size)
    sealer = Sealer([IDENTITY.recipient], file_key=FILE_KEY)
    sealed = bytearray(sealer.header())
    for start, end in pairwise([0, *sorted(min(cut, size) for cut in cuts), size]):
        foretold = sealer.room_for(end - start)
        piece = sealer.update(plaintext[start:end])
        assert len(piece) == foretold
        sealed += piece
    sealed += sealer.finish()
    opener = Opener([IDENTITY])
    opened = bytearray()
    for start, end in pairwise([0, *sorted(min(cut, len(sealed)) for cut in cuts), len(sealed)]):
        opened += opener.feed(bytes(sealed[start:end]))
    assert opened + opener.finish() == plaintext


def test_two_envelopes_of_the_same_bytes_share_nothing() -> None:
    """File key, nonce and ephemeral keys are fresh each time."""
    first, second = Sealer([IDENTITY.recipient]), Sealer([IDENTITY.recipient])
    assert first.file_key != second.file_key
    assert first.header()[:60] != second.header()[:60]
    assert first.header()[-16:] != second.header()[-16:]


def test_each_of_several_recipients_opens_the_envelope() -> None:
    """Order does not matter, and neither do keys that do not fit."""
    sealed = seal([OTHER.recipient, IDENTITY.recipient], b"for both")
    for identity in (IDENTITY, OTHER):
        stranger = generate_identity("hybrid")
        assert open_whole(Opener([stranger, identity]), sealed) == b"for both"


def test_the_file_key_opens_its_envelope_and_no_other() -> None:
    """It is told by the sealer and, once the header is verified, by the opener."""
    sealer = Sealer([IDENTITY.recipient])
    sealed = sealer.header() + sealer.update(b"one envelope") + sealer.finish()
    assert Opener([IDENTITY]).file_key is None
    opener = Opener([IDENTITY])
    assert open_whole(opener, sealed) == b"one envelope"
    assert opener.file_key == sealer.file_key
    assert open_whole(Opener.with_file_key(sealer.file_key), sealed) == b"one envelope"
    other = Opener.with_file_key(FILE_KEY)
    released, error = open_file(other, sealed)
    assert (released, other.file_key) == (b"", None)
    assert isinstance(error, VerificationError)


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_a_file_key_has_sixteen_bytes(size: int) -> None:
    """Sealer and opener refuse any other size."""
    with pytest.raises(FormatError, match="16 bytes"):
        Sealer([IDENTITY.recipient], file_key=bytes(size))
    with pytest.raises(FormatError, match="16 bytes"):
        Opener.with_file_key(bytes(size))


def test_every_truncation_is_detected() -> None:
    """Wherever the data ends early, what was released is a true beginning, and finish fails."""
    plaintext = bytes(i % 251 for i in range(CHUNK_SIZE + 50))
    sealed = seal([IDENTITY.recipient], plaintext)
    header_size = len(sealed) - len(plaintext) - 2 * 16
    early = range(header_size + 200)
    late = range(len(sealed) - 200, len(sealed))
    middle = range(header_size + 200, len(sealed) - 200, 3_001)
    for size in (*early, *middle, *late):
        released, error = open_file(Opener([IDENTITY]), sealed[:size])
        assert isinstance(error, FormatError if size < header_size else VerificationError)
        assert "truncated" in str(error)
        assert released == (
            plaintext[:CHUNK_SIZE] if size >= header_size + CHUNK_SIZE + 16 else b""
        )


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE, CHUNK_SIZE + 1])
@pytest.mark.parametrize("extra", [b"\0", bytes(16), bytes(CHUNK_SIZE + 16), bytes(200_000)])
def test_extended_data_is_detected(size: int, extra: bytes) -> None:
    """Nothing may follow the last chunk."""
    sealed = seal([IDENTITY.recipient], bytes(size))
    released, error = open_file(Opener([IDENTITY]), sealed + extra)
    assert isinstance(error, VerificationError)
    assert bytes(size).startswith(released)


@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_any_changed_byte_is_detected(at: int, flip: int) -> None:
    """In the header, the nonce or a chunk: never another plaintext, never success."""
    sealed = bytearray(seal([IDENTITY.recipient], b"an envelope that stays as it is"))
    sealed[at % len(sealed)] ^= flip
    released, error = open_file(Opener([IDENTITY]), bytes(sealed))
    assert released == b""
    assert isinstance(error, FormatError | VerificationError)


@given(data=st.binary(max_size=400), piece_size=st.integers(1, 100))
def test_any_bytes_open_or_raise_our_errors(data: bytes, piece_size: int) -> None:
    """Garbage, and garbage behind a true beginning, never raises anything else."""
    for beginning in (b"", b"age-encryption.org/v1\n", b"age-encryption.org/v1\n-> X25519 "):
        released, error = open_file(Opener([IDENTITY]), beginning + data, piece_size=piece_size)
        assert released == b""
        assert isinstance(error, FormatError | VerificationError)


def test_good_chunks_before_a_fault_are_released_whatever_the_cutting() -> None:
    """The fault comes with the next call where good plaintext comes with this one."""
    plaintext = bytes(3 * CHUNK_SIZE)
    sealed = bytearray(seal([IDENTITY.recipient], plaintext))
    sealed[-CHUNK_SIZE] ^= 1
    opener = Opener([IDENTITY])
    assert opener.feed(bytes(sealed)) == plaintext[: 2 * CHUNK_SIZE]
    for _ in range(2):
        with pytest.raises(VerificationError):
            opener.feed(b"")
    with pytest.raises(VerificationError):
        opener.finish()
    for piece_size in (1_000, CHUNK_SIZE):
        released, _ = open_file(Opener([IDENTITY]), bytes(sealed), piece_size=piece_size)
        assert released == plaintext[: 2 * CHUNK_SIZE]


def test_a_fault_in_the_last_full_chunk_is_raised_at_the_end() -> None:
    """An extension that arrives with the last good chunk is raised by finish."""
    sealed = seal([IDENTITY.recipient], bytes(CHUNK_SIZE))
    opener = Opener([IDENTITY])
    assert opener.feed(sealed + b"x") == bytes(CHUNK_SIZE)
    with pytest.raises(VerificationError, match="extended"):
        opener.finish()


def test_a_chunk_that_fails_leaves_no_plaintext_in_the_buffer() -> None:
    """The cipher writes before it checks; the caller's buffer must not show it."""
    sealed = bytearray(seal([IDENTITY.recipient], b"s" * (CHUNK_SIZE + 1)))
    header_size = len(sealed) - CHUNK_SIZE - 1 - 32
    sealed[header_size + CHUNK_SIZE] ^= 1  # in the tag of the first chunk
    opener = Opener([IDENTITY])
    buffer = bytearray(opener.room_for(len(sealed)))
    with pytest.raises(VerificationError):
        opener.feed_into(sealed, buffer)
    assert bytes(buffer) == bytes(len(buffer))


def test_nothing_is_sealed_or_opened_behind_the_end() -> None:
    """Sealing on would reuse a nonce; opening on would join two envelopes."""
    sealer = Sealer([IDENTITY.recipient])
    sealed = sealer.header() + sealer.finish()
    with pytest.raises(RuntimeError):
        sealer.update(b"more")
    with pytest.raises(RuntimeError):
        sealer.finish()
    opener = Opener([IDENTITY])
    assert open_whole(opener, sealed) == b""
    with pytest.raises(VerificationError):
        opener.feed(b"more")


def test_memory_does_not_grow_with_the_envelope() -> None:
    """64 MiB pass through both sides in the memory of a few pieces."""
    piece = bytes(1 << 18)
    sealer, opener = Sealer([IDENTITY.recipient]), Opener([IDENTITY])
    opener.feed(sealer.header())
    opened_size = 0
    tracemalloc.start()
    try:
        for _ in range(256):
            opened_size += len(opener.feed(sealer.update(piece)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    opened_size += len(opener.feed(sealer.finish())) + len(opener.finish())
    assert opened_size == 256 * len(piece)
    assert peak < 3 << 20


# --- chunks that are known last


@pytest.mark.parametrize("held_count", [1, 2])
@pytest.mark.parametrize("rest", [1, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE])
def test_the_front_may_be_sealed_last(held_count: int, rest: int) -> None:
    """The envelope is the one that sealing from front to end gives, and opens as that does."""
    identity = generate_identity("x25519")
    front = bytes(index % 251 for index in range(held_count * CHUNK_SIZE))
    behind = bytes(index % 241 for index in range(rest))
    sealer = Sealer([identity.recipient], held_count=held_count)
    tail = sealer.update(behind) + sealer.finish()
    envelope = sealer.header() + sealer.seal_held(front) + tail
    assert len(envelope) == sealer.envelope_size(len(front) + len(behind))
    opener = Opener([identity])
    assert opener.feed(envelope) + opener.finish() == front + behind


def test_the_front_is_sealed_once_and_whole() -> None:
    """Sealing other bytes with the same key stream would show both."""
    sealer = Sealer([IDENTITY.recipient], held_count=1)
    with pytest.raises(ValueError, match="expected 65536 bytes, found 5"):
        sealer.seal_held(b"short")
    sealer.seal_held(bytes(CHUNK_SIZE))
    with pytest.raises(ValueError, match="expected 0 bytes, found 65536"):
        sealer.seal_held(bytes(CHUNK_SIZE))


@pytest.mark.parametrize("rest", [1, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE])
def test_reserved_chunks_are_sealed_in_any_order(rest: int) -> None:
    """Each knows its number: the envelope is the same, whoever seals what and when."""
    identity = generate_identity("x25519")
    plain = bytes(index % 251 for index in range(4 * CHUNK_SIZE + rest))
    sealer = Sealer([identity.recipient])
    shares = [(sealer.reserve(2), plain[at : at + 2 * CHUNK_SIZE]) for at in (0, 2 * CHUNK_SIZE)]
    end = plain[4 * CHUNK_SIZE :]
    shares.append((sealer.reserve(-(-rest // CHUNK_SIZE)), end))
    sealed = {}
    for first, data in reversed(shares):
        out = bytearray(len(data) + 3 * 16)
        size = sealer.seal_reserved(first, data, out, is_end=data is end)
        sealed[first] = bytes(out[:size])
    envelope = sealer.header() + b"".join(sealed[first] for first, _ in shares)
    assert len(envelope) == sealer.envelope_size(len(plain))
    opener = Opener([identity])
    assert opener.feed(envelope) + opener.finish() == plain


def test_chunks_are_reserved_where_one_begins() -> None:
    """Bytes that wait for the rest of their chunk have its number."""
    sealer = Sealer([IDENTITY.recipient])
    sealer.update(b"some")
    with pytest.raises(ValueError, match="at the beginning of one"):
        sealer.reserve(1)
