"""Headers and ``submission.bin``: what a filer signs."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given

from bistro.crypto.digest import sha256
from bistro.errors import BistroError, FormatError, VerificationError
from bistro.wire.header import Header, SignedHeader, status_token
from tests.support import strategies
from tests.support.vectors import Vector, each_vector


@each_vector("header", "valid")
def test_a_submission_tells_who_filed_what(vector: Vector) -> None:
    """The header, its leaf and the token of its status are those of the vector."""
    signed = SignedHeader.decode(vector.data)
    signed.verify()
    assert signed.encode() == vector.data
    assert signed.header.encode() == vector.hex("header")
    assert signed.header.leaf == vector.hex("leaf")
    assert signed.header.token == vector.hex("token")
    assert (signed.header.slot, signed.header.kind) == (vector["slot"], vector["kind"])


@each_vector("header", "invalid")
def test_a_bad_submission_is_refused_with_the_code_of_the_vector(vector: Vector) -> None:
    """Form is checked when it is decoded, the signature when it is verified."""
    with pytest.raises(BistroError) as raised:
        SignedHeader.decode(vector.data).verify()
    assert raised.value.code == vector.code


@given(strategies.SIGNED_HEADERS)
def test_a_signature_holds_for_its_header_only(signed: SignedHeader) -> None:
    """Nobody else's header passes under a filer's signature."""
    signed.verify()
    other = dataclasses.replace(signed.header, nonce=sha256(signed.header.nonce))
    with pytest.raises(VerificationError):
        dataclasses.replace(signed, header=other).verify()


def test_the_token_is_the_hash_of_prefix_and_nonce() -> None:
    """Whoever has the nonce can read the outcome, and nobody else."""
    assert status_token(bytes(32)) == sha256(b"bistro/status/v1\n" + bytes(32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "replace"}, "expected one of submit, amend, withdraw, found 'replace'"),
        ({"slot": ""}, "slot: expected"),
        ({"previous": bytes(32)}, "expected no previous commitment, found 32 bytes"),
        ({"kind": "amend"}, "header of kind amend: expected one, found nil"),
    ],
)
def test_a_header_that_contradicts_itself_is_not_made(
    changes: dict[str, Any], message: str
) -> None:
    """Mistakes are found where they are made, not at the destination."""
    header = Header(bytes(32), bytes(32), bytes(32), "main", "submit", None, bytes(32))
    with pytest.raises(FormatError) as raised:
        dataclasses.replace(header, **changes)
    assert message in raised.value.message
