"""Key files: what we write is standard, what we read is exactly that."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bistro.crypto import keyfile
from bistro.crypto.keyfile import MAX_KEY_FILE_SIZE
from bistro.crypto.signing import SigningKey
from bistro.errors import BistroError, FormatError, SettingsError, catalogue
from tests.support.vectors import Vector, each_vector


def public_of(vector: Vector) -> bytes:
    if vector["form"] == "note":
        return keyfile.decode_note_key(vector.data).verifier.public
    return keyfile.filer_public(keyfile.decode_filer_key(vector.data, vector["passphrase"]))


@each_vector("keyfile", "valid")
def test_key_files_of_other_programs_are_read(vector: Vector) -> None:
    """Written by openssl and by Go, among others."""
    assert public_of(vector) == vector.hex("public")


@each_vector("keyfile", "invalid")
def test_other_files_are_not_keys(vector: Vector) -> None:
    """Each with the code that the vector names: malformed, or the passphrase is at fault."""
    with pytest.raises(BistroError) as caught:
        public_of(vector)
    assert type(caught.value) is catalogue()[vector.code]


@pytest.mark.parametrize("passphrase", [None, "correct horse", "パスフレーズ"])
def test_a_filer_key_survives_its_file(passphrase: str | None) -> None:
    """With and without a passphrase, and any other PKCS#8 reader can open it."""
    key = keyfile.generate_filer_key()
    data = keyfile.encode_filer_key(key, passphrase)
    again = keyfile.decode_filer_key(data, passphrase)
    assert keyfile.filer_public(again) == keyfile.filer_public(key)
    foreign = load_pem_private_key(data, passphrase.encode() if passphrase else None)
    assert isinstance(foreign, Ed25519PrivateKey)
    assert (b"ENCRYPTED" in data) is (passphrase is not None)


@pytest.mark.parametrize("passphrase", ["", "\ud800"])
def test_a_passphrase_that_cannot_be_typed_again_is_refused(passphrase: str) -> None:
    """Before a key is locked away under it."""
    with pytest.raises(SettingsError):
        keyfile.encode_filer_key(keyfile.generate_filer_key(), passphrase)


def test_a_note_key_survives_its_file() -> None:
    """One line, as Go's tools write and read it."""
    key = SigningKey.generate("tenders.example.org/roof")
    data = keyfile.encode_note_key(key)
    assert data.endswith(b"\n")
    assert keyfile.decode_note_key(data).format() == key.format()


def test_a_note_key_file_is_text() -> None:
    """Anything else gives our error."""
    with pytest.raises(FormatError):
        keyfile.decode_note_key(b"PRIVATE+KEY+\xff\n")


def test_a_large_file_is_no_key() -> None:
    """A wrong path to a large file is noticed before anything is parsed."""
    for decode in (keyfile.decode_filer_key, keyfile.decode_note_key):
        with pytest.raises(FormatError, match="at most"):
            decode(bytes(MAX_KEY_FILE_SIZE + 1))
