"""The hybrid recipient type: ML-KEM-768 and X25519 (X-Wing), safe while either holds.

HPKE comes from ``cryptography``; ours are the key text, the expansion of the 32-byte seed
and the shape of the stanza.

Source: C2SP age specification, "The MLKEM768-X25519 … recipient type"; RFC 9180;
draft-ietf-hpke-pq-03.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from bistro.crypto.age import bech32
from bistro.crypto.age.stanza import Stanza, encode_base64
from bistro.crypto.age.x25519 import require_contributory
from bistro.errors import FormatError

_STANZA_KIND = "mlkem768x25519"
_INFO = b"age-encryption.org/mlkem768x25519"
_SEED_SIZE = 32
_MLKEM_SEED_SIZE = 64
_MLKEM_PUBLIC_SIZE = 1_184
_MLKEM_SHARE_SIZE = 1_088
_POINT_SIZE = 32
_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


@dataclass(frozen=True)
class HybridRecipient:
    """A public key, ``age1pq1…``: 1,184 bytes of ML-KEM-768, 32 of X25519."""

    kind: ClassVar[str] = "hybrid"
    prefix: ClassVar[str] = "age1pq"
    public: bytes

    @classmethod
    def parse(cls, text: str) -> HybridRecipient:
        """Read ``age1pq1…``.

        Raises:
            FormatError: Not 1,216 bytes in Bech32, or one of its two keys is not a key.
        """
        public = bech32.decode(cls.prefix, text)
        expected = _MLKEM_PUBLIC_SIZE + _POINT_SIZE
        if len(public) != expected:
            raise FormatError(f"recipient: expected {expected} bytes, found {len(public)}")
        require_contributory(public[_MLKEM_PUBLIC_SIZE:], what="recipient")
        _key_of(public)
        return cls(public)

    def format(self) -> str:
        """``age1pq1…``, 1,959 characters."""
        return bech32.encode(self.prefix, self.public)

    def wrap(self, file_key: bytes) -> Stanza:
        """A stanza that only this recipient opens, with a fresh encapsulation."""
        sealed = _SUITE.encrypt(file_key, _key_of(self.public), info=_INFO)
        share_size = _MLKEM_SHARE_SIZE + _POINT_SIZE
        return Stanza(_STANZA_KIND, (encode_base64(sealed[:share_size]),), sealed[share_size:])


@dataclass(frozen=True)
class HybridIdentity:
    """A secret key, ``AGE-SECRET-KEY-PQ-1…``: a seed from which both secret keys follow."""

    kind: ClassVar[str] = "hybrid"
    prefix: ClassVar[str] = "AGE-SECRET-KEY-PQ-"
    seed: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> HybridIdentity:
        """A new key from the operating system's randomness."""
        return cls(ChaCha20Poly1305.generate_key())  # 32 random bytes, exactly a seed

    @classmethod
    def parse(cls, text: str) -> HybridIdentity:
        """Read ``AGE-SECRET-KEY-PQ-1…``.

        Raises:
            FormatError: Not 32 bytes in upper-case Bech32.
        """
        seed = bech32.decode(cls.prefix, text)
        if len(seed) != _SEED_SIZE:
            raise FormatError(f"identity: expected {_SEED_SIZE} bytes, found {len(seed)}")
        return cls(seed)

    def format(self) -> str:
        """``AGE-SECRET-KEY-PQ-1…``: a secret."""
        return bech32.encode(self.prefix, self.seed)

    @cached_property
    def recipient(self) -> HybridRecipient:
        """The public key that belongs to this seed."""
        lattice, curve = self._keys
        return HybridRecipient(
            lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
        )

    def file_keys(self, stanzas: Sequence[Stanza]) -> Iterator[bytes]:
        """What the stanzas for this key hold; the header's MAC tells which is the file key.

        Raises:
            FormatError: Any mlkem768x25519 stanza is malformed, or the X25519 part of its
                share is of low order.
        """
        key = hpke.MLKEM768X25519PrivateKey(*self._keys)
        sealed = [_share_of(s) + s.body for s in stanzas if s.kind == _STANZA_KIND]
        for candidate in sealed:
            try:
                file_key = _SUITE.decrypt(candidate, key, info=_INFO)
            except InvalidTag:
                continue  # wrapped for somebody else
            yield file_key

    @cached_property
    def _keys(self) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        expanded = hashlib.shake_256(self.seed).digest(_MLKEM_SEED_SIZE + _POINT_SIZE)
        return (
            MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_SIZE]),
            X25519PrivateKey.from_private_bytes(expanded[_MLKEM_SEED_SIZE:]),
        )


def _key_of(public: bytes) -> hpke.MLKEM768X25519PublicKey:
    try:
        lattice = MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC_SIZE])
    except ValueError as exc:
        raise FormatError("recipient: its first part is no ML-KEM-768 key") from exc
    curve = X25519PublicKey.from_public_bytes(public[_MLKEM_PUBLIC_SIZE:])
    return hpke.MLKEM768X25519PublicKey(lattice, curve)


def _share_of(stanza: Stanza) -> bytes:
    stanza.require_shape(argument_count=1)
    share = stanza.fixed_argument(0, size=_MLKEM_SHARE_SIZE + _POINT_SIZE)
    point = share[_MLKEM_SHARE_SIZE:]
    require_contributory(point, what=f"age header: the share of an {_STANZA_KIND} stanza")
    return share
