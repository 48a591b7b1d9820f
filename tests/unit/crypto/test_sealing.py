"""Envelopes: round trips, strictness, and what is released when something is wrong."""

from __future__ import annotations

import re
import tracemalloc
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto.age.header import MAX_HEADER_SIZE, encode_header
from bistro.crypto.age.stanza import Stanza, encode_base64
from bistro.crypto.sealing import (
    CHUNK_SIZE,
    KEY_KINDS,
    KeyKind,
    Opener,
    PassphraseIdentity,
    Sealer,
    X25519Identity,
    generate_identity,
)
from bistro.errors import FormatError, VerificationError
from tests.support.age_files import open_file, open_whole, seal

IDENTITY = X25519Identity(bytes(range(32)))
OTHER = X25519Identity(bytes(range(1, 33)))
FILE_KEY = b"sixteen bytes ok"
BORDERS = [
    at + around
    for at in (0, CHUNK_SIZE, 2 * CHUNK_SIZE)
    for around in (-1, 0, 1)
    if at + around >= 0
]


def header_with(*stanzas: Stanza) -> bytes:
    return encode_header(stanzas, FILE_KEY)


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


def test_recipients_are_all_of_one_kind() -> None:
    """A weaker recipient would undo what hybrid keys are chosen for; none is an error too."""
    with pytest.raises(FormatError, match="found hybrid and x25519"):
        Sealer([IDENTITY.recipient, generate_identity("hybrid").recipient])
    with pytest.raises(FormatError, match="found none"):
        Sealer([])


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_a_wrong_key_is_named_as_such(kind: KeyKind) -> None:
    """The message says that no key matches, and what to do."""
    sealed = seal([generate_identity(kind).recipient], b"not yours")
    for stranger in (generate_identity("hybrid"), IDENTITY, PassphraseIdentity("guess")):
        with pytest.raises(VerificationError, match="no match: none of 1 keys") as caught:
            open_whole(Opener([stranger]), sealed)
        assert "key of the call" in caught.value.hint


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


def test_a_fault_in_the_header_is_final() -> None:
    """A header cannot be continued behind a line that was refused."""
    opener = Opener([IDENTITY])
    with pytest.raises(FormatError, match=r"expected age-encryption.org/v1, found 'hello'"):
        opener.feed(b"hello\n")
    with pytest.raises(VerificationError, match="earlier fault"):
        opener.feed(seal([IDENTITY.recipient], b""))


def test_a_header_without_end_is_refused_in_bounded_memory() -> None:
    """Lines without end, and a line without an end, stop at the limit."""
    for filler in (b"x" * 1_000, b"grease\n\n-> " * 100):
        endless = b"age-encryption.org/v1\n-> " + filler * 200
        for piece_size in (1_000, 1 << 20):
            _, error = open_file(Opener([IDENTITY]), endless, piece_size=piece_size)
            assert isinstance(error, FormatError)
            assert f"larger than {MAX_HEADER_SIZE}" in str(error)


@pytest.mark.parametrize(
    ("stanza", "message"),
    [
        (Stanza("X25519", (), bytes(32)), "has 1 arguments, found 0"),
        (Stanza("X25519", ("AAAA",), bytes(32)), "has 32 bytes, found 3"),
        (Stanza("X25519", ("A" * 43,), bytes(33)), "has 32 bytes, found 33"),
        (Stanza("X25519", ("A" * 43,), bytes(32)), "low order"),
        (Stanza("X25519", ("AB",), bytes(32)), "not canonical"),
        (Stanza("X25519", ("A",), bytes(32)), "not base64"),
    ],
)
def test_a_malformed_stanza_is_refused_even_behind_one_that_opens(
    stanza: Stanza, message: str
) -> None:
    """All stanzas of a kind are checked before any is opened: one result for every reader."""
    good = IDENTITY.recipient.wrap(FILE_KEY)
    with pytest.raises(FormatError, match=message):
        Opener([IDENTITY]).feed(header_with(good, stanza) + bytes(16))


def test_unknown_stanzas_are_passed_over() -> None:
    """Whatever their words and however long their bodies."""
    grease = [Stanza("grease", ("!~", "x" * 80), bytes(size)) for size in (0, 47, 48, 49, 96)]
    header = header_with(*grease, IDENTITY.recipient.wrap(FILE_KEY))
    opener = Opener([IDENTITY])
    assert opener.feed(header + bytes(16)) == b""
    assert opener.file_key == FILE_KEY


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


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b"age-encryption.org/v2\n", "expected age-encryption.org/v1"),
        (b"age-encryption.org/v1\n--- \n", "expected a stanza"),
        (b"age-encryption.org/v1\n-> \n", "expected a stanza"),
        (b"age-encryption.org/v1\n-> a  b\n", "expected a stanza"),
        (b"age-encryption.org/v1\n-> a\r\n", "visible ASCII"),
        (b"age-encryption.org/v1\n-> a\n" + b"A" * 65 + b"\n", "at most 64 columns"),
        (b"age-encryption.org/v1\n-> a\n\xff\n", "not base64"),
        (b"age-encryption.org/v1\n-> a\nAA==\n", "not base64|canonical"),
        (b"age-encryption.org/v1\n-> a\n\nhello\n", "expected a stanza"),
        (b"age-encryption.org/v1\n-> a\n\n---\n", "expected '--- '"),
        (b"age-encryption.org/v1\n-> a\n\n--- AAAA\n", "the MAC has 32 bytes, found 3"),
        (
            b"age-encryption.org/v1\n-> a\n\n-> scrypt\n\n--- " + b"A" * 43 + b"\n",
            "must be the only stanza",
        ),
    ],
)
def test_a_malformed_header_is_refused_at_its_first_wrong_line(lines: bytes, message: str) -> None:
    """At once, also when it comes byte by byte, and before any payload is read."""
    for piece_size in (1, 1 << 20):
        released, error = open_file(Opener([IDENTITY]), lines, piece_size=piece_size)
        assert released == b""
        assert isinstance(error, FormatError)
        assert re.search(message, str(error))


def scrypt_stanza(factor: str, passphrase: bytes) -> Stanza:
    salt = b"0123456789abcdef"
    kdf = Scrypt(salt=b"age-encryption.org/v1/scrypt" + salt, length=32, n=2, r=8, p=1)
    body = ChaCha20Poly1305(kdf.derive(passphrase)).encrypt(bytes(12), FILE_KEY, None)
    return Stanza("scrypt", (encode_base64(salt), factor), body)


def test_a_passphrase_opens_its_own_file() -> None:
    """Stanzas of other kinds are passed over, other passphrases do not open it."""
    header = header_with(scrypt_stanza("1", b"open sesame")) + bytes(16)
    opener = Opener([PassphraseIdentity("wrong"), IDENTITY, PassphraseIdentity("open sesame")])
    opener.feed(header)
    assert opener.file_key == FILE_KEY
    with pytest.raises(VerificationError, match="no match"):
        Opener([PassphraseIdentity("open")]).feed(header)
    with pytest.raises(VerificationError, match="no match"):
        Opener([PassphraseIdentity("open")]).feed(seal([IDENTITY.recipient], b""))


@pytest.mark.parametrize("identities", [[IDENTITY], [IDENTITY, OTHER], [OTHER, IDENTITY]])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_an_envelope_opens_if_any_stanza_holds_its_key(
    identities: list[X25519Identity], *, is_reversed: bool
) -> None:
    """A wrong key that somebody wrapped for one of ours changes nothing, wherever it stands."""
    wrong = bytes(16)
    stanzas = [
        IDENTITY.recipient.wrap(wrong),
        OTHER.recipient.wrap(wrong),
        IDENTITY.recipient.wrap(FILE_KEY),
    ]
    header = header_with(*(stanzas[::-1] if is_reversed else stanzas)) + bytes(16)
    opener = Opener(identities)
    opener.feed(header)
    assert opener.file_key == FILE_KEY
    with pytest.raises(VerificationError, match="the MAC does not match"):
        Opener([OTHER]).feed(header)


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        ("21", "at most 20, found 21"),
        ("01", "no decimal"),
        ("0", "no decimal"),
        ("\u0661", "no decimal"),
    ],
)
def test_a_work_factor_is_a_plain_number_within_reason(factor: str, message: str) -> None:
    """The sender chooses it, and we would have to compute it."""
    stanza = Stanza("scrypt", (encode_base64(bytes(16)), factor), bytes(32))
    with pytest.raises(FormatError, match=message):
        next(PassphraseIdentity("x").file_keys([stanza]))


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
