"""Admissions: that a registered filer asks for the ticket of a commitment, signed.

Source: docs/spec/admission.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bistro.crypto.digest import HASH_SIZE, sha256
from bistro.crypto.keyfile import filer_public
from bistro.crypto.keys import KEY_SIZE, SIGNATURE_SIZE
from bistro.crypto.signing import sign_message, verify_message
from bistro.ids import COMMITMENT_SIZE, MAX_SLOT_LENGTH, require_slot
from bistro.wire import codec

SIGNATURE_PREFIX: Final = b"bistro/admission/v1\n"
MAX_ADMISSION_SIZE: Final = 256
MAX_KEPT_SIZE: Final = 512
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Admission:
    r"""That a filer asks for a ticket; what decodes is not verified.

    Attributes:
        filer_key: Ed25519 public key, 32 bytes.
        slot: Which of the filer's submissions it is.
        signature: 64 bytes over ``bistro/admission/v1\n``, commitment, terms hash and slot.
    """

    filer_key: bytes
    slot: str
    signature: bytes

    def __post_init__(self) -> None:
        """Refuse a slot that is none."""
        require_slot(self.slot)

    @classmethod
    def sign(
        cls, private: Ed25519PrivateKey, *, commitment: bytes, terms_hash: bytes, slot: str
    ) -> Self:
        """The admission of the filer who has this key."""
        require_slot(slot)
        signature = sign_message(private, SIGNATURE_PREFIX, _body(commitment, terms_hash, slot))
        return cls(filer_public(private), slot, signature)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The admission that ``data`` is the one encoding of.

        Raises:
            FormatError: It encodes none.
        """
        return cls.read(codec.Reader("admission", data, max_size=MAX_ADMISSION_SIZE))

    @classmethod
    def read(cls, fields: codec.Reader) -> Self:
        """The admission that an array describes, or ``FormatError``."""
        admission = cls(
            filer_key=fields.fixed(KEY_SIZE),
            slot=fields.text(MAX_SLOT_LENGTH),
            signature=fields.fixed(SIGNATURE_SIZE),
        )
        fields.end()
        return admission

    def value(self) -> codec.Value:
        """The array that describes this admission."""
        return [self.filer_key, self.slot, self.signature]

    def encode(self) -> bytes:
        """The one encoding of this admission."""
        return codec.encode(self.value())

    @property
    def hash(self) -> bytes:
        """What the ticket's entry names: SHA-256 of the encoding."""
        return sha256(self.encode())

    def verify(self, *, commitment: bytes, terms_hash: bytes) -> None:
        """Check that the holder of the key asks for this commitment under these terms.

        Takes about 0.1 ms of CPU, without the interpreter's lock.

        Raises:
            VerificationError: The signature does not hold.
        """
        body = _body(commitment, terms_hash, self.slot)
        verify_message(self.filer_key, SIGNATURE_PREFIX, body, self.signature)


def _body(commitment: bytes, terms_hash: bytes, slot: str) -> bytes:
    # Two fields of fixed size, then text: no two triples make the same bytes.
    return commitment + terms_hash + slot.encode("ascii")


@dataclass(frozen=True, slots=True)
class Admitted:
    """An admission and what it is for, as the destination keeps it."""

    commitment: bytes
    terms_hash: bytes
    admission: Admission

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """What ``data`` is the one encoding of.

        Raises:
            FormatError: It encodes none.
        """
        fields = codec.Reader("kept admission", data, max_size=MAX_KEPT_SIZE)
        fields.constant(_VERSION)
        kept = cls(
            commitment=fields.fixed(COMMITMENT_SIZE),
            terms_hash=fields.fixed(HASH_SIZE),
            admission=Admission.read(fields.nested("admission")),
        )
        fields.end()
        return kept

    def encode(self) -> bytes:
        """The one encoding."""
        return codec.encode([_VERSION, self.commitment, self.terms_hash, self.admission.value()])

    def verify(self) -> None:
        """As ``Admission.verify`` with what it is for."""
        self.admission.verify(commitment=self.commitment, terms_hash=self.terms_hash)
