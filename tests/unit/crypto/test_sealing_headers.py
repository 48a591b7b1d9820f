"""Headers of envelopes: strict to the letter, bounded, and who their stanzas are for."""

from __future__ import annotations

import re

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from bistro.crypto.age.header import MAX_HEADER_SIZE, encode_header
from bistro.crypto.age.stanza import Stanza, encode_base64
from bistro.crypto.sealing import (
    KEY_KINDS,
    KeyKind,
    Opener,
    PassphraseIdentity,
    Sealer,
    X25519Identity,
    generate_identity,
)
from bistro.errors import FormatError, VerificationError
from tests.support.age_files import FILE_KEY, IDENTITY, OTHER, open_file, open_whole, seal


def header_with(*stanzas: Stanza) -> bytes:
    return encode_header(stanzas, FILE_KEY)


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
