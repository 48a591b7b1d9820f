"""What strangers send in header fields and claims is read strictly, or refused as malformed."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import BistroError, FormatError, VerificationError
from bistro.wire.claim import Claim
from bistro_relay.http.upload_fields import ALGORITHMS, parse_checksum, parse_claim
from bistro_relay.services.claims import Checkpoints, require_length, verify_claim
from tests.support.paper import PaperCall, Sealed
from tests.support.strategies import CLAIMS, corrupted

CALL = PaperCall()
CLAIM = CALL.claim(Sealed(1))
FIELDS = st.text(st.characters(codec="latin-1"), max_size=200)


@given(FIELDS)
def test_any_metadata_is_a_claim_or_malformed(field: str) -> None:
    """No other error leaves the parser, whatever a header holds."""
    try:
        parse_claim(field)
    except FormatError:
        return


@given(st.binary(min_size=1, max_size=4_608))
def test_a_claim_in_metadata_is_read_back(data: bytes) -> None:
    """One key, canonical base64, nothing else."""
    field = f"claim {base64.b64encode(data).decode()}"
    assert parse_claim(field) == data
    for wrong in (field + " ", field + ",x", "Claim" + field[5:], field + ",claim AAAA"):
        with pytest.raises(FormatError):
            parse_claim(wrong)


@given(FIELDS)
def test_any_checksum_is_one_or_malformed(field: str) -> None:
    """Algorithms that are not offered are refused, not ignored."""
    try:
        found = parse_checksum(field)
    except FormatError:
        return
    assert found is not None
    assert len(found.value) == ALGORITHMS[found.algorithm]


def test_no_checksum_is_none() -> None:
    """The field is optional."""
    assert parse_checksum(None) is None
    assert parse_checksum(f"sha1 {base64.b64encode(bytes(20)).decode()}") is not None


def check(data: bytes) -> None:
    """What creation does with a claim."""
    claim = Claim.decode(data)
    verify_claim(claim, CALL.terms, Checkpoints())
    require_length(claim, claim.descriptor.size)


def test_a_good_claim_is_taken() -> None:
    """The one that the others are made from."""
    check(CLAIM.encode())


@given(corrupted(st.just(CLAIM.encode())))
def test_a_changed_claim_never_passes(data: bytes) -> None:
    """One byte changed, put in or left out: refused, and with an error of ours."""
    if data == CLAIM.encode():
        return
    with pytest.raises(BistroError):
        check(data)


@given(CLAIMS)
def test_claims_of_others_never_pass(claim: Claim) -> None:
    """Well-formed claims that no ticket of the call stands behind."""
    with pytest.raises(VerificationError):
        verify_claim(replace(claim, origin=CALL.origin), CALL.terms, Checkpoints())


@given(st.binary(max_size=300))
def test_noise_is_malformed(data: bytes) -> None:
    """Bytes that are no claim."""
    with pytest.raises(FormatError):
        check(data)


@given(st.integers(0, 2**40))
def test_the_length_is_the_descriptors(length: int) -> None:
    """An upload announces what the claim says."""
    if length == CLAIM.descriptor.size:
        return
    with pytest.raises(FormatError):
        require_length(CLAIM, length)
