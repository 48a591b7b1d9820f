"""Ed25519 keys with names: the vkeys that readers pin, and the private keys behind them.

A key's id binds its name, so the same key under two names is two keys to a reader of notes.

Source: docs/spec/encodings.md; C2SP signed-note; RFC 8032.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bistro.crypto.digest import sha256
from bistro.errors import FormatError, VerificationError

KEY_SIZE = 32
KEY_ID_SIZE = 4
SIGNATURE_SIZE = 64
MAX_NAME_SIZE = 1_024

_ED25519 = b"\x01"
_KEY_ID = re.compile(r"[0-9a-f]{8}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PRIVATE = "PRIVATE+KEY+"

# Points of order 1 to 8, without the sign bit, the last two beyond the field's size. For such a
# key anybody can make signatures that hold, for any message, so they would bind nobody.
_SMALL_ORDER = frozenset(
    bytes.fromhex(point)
    for point in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)


def require_key_name(name: str) -> None:
    """Refuse what may not name a key.

    Raises:
        FormatError: Empty, longer than ``MAX_NAME_SIZE`` bytes, or holding a space, a plus or a
            control character.
    """
    if not name or "+" in name or any(char.isspace() for char in name) or _CONTROL.search(name):
        raise FormatError(f"key name {name!r}: expected no space, plus or control character")
    try:
        size = len(name.encode())
    except UnicodeEncodeError as exc:
        raise FormatError(f"key name {name!r}: not UTF-8") from exc
    if size > MAX_NAME_SIZE:
        raise FormatError(f"key name: expected at most {MAX_NAME_SIZE} bytes, found {size}")


def decode_base64(what: str, text: str) -> bytes:
    """Bytes from their one standard, padded base64 text.

    Raises:
        FormatError: Another alphabet, line breaks, missing padding, or bits that must be zero.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as exc:
        raise FormatError(f"{what}: not base64") from exc
    if base64.b64encode(data).decode() != text:
        raise FormatError(f"{what}: not the canonical base64 of its bytes")
    return data


def _key_id(name: str, public: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + _ED25519 + public)[:KEY_ID_SIZE]


def _parse_key(what: str, text: str) -> tuple[str, bytes, bytes]:
    """Name, key id and 32 key bytes of ``<name>+<8 hex>+<base64(0x01 ‖ key)>``."""
    parts = text.split("+", 2)  # base64 may hold a plus, a name may not
    if len(parts) != 3 or not _KEY_ID.fullmatch(parts[1]):  # noqa: PLR2004
        raise FormatError(f"{what}: expected <name>+<8 hex digits>+<base64>")
    name, key_id, encoded = parts
    require_key_name(name)
    data = decode_base64(what, encoded)
    if data[:1] != _ED25519 or len(data) != 1 + KEY_SIZE:
        raise FormatError(f"{what}: expected an Ed25519 key of {KEY_SIZE} bytes")
    return name, bytes.fromhex(key_id), data[1:]


def is_of_small_order(public: bytes) -> bool:
    """Whether anybody can make signatures that hold under this key of 32 bytes."""
    return public[:-1] + bytes([public[-1] & 0x7F]) in _SMALL_ORDER


def verify_signature(public: bytes, message: bytes, signature: bytes, *, who: str) -> None:
    """Check an Ed25519 signature over exactly ``message``.

    Args:
        public: The key, 32 bytes.
        message: What was signed.
        signature: 64 bytes.
        who: Whose signature it is, for the error message.

    Raises:
        VerificationError: It does not hold, or it or the key has another size, or the key is of
            small order.
    """
    if len(public) != KEY_SIZE:
        raise VerificationError(f"key of {who}: expected {KEY_SIZE} bytes, found {len(public)}")
    if is_of_small_order(public):
        raise VerificationError(f"the key of {who} is of small order: its signatures bind nobody")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as exc:
        raise VerificationError(f"the signature of {who} does not hold") from exc


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A name with a public key: what a reader of notes trusts.

    Attributes:
        name: Whose key it is.
        public: Ed25519 public key, 32 bytes.
    """

    name: str
    public: bytes

    def __post_init__(self) -> None:
        """Refuse what no vkey text could hold."""
        require_key_name(self.name)
        if len(self.public) != KEY_SIZE:
            raise FormatError(f"public key: expected {KEY_SIZE} bytes, found {len(self.public)}")

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read a vkey, ``<name>+<key id>+<base64(0x01 ‖ public)>``.

        Raises:
            FormatError: Not a vkey, or its key id is not that of name and key.
        """
        name, key_id, public = _parse_key("verifier key", text)
        key = cls(name, public)
        if key.key_id != key_id:
            raise FormatError(
                f"verifier key: expected key id {key.key_id.hex()}, found {key_id.hex()}"
            )
        return key

    def format(self) -> str:
        """The vkey text."""
        encoded = base64.b64encode(_ED25519 + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that, with the name, tell signatures apart; no protection by itself."""
        return _key_id(self.name, self.public)

    def renamed(self, name: str) -> VerifierKey:
        """The same public key under another name, with that name's key id."""
        return VerifierKey(name, self.public)

    def fingerprint(self) -> str:
        """128 bits of the vkey's hash for people to compare: ``3f2a 91c0 …``, eight groups."""
        digits = sha256(self.format().encode()).hex()
        return " ".join(digits[at : at + 4] for at in range(0, 32, 4))

    def verify(self, message: bytes, signature: bytes) -> None:
        """Check this key's signature over exactly ``message``.

        Raises:
            VerificationError: It does not hold.
        """
        verify_signature(self.public, message, signature, who=self.name)


class SigningKey:
    """A name with a private key; never shows the private part but in ``format``.

    Args:
        name: Whose key it is.
        private: The Ed25519 private key.
    """

    __slots__ = ("_private", "verifier")

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.verifier = VerifierKey(name, private.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        """The public part only: this may end in a log."""
        return f"SigningKey({self.verifier.format()})"

    @classmethod
    def generate(cls, name: str) -> SigningKey:
        """A new key from the operating system's randomness."""
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """Read Go's note key, ``PRIVATE+KEY+<name>+<key id>+<base64(0x01 ‖ seed)>``.

        Raises:
            FormatError: Not such a key, or its key id is not that of name and key.
        """
        marker, rest = text[: len(_PRIVATE)], text[len(_PRIVATE) :]
        if marker != _PRIVATE:
            raise FormatError(f"signing key: expected it to begin with {_PRIVATE}")
        name, key_id, seed = _parse_key("signing key", rest)
        key = cls(name, Ed25519PrivateKey.from_private_bytes(seed))
        if key.verifier.key_id != key_id:
            raise FormatError(
                f"signing key: expected key id {key.verifier.key_id.hex()}, found {key_id.hex()}"
            )
        return key

    def format(self) -> str:
        """The private key's text, for a file of mode 0600 only."""
        encoded = base64.b64encode(_ED25519 + self._private.private_bytes_raw()).decode()
        return f"{_PRIVATE}{self.verifier.name}+{self.verifier.key_id.hex()}+{encoded}"

    def renamed(self, name: str) -> SigningKey:
        """The same private key under another name."""
        return SigningKey(name, self._private)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature over exactly ``message``."""
        return self._private.sign(message)
