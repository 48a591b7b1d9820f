"""Private keys as the bytes of a file: filers' keys in PEM, note keys as Go writes them.

Nothing here touches the disk; whoever saves these bytes gives the file mode 0600.

Source: docs/spec/encodings.md; RFC 5958, RFC 8410; C2SP signed-note.
"""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bistro.crypto.digest import sha256
from bistro.crypto.keys import SigningKey
from bistro.errors import FormatError, SettingsError

MAX_KEY_FILE_SIZE = 16_384

_PEM_BEGIN = (b"-----BEGIN PRIVATE KEY-----\n", b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")


def generate_filer_key() -> Ed25519PrivateKey:
    """A new filer key from the operating system's randomness."""
    return Ed25519PrivateKey.generate()


def filer_public(key: Ed25519PrivateKey) -> bytes:
    """The public part, 32 bytes: what a header names."""
    return key.public_key().public_bytes_raw()


def filer_fingerprint(public: bytes) -> str:
    """What people compare of a filer's public key: 128 bits of its hash, in groups of four."""
    digits = sha256(public).hex()
    return " ".join(digits[at : at + 4] for at in range(0, 32, 4))


def encode_filer_key(key: Ed25519PrivateKey, passphrase: str | None = None) -> bytes:
    """The PKCS#8 PEM file of a filer key, encrypted if a passphrase is given.

    Raises:
        SettingsError: The passphrase is empty.
    """
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(_passphrase_bytes(passphrase))
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def decode_filer_key(data: bytes, passphrase: str | None = None) -> Ed25519PrivateKey:
    """The filer key of a PKCS#8 PEM file.

    Args:
        data: The whole file.
        passphrase: Needed if the file is encrypted, and only then.

    Raises:
        FormatError: Not such a file, or a key of another kind.
        SettingsError: The passphrase is missing, not wanted or wrong.
    """
    _require_size("key file", data)
    if not data.startswith(_PEM_BEGIN):
        raise FormatError("key file: expected a PKCS#8 private key in PEM")
    secret = None
    if data.startswith(_PEM_BEGIN[1]):
        if passphrase is None:
            raise SettingsError(
                "the key file is encrypted", hint="give the passphrase of the key file"
            )
        secret = _passphrase_bytes(passphrase)
    elif passphrase is not None:
        raise SettingsError(
            "the key file is not encrypted", hint="leave the passphrase out, or check the file"
        )
    try:
        key = serialization.load_pem_private_key(data, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        if secret is not None:
            raise SettingsError(
                "the key file cannot be decrypted", hint="check the passphrase, then the file"
            ) from exc
        raise FormatError("key file: not a private key in PKCS#8") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise FormatError(f"key file: expected an Ed25519 key, found {type(key).__name__}")
    return key


def encode_note_key(key: SigningKey) -> bytes:
    """The file of a note key: its one line."""
    return key.format().encode() + b"\n"


def decode_note_key(data: bytes) -> SigningKey:
    """The note key of a file with exactly one line.

    Raises:
        FormatError: Not such a file.
    """
    _require_size("note key file", data)
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise FormatError("note key file: not UTF-8") from exc
    if not text.endswith("\n"):
        raise FormatError("note key file: expected one line with a line feed")
    return SigningKey.parse(text[:-1])


def _passphrase_bytes(passphrase: str) -> bytes:
    if not passphrase:
        raise SettingsError("the passphrase is empty", hint="give one, or leave the option out")
    try:
        return passphrase.encode()
    except UnicodeEncodeError as exc:
        raise SettingsError("the passphrase is not UTF-8", hint="give another one") from exc


def _require_size(what: str, data: bytes) -> None:
    if len(data) > MAX_KEY_FILE_SIZE:
        raise FormatError(f"{what}: expected at most {MAX_KEY_FILE_SIZE} bytes, found {len(data)}")
