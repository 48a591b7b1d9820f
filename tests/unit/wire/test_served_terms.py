"""Terms as servers and relays hand them out: a note and the proof that belongs to it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import FormatError
from bistro.instant import UnixMillis
from bistro.wire.document import encode_json
from bistro.wire.entry import TermsEntry
from bistro.wire.served_terms import ServedTerms
from bistro.wire.terms import Terms, build
from bistro.wire.ticket import TermsInForce
from tests.support.promises import MemoryLedger
from tests.support.strategies import TERMS, corrupted, note_key


def served(terms: Terms, *, digest: bytes | None = None, origin: str | None = None) -> ServedTerms:
    """The terms with the proof of their entry in a ledger of one entry."""
    origin = str(terms.origin) if origin is None else origin
    entry = TermsEntry(
        origin=origin, time=UnixMillis(1), digest=terms.hash if digest is None else digest
    )
    proof = MemoryLedger(note_key(origin)).promise(entry)
    signed = build(terms, note_key(terms.origin.server))
    return ServedTerms(signed, TermsInForce.parse(proof))


@given(TERMS)
def test_decoding_undoes_encoding(terms: Terms) -> None:
    """Note and proof arrive verbatim, and still verify."""
    found = ServedTerms.decode(served(terms).encode())
    assert found.encode() == served(terms).encode()
    found.signed.verify(note_key(terms.origin.server).verifier)
    found.entry.verify(terms.keys.log, terms.origin, terms.hash)


@given(st.binary(max_size=100) | corrupted(TERMS.map(served).map(ServedTerms.encode)))
def test_any_bytes_are_served_terms_or_malformed(data: bytes) -> None:
    """No other error leaves the decoder."""
    with contextlib.suppress(FormatError):
        assert ServedTerms.decode(data).encode() == data


@given(TERMS)
def test_a_proof_of_other_terms_is_refused(terms: Terms) -> None:
    """The proof is about this version and this call."""
    for wrong in ({"digest": bytes(32)}, {"origin": "other.example/call"}):
        with pytest.raises(FormatError, match="proof of these terms"):
            served(terms, **wrong)


@given(TERMS)
def test_a_field_too_many_is_refused(terms: Terms) -> None:
    """New fields mean a new version."""
    parts = served(terms)
    with pytest.raises(FormatError, match="no further field"):
        ServedTerms.decode(
            encode_json(
                {
                    "proof": parts.entry.text(),
                    "terms": parts.signed.encode().decode(),
                    "x": 1,
                }
            )
        )
