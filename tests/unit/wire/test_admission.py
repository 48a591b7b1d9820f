"""Admissions: that a registered filer asks for a ticket."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import BistroError, FormatError, VerificationError
from bistro.wire.admission import Admission, Admitted
from tests.support.strategies import HASHES, SLOTS
from tests.support.vectors import Vector, each_vector

KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)


@each_vector("admission", "valid")
def test_an_admission_says_who_asks_for_what(vector: Vector) -> None:
    """Slot, hash and signature are those of the vector, and there is one encoding."""
    found = Admission.decode(vector.data)
    found.verify(commitment=vector.hex("commitment"), terms_hash=vector.hex("terms_hash"))
    assert found.slot == vector["slot"]
    assert found.hash == vector.hex("hash")
    assert found.encode() == vector.data
    signed = Admission.sign(
        KEY,
        commitment=vector.hex("commitment"),
        terms_hash=vector.hex("terms_hash"),
        slot=found.slot,
    )
    assert signed == found


@each_vector("admission", "invalid")
def test_a_bad_admission_is_refused_with_the_code_of_the_vector(vector: Vector) -> None:
    """Form is checked when it is decoded, the signature when it is verified."""
    with pytest.raises(BistroError) as raised:
        Admission.decode(vector.data).verify(
            commitment=vector.hex("commitment"), terms_hash=vector.hex("terms_hash")
        )
    assert raised.value.code == vector.code


@given(HASHES, HASHES, SLOTS, st.integers(0, 511))
def test_an_admission_is_good_for_one_commitment_only(
    commitment: bytes, terms_hash: bytes, slot: str, bit: int
) -> None:
    """A changed bit of commitment or terms hash takes the signature away."""
    made = Admission.sign(KEY, commitment=commitment, terms_hash=terms_hash, slot=slot)
    made.verify(commitment=commitment, terms_hash=terms_hash)
    both = int.from_bytes(commitment + terms_hash, "big") ^ (1 << bit)
    changed = both.to_bytes(64, "big")
    with pytest.raises(VerificationError):
        made.verify(commitment=changed[:32], terms_hash=changed[32:])


@given(HASHES, HASHES, SLOTS)
def test_what_is_kept_is_read_as_it_was_written(
    commitment: bytes, terms_hash: bytes, slot: str
) -> None:
    """The destination finds commitment, terms and filer again."""
    admission = Admission.sign(KEY, commitment=commitment, terms_hash=terms_hash, slot=slot)
    kept = Admitted(commitment, terms_hash, admission)
    assert Admitted.decode(kept.encode()) == kept
    kept.verify()
    with pytest.raises(FormatError):
        Admitted.decode(kept.encode() + b"\xc0")
