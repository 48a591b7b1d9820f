"""The X25519 recipient type: any version of age opens what is sealed for it.

Source: C2SP age specification, "The X25519 recipient type"; RFC 7748.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from bistro.crypto.age import bech32
from bistro.crypto.age.header import derive_key
from bistro.crypto.age.stanza import Stanza, encode_base64
from bistro.errors import FormatError

_STANZA_KIND = "X25519"
_INFO = b"age-encryption.org/v1/X25519"
_KEY_SIZE = 32
_ZERO_NONCE = bytes(12)


@dataclass(frozen=True)
class X25519Recipient:
    """A public key, ``age1…``."""

    kind: ClassVar[str] = "x25519"
    prefix: ClassVar[str] = "age"
    public: bytes

    @classmethod
    def parse(cls, text: str) -> X25519Recipient:
        """Read ``age1…``.

        Raises:
            FormatError: Not 32 bytes in Bech32, or a point of low order, which would give
                every sender the same secret.
        """
        public = bech32.decode(cls.prefix, text)
        if len(public) != _KEY_SIZE:
            raise FormatError(f"recipient: expected {_KEY_SIZE} bytes, found {len(public)}")
        require_contributory(public, what="recipient")
        return cls(public)

    def format(self) -> str:
        """``age1…``."""
        return bech32.encode(self.prefix, self.public)

    def wrap(self, file_key: bytes) -> Stanza:
        """A stanza that only this recipient opens, with a fresh ephemeral key."""
        ephemeral = X25519PrivateKey.generate()
        share = ephemeral.public_key().public_bytes_raw()
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(self.public))
        wrap_key = derive_key(shared, salt=share + self.public, info=_INFO)
        body = ChaCha20Poly1305(wrap_key).encrypt(_ZERO_NONCE, file_key, None)
        return Stanza(_STANZA_KIND, (encode_base64(share),), body)


@dataclass(frozen=True)
class X25519Identity:
    """A secret key, ``AGE-SECRET-KEY-1…``."""

    kind: ClassVar[str] = "x25519"
    prefix: ClassVar[str] = "AGE-SECRET-KEY-"
    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> X25519Identity:
        """A new key from the operating system's randomness."""
        return cls(X25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def parse(cls, text: str) -> X25519Identity:
        """Read ``AGE-SECRET-KEY-1…``.

        Raises:
            FormatError: Not 32 bytes in upper-case Bech32.
        """
        secret = bech32.decode(cls.prefix, text)
        if len(secret) != _KEY_SIZE:
            raise FormatError(f"identity: expected {_KEY_SIZE} bytes, found {len(secret)}")
        return cls(secret)

    def format(self) -> str:
        """``AGE-SECRET-KEY-1…``: a secret."""
        return bech32.encode(self.prefix, self.secret)

    @cached_property
    def recipient(self) -> X25519Recipient:
        """The public key that belongs to this secret one."""
        return X25519Recipient(self._key.public_key().public_bytes_raw())

    def file_keys(self, stanzas: Sequence[Stanza]) -> Iterator[bytes]:
        """What the stanzas for this key hold; the header's MAC tells which is the file key.

        Raises:
            FormatError: Any X25519 stanza is malformed, or its share is of low order.
        """
        bodies = [(_share_of(s), s.body) for s in stanzas if s.kind == _STANZA_KIND]
        for share, body in bodies:
            shared = self._key.exchange(X25519PublicKey.from_public_bytes(share))
            wrap_key = derive_key(shared, salt=share + self.recipient.public, info=_INFO)
            try:
                file_key = ChaCha20Poly1305(wrap_key).decrypt(_ZERO_NONCE, body, None)
            except InvalidTag:
                continue  # wrapped for somebody else
            yield file_key

    @cached_property
    def _key(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(self.secret)


def require_contributory(point: bytes, *, what: str) -> None:
    """Check that ``point`` is not of low order: a secret shared with it is not all zero.

    Every scalar is a multiple of 8 after clamping, so any one of them shows it.

    Raises:
        FormatError: The point is of low order.
    """
    try:
        X25519PrivateKey.from_private_bytes(bytes(_KEY_SIZE)).exchange(
            X25519PublicKey.from_public_bytes(point)
        )
    except ValueError as exc:
        raise FormatError(f"{what}: a point of low order is no key") from exc


def _share_of(stanza: Stanza) -> bytes:
    stanza.require_shape(argument_count=1)
    share = stanza.fixed_argument(0, size=_KEY_SIZE)
    require_contributory(share, what="age header: the share of an X25519 stanza")
    return share
