"""The header of a submission and ``submission.bin``, the header with its filer's signature.

Source: docs/spec/filing.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from bistro.crypto.digest import HASH_SIZE, leaf_hash, sha256
from bistro.crypto.keys import KEY_SIZE, SIGNATURE_SIZE
from bistro.crypto.signing import verify_message
from bistro.errors import FormatError
from bistro.ids import COMMITMENT_SIZE, MAX_SLOT_LENGTH, require_slot
from bistro.wire import codec

Kind = Literal["submit", "amend", "withdraw"]

MAX_HEADER_SIZE: Final = 512
MAX_SIGNED_HEADER_SIZE: Final = 1_024
NONCE_SIZE: Final = 32
TOKEN_SIZE: Final = 32
NO_TOKEN: Final = bytes(TOKEN_SIZE)
"""Stands in the URL of an outcome for the token that nobody could make: no header was read."""
SIGNATURE_PREFIX: Final = b"bistro/header/v1\n"
_TOKEN_PREFIX: Final = b"bistro/status/v1\n"
_VERSION: Final = 1
_KINDS: Final[tuple[str, ...]] = get_args(Kind)
_LONGEST_KIND: Final = max(map(len, _KINDS))


def status_token(nonce: bytes) -> bytes:
    """The 32 bytes that open the private status of the submission with this header nonce."""
    return sha256(_TOKEN_PREFIX + nonce)


@dataclass(frozen=True, slots=True)
class Header:
    """What a filer signs: which filing, for which terms, in whose name.

    Attributes:
        terms_hash: The version of the terms that the filer read.
        manifest_sha256: SHA-256 of the encoded manifest.
        filer_key: Ed25519 public key, 32 bytes.
        slot: Which of the filer's submissions this is; the last one of a slot counts.
        kind: ``submit``, or ``amend`` or ``withdraw`` of ``previous``.
        previous: Commitment of an earlier submission; ``None`` exactly when it is a ``submit``.
        nonce: 32 random bytes that keep the commitment from being guessed.

    Raises:
        FormatError: A field is not what it must be.
    """

    terms_hash: bytes
    manifest_sha256: bytes
    filer_key: bytes
    slot: str
    kind: Kind
    previous: bytes | None
    nonce: bytes

    def __post_init__(self) -> None:
        """Refuse fields that no header holds."""
        require_slot(self.slot)
        if self.kind not in _KINDS:
            raise FormatError(f"header: expected one of {', '.join(_KINDS)}, found {self.kind!a}")
        if (self.kind == "submit") != (self.previous is None):
            expected = "no previous commitment" if self.kind == "submit" else "one"
            raise FormatError(
                f"header of kind {self.kind}: expected {expected}, "
                f"found {codec.describe(self.previous)}"
            )

    @classmethod
    def decode(cls, data: bytes) -> Header:
        """The header that ``data`` encodes.

        Raises:
            FormatError: It encodes none.
        """
        fields = codec.Reader("header", data, max_size=MAX_HEADER_SIZE)
        fields.constant(_VERSION)
        header = cls(
            terms_hash=fields.fixed(HASH_SIZE),
            manifest_sha256=fields.fixed(HASH_SIZE),
            filer_key=fields.fixed(KEY_SIZE),
            slot=fields.text(MAX_SLOT_LENGTH),
            kind=cast("Kind", fields.text(_LONGEST_KIND)),
            previous=fields.optional_fixed(COMMITMENT_SIZE),
            nonce=fields.fixed(NONCE_SIZE),
        )
        fields.end()
        return header

    def encode(self) -> bytes:
        """The one encoding of this header."""
        return codec.encode(
            [
                _VERSION,
                self.terms_hash,
                self.manifest_sha256,
                self.filer_key,
                self.slot,
                self.kind,
                self.previous,
                self.nonce,
            ]
        )

    @property
    def leaf(self) -> bytes:
        """The leaf hash that stands for the header in the commitment."""
        return leaf_hash(self.encode())

    @property
    def token(self) -> bytes:
        """What opens the private status of this submission."""
        return status_token(self.nonce)


@dataclass(frozen=True, slots=True)
class SignedHeader:
    r"""``submission.bin``: the first file of a filing.

    Attributes:
        header: What was signed.
        signature: The filer's signature over ``bistro/header/v1\n`` and the encoded header.
    """

    header: Header
    signature: bytes

    @classmethod
    def decode(cls, data: bytes) -> SignedHeader:
        """The signed header that ``data`` encodes; the signature is not verified.

        Raises:
            FormatError: It encodes none.
        """
        fields = codec.Reader("submission.bin", data, max_size=MAX_SIGNED_HEADER_SIZE)
        signed = cls(
            header=Header.decode(fields.blob(MAX_HEADER_SIZE)),
            signature=fields.fixed(SIGNATURE_SIZE),
        )
        fields.end()
        return signed

    def encode(self) -> bytes:
        """The one encoding of this signed header."""
        return codec.encode([self.header.encode(), self.signature])

    def verify(self) -> None:
        """Check that the holder of the header's filer key signed the header.

        Raises:
            VerificationError: The signature does not hold.
        """
        verify_message(
            self.header.filer_key, SIGNATURE_PREFIX, self.header.encode(), self.signature
        )
