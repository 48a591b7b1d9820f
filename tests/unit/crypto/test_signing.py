"""Notes, vkeys and messages: strict forms, and signatures that others can check."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto import keys, signing
from bistro.crypto.keys import MAX_NAME_SIZE, decode_base64
from bistro.crypto.signing import (
    MAX_NOTE_SIZE,
    LocalSigner,
    Note,
    Signature,
    Signer,
    SigningKey,
    VerifierKey,
)
from bistro.errors import BistroError, FormatError, LimitExceededError, VerificationError, catalogue
from tests.support.vectors import Vector, each_vector

LOG = SigningKey("tenders.example.org/roof", Ed25519PrivateKey.from_private_bytes(bytes(32)))
OTHER = SigningKey("witness.example.net", Ed25519PrivateKey.from_private_bytes(b"1" * 32))
TEXT = b"tenders.example.org/roof\n3\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"

names = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="+"),
    min_size=1,
    max_size=40,
)
texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n"), max_size=200
).map(lambda text: text.encode() + b"\n")
signatures = st.builds(
    Signature, names, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80)
)
notes = st.builds(Note, texts, st.lists(signatures, min_size=1, max_size=5, unique=True).map(tuple))


def mutations(data: bytes) -> st.SearchStrategy[bytes]:
    """``data`` with a few bytes replaced by a short string."""
    at = st.integers(0, len(data))
    junk = st.sampled_from([b"", b"\n", b" ", b"\r", b"=", b"A", b"\xe2\x80\x94 ", b"\xff"])
    return st.tuples(at, st.integers(0, 3), junk).map(
        lambda drawn: data[: drawn[0]] + drawn[2] + data[drawn[0] + drawn[1] :]
    )


def vkeys(vector: Vector, field: str) -> list[VerifierKey]:
    return [VerifierKey.parse(text) for text in vector[field]]


# --- vectors


@each_vector("vkey", "valid")
def test_a_vkey_is_a_name_and_a_key(vector: Vector) -> None:
    """Parsing gives what the text says, formatting gives the text back."""
    key = VerifierKey.parse(vector.data.decode())
    assert (key.name, key.key_id, key.public) == (
        vector["key_name"],
        vector.hex("key_id"),
        vector.hex("public"),
    )
    assert key.format().encode() == vector.data
    assert key.fingerprint() == vector["fingerprint"]


@each_vector("vkey", "invalid")
def test_a_vkey_has_one_form(vector: Vector) -> None:
    """Each with the code that the vector names."""
    with pytest.raises(FormatError) as caught:
        VerifierKey.parse(vector.data.decode())
    assert caught.value.code == vector.code


@each_vector("note", "valid")
def test_notes_verify_with_the_keys_that_signed(vector: Vector) -> None:
    """Unknown keys are ignored; among them are notes that other programs published."""
    note = Note.parse(vector.data)
    assert note.text == vector.hex("text")
    assert note.encode() == vector.data
    assert signing.verify_note(note, *vkeys(vector, "keys")) == set(vkeys(vector, "verified"))


@each_vector("note", "invalid")
def test_false_notes_are_refused(vector: Vector) -> None:
    """Each with the code that the vector names: malformed, or signed by nobody known."""
    with pytest.raises(BistroError) as caught:
        signing.verify_note(Note.parse(vector.data), *vkeys(vector, "keys"))
    assert type(caught.value) is catalogue()[vector.code]


# --- properties


@given(notes)
def test_decoding_a_note_undoes_encoding(note: Note) -> None:
    """Whatever a note holds, its bytes say exactly that."""
    assert Note.parse(note.encode()) == note


@given(st.binary(max_size=200) | notes.map(Note.encode).flatmap(mutations))
def test_any_bytes_are_one_note_or_malformed(data: bytes) -> None:
    """What parses at all encodes to the very same bytes."""
    try:
        note = Note.parse(data)
    except FormatError:
        return
    assert note.encode() == data


@given(text=texts, bit=st.integers(0, 7), data=st.data())
def test_a_note_with_any_bit_flipped_does_not_verify(
    text: bytes, bit: int, data: st.DataObject
) -> None:
    """No bit of text, key name, key id or signature is free."""
    signed = signing.sign_note(text, LOG)
    at = data.draw(st.integers(0, len(signed) - 1))
    flipped = signed[:at] + bytes([signed[at] ^ 1 << bit]) + signed[at + 1 :]
    with pytest.raises((FormatError, VerificationError)):
        signing.verify_note(Note.parse(flipped), LOG.verifier)


@given(name=names, seed=st.binary(min_size=32, max_size=32))
def test_keys_survive_their_texts(name: str, seed: bytes) -> None:
    """Private and public texts say exactly what the keys are."""
    key = SigningKey(name, Ed25519PrivateKey.from_private_bytes(seed))
    again = SigningKey.parse(key.format())
    assert again.format() == key.format()
    assert again.verifier == key.verifier == VerifierKey.parse(key.verifier.format())


@given(st.text(max_size=60) | st.text("+0123456789abcdefAQ=/ ", max_size=60))
def test_any_text_is_one_vkey_or_malformed(text: str) -> None:
    """What parses at all formats to the very same text."""
    try:
        key = VerifierKey.parse(text)
    except FormatError:
        return
    assert key.format() == text


# --- independent checks


@given(texts)
def test_a_note_holds_for_a_reader_that_shares_no_code(text: bytes) -> None:
    """Taken apart by hand and checked with the bare Ed25519 of another library's interface."""
    signed = signing.sign_note(text, LOG, OTHER)
    body, _, lines = signed.rpartition(b"\n\n")
    for line, key in zip(lines.decode().splitlines(), (LOG, OTHER), strict=True):
        dash, name, encoded = line.split(" ")
        blob = base64.b64decode(encoded)
        public = key.verifier.public
        assert (dash, name) == ("—", key.verifier.name)
        assert blob[:4] == hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]
        Ed25519PublicKey.from_public_bytes(public).verify(blob[4:], body + b"\n")


def test_a_signature_line_joins_what_a_signer_returned() -> None:
    """A log signs through an interface and writes the line itself."""
    line = signing.signature_line(LOG.verifier, LOG.sign(TEXT))
    assert TEXT + b"\n" + line == signing.sign_note(TEXT, LOG)


async def test_a_local_signer_signs_a_batch_in_order() -> None:
    """The interface that a file key shares with a security module."""
    signer: Signer = LocalSigner(LOG)
    values = await signer.sign([b"one", b"two"])
    assert signer.verifier == LOG.verifier
    assert values == [LOG.sign(b"one"), LOG.sign(b"two")]


# --- keys


def test_the_same_key_under_another_name_is_another_key_to_readers() -> None:
    """The key id binds the name, the signature is the same."""
    renamed = LOG.renamed("tenders.example.org/roof/refusals")
    assert renamed.verifier == LOG.verifier.renamed("tenders.example.org/roof/refusals")
    assert renamed.verifier.public == LOG.verifier.public
    assert renamed.verifier.key_id != LOG.verifier.key_id
    with pytest.raises(VerificationError):
        signing.verify_note(Note.parse(signing.sign_note(TEXT, renamed)), LOG.verifier)


def test_a_private_key_is_not_shown_by_accident() -> None:
    """What ends in a log or a traceback is the public part."""
    assert LOG.format() not in f"{LOG} {LOG!r}"
    assert LOG.verifier.format() in repr(LOG)


def test_new_keys_differ() -> None:
    """Generated keys come from the system's randomness and sign at once."""
    one, two = SigningKey.generate("a.example"), SigningKey.generate("a.example")
    assert one.verifier.public != two.verifier.public
    one.verifier.verify(TEXT, one.sign(TEXT))


def test_two_keys_that_cannot_be_told_apart_are_refused() -> None:
    """Key ids are short; a collision must not decide which key counts."""

    class Colliding(VerifierKey):
        @property
        def key_id(self) -> bytes:
            return LOG.verifier.key_id

    collision = Colliding(LOG.verifier.name, OTHER.verifier.public)
    note = Note.parse(signing.sign_note(TEXT, LOG))
    with pytest.raises(VerificationError, match="share"):
        signing.verify_note(note, LOG.verifier, collision)


def test_naming_a_key_twice_changes_nothing() -> None:
    """Terms may name one key in two places."""
    note = Note.parse(signing.sign_note(TEXT, LOG))
    assert signing.verify_note(note, LOG.verifier, LOG.verifier) == {LOG.verifier}


def test_without_keys_nothing_is_verified() -> None:
    """A caller that forgot its keys learns so."""
    with pytest.raises(VerificationError):
        signing.verify_note(Note.parse(signing.sign_note(TEXT, LOG)))


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\x7fb", "\ud800", "é" * 513])
def test_a_name_that_no_note_could_carry_is_refused(name: str) -> None:
    """Names are checked where keys are made, not when somebody fails to read them."""
    with pytest.raises(FormatError):
        VerifierKey(name, bytes(32))
    assert len("é".encode()) * 513 > MAX_NAME_SIZE


def test_a_public_key_has_32_bytes() -> None:
    """Other sizes are other algorithms."""
    with pytest.raises(FormatError):
        VerifierKey("a.example", bytes(31))


def test_a_bad_public_key_verifies_nothing() -> None:
    """Bytes that are no point of the curve give our error, not another library's."""
    for public in (b"\xff" * 32, b"\x02" + bytes(31)):
        with pytest.raises(VerificationError):
            VerifierKey("a.example", public).verify(TEXT, LOG.sign(TEXT))


@pytest.mark.parametrize("sign", [0x00, 0x80])
@pytest.mark.parametrize("public", sorted(keys._SMALL_ORDER), ids=bytes.hex)
def test_a_key_that_binds_nobody_is_refused(public: bytes, sign: int) -> None:
    """One signature that anybody can write down holds for every message under a weak key.

    Among so many messages each weak key has one that it holds for; none passes here.
    """
    base_point = b"\x58" + b"\x66" * 31
    signature = base_point + b"\x01" + bytes(31)
    weak = public[:31] + bytes([public[31] | sign])
    held = 0
    for number in range(200):
        message = str(number).encode()
        try:
            Ed25519PublicKey.from_public_bytes(weak).verify(signature, message)
            held += 1
        except InvalidSignature:
            pass
        with pytest.raises(VerificationError, match="small order"):
            VerifierKey("a.example", weak).verify(message, signature)
    assert held or sign


def test_base64_is_checked_for_its_one_form() -> None:
    """Other modules read base64 through this too."""
    assert decode_base64("hash", "AAE=") == b"\x00\x01"
    for text in ("AAE", "AAF=", "AAE=\n", "AA E=", "AA-_", "é===", "\ud800"):
        with pytest.raises(FormatError):
            decode_base64("hash", text)


# --- notes


@pytest.mark.parametrize("text", [b"", b"no line feed", b"a\rb\n", b"\xff\n", b"a\x00\n"])
def test_text_that_no_reader_accepts_is_not_signed(text: bytes) -> None:
    """A signer refuses what every verifier would refuse."""
    with pytest.raises(FormatError):
        signing.sign_note(text, LOG)


def test_a_note_has_a_signature() -> None:
    """Unsigned text is not a note."""
    with pytest.raises(FormatError):
        signing.sign_note(TEXT)


def test_a_signature_has_a_key_id_and_a_value() -> None:
    """Signers cannot build a line that readers refuse."""
    for key_id, value in ((b"abc", b"x"), (b"abcd", b"")):
        with pytest.raises(FormatError):
            Signature("a.example", key_id, value)


def test_a_note_has_a_limit() -> None:
    """Up to a million bytes, refused before anything is parsed."""
    text = b"x" * (MAX_NOTE_SIZE - len(signing.sign_note(b"\n", LOG))) + b"\n"
    note = Note.parse(signing.sign_note(text, LOG))
    assert signing.verify_note(note, LOG.verifier) == {LOG.verifier}
    with pytest.raises(LimitExceededError):
        Note.parse(signing.sign_note(b"x" + text, LOG))


# --- messages


def test_a_message_signature_belongs_to_one_domain() -> None:
    """What was signed as a header is never taken for an admission."""
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    public = private.public_key().public_bytes_raw()
    value = signing.sign_message(private, b"bistro/header/v1\n", b"body")
    signing.verify_message(public, b"bistro/header/v1\n", b"body", value)
    private.public_key().verify(value, b"bistro/header/v1\nbody")
    for prefix, body in ((b"bistro/admission/v1\n", b"body"), (b"bistro/header/v1\n", b"bod")):
        with pytest.raises(VerificationError) as caught:
            signing.verify_message(public, prefix, body, value)
        assert isinstance(caught.value.__cause__, InvalidSignature)


def test_a_message_key_has_32_bytes() -> None:
    """A header's key comes from outside: any size gives our error."""
    for public in (b"", bytes(31), bytes(33)):
        with pytest.raises(VerificationError):
            signing.verify_message(public, b"bistro/header/v1\n", b"body", bytes(64))


@pytest.mark.parametrize("prefix", [b"", b"bistro/header/v1", b"bistro/header/v1\n\n", b"x/h/v1\n"])
def test_a_domain_has_a_fixed_form(prefix: bytes) -> None:
    """No prefix is the beginning of another one."""
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    with pytest.raises(ValueError, match="prefix"):
        signing.sign_message(private, prefix, b"body")
    with pytest.raises(ValueError, match="prefix"):
        signing.verify_message(bytes(32), prefix, b"body", bytes(64))
