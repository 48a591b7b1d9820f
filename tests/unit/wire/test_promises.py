"""Tickets, refusals, receipts, postmarks: typed promises over one proof text."""

from collections.abc import Callable

import pytest

from bistro.crypto.signing import VerifierKey
from bistro.errors import BistroError, FormatError, VerificationError
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.wire.checkpoint import Checkpoint
from bistro.wire.entry import ClosedEntry, OpeningEntry, TermsEntry
from bistro.wire.postmark import Postmark
from bistro.wire.receipt import Receipt
from bistro.wire.refusal import Refusal
from bistro.wire.ticket import Closed, Opening, TermsInForce, Ticket
from tests.support.promises import MemoryLedger
from tests.support.strategies import note_key
from tests.support.vectors import Vector, each_vector, load_vectors

ORIGIN = Origin("permits.example", "spring")


def _checked(parse: Callable[[bytes], Ticket | Refusal | Receipt], vector: Vector) -> Checkpoint:
    commitment = vector.hex("commitment")
    return parse(vector.data).verify(
        VerifierKey.parse(vector["vkey"]), vector["origin"], commitment
    )


@each_vector("ticket", "valid")
def test_a_valid_ticket_verifies(vector: Vector) -> None:
    """Also the one that the specification prints."""
    ticket = Ticket.parse(vector.data)
    assert _checked(Ticket.parse, vector).origin == vector["origin"]
    assert ticket.text().encode() == vector.data
    assert (ticket.time, ticket.index) == (vector["time"], vector["index"])
    assert ticket.effective_at == vector["effective_at"]


@each_vector("ticket", "invalid")
def test_an_invalid_ticket_is_refused_with_its_code(vector: Vector) -> None:
    """No other promise passes for a ticket."""
    with pytest.raises(BistroError) as caught:
        _checked(Ticket.parse, vector)
    assert caught.value.code == vector.code


@each_vector("refusal", "valid")
def test_a_valid_refusal_verifies(vector: Vector) -> None:
    """It names the call that refused, and why."""
    refusal = Refusal.parse(vector.data)
    _checked(Refusal.parse, vector)
    assert (refusal.reason, refusal.call_origin) == (vector["reason"], vector["origin"])
    assert refusal.text().encode() == vector.data


@each_vector("refusal", "invalid")
def test_an_invalid_refusal_is_refused_with_its_code(vector: Vector) -> None:
    """No other promise passes for a refusal."""
    with pytest.raises(BistroError) as caught:
        _checked(Refusal.parse, vector)
    assert caught.value.code == vector.code


@each_vector("receipt", "valid")
def test_a_valid_receipt_verifies(vector: Vector) -> None:
    """It names relay, call, fragment and time."""
    receipt = Receipt.parse(vector.data)
    _checked(Receipt.parse, vector)
    assert (receipt.relay, receipt.call_origin) == (vector["relay"], vector["origin"])
    assert (receipt.fragment_index, receipt.entry.size) == (vector["fragment"], vector["size"])
    assert receipt.entry.fragment_hash == vector.hex("fragment_hash")
    assert receipt.hold_until == vector["hold_until"]
    assert receipt.text().encode() == vector.data


@each_vector("receipt", "invalid")
def test_an_invalid_receipt_is_refused_with_its_code(vector: Vector) -> None:
    """No other promise, and no other relay's, passes for a receipt."""
    with pytest.raises(BistroError) as caught:
        _checked(Receipt.parse, vector)
    assert caught.value.code == vector.code


@each_vector("postmark", "valid")
def test_a_valid_postmark_verifies(vector: Vector) -> None:
    """It names relay and call."""
    postmark = Postmark.parse(vector.data)
    postmark.verify(VerifierKey.parse(vector["vkey"]), vector.hex("commitment"))
    assert (postmark.relay, postmark.call_origin) == (vector["relay"], vector["origin"])
    assert (postmark.time, postmark.index) == (vector["time"], vector["index"])


@each_vector("postmark", "invalid")
def test_an_invalid_postmark_is_refused_with_its_code(vector: Vector) -> None:
    """No other promise, and no other relay's, passes for a postmark."""
    with pytest.raises(BistroError) as caught:
        Postmark.parse(vector.data).verify(
            VerifierKey.parse(vector["vkey"]), vector.hex("commitment")
        )
    assert caught.value.code == vector.code


def test_the_log_proves_terms_closing_and_opening() -> None:
    """The three entries about a call itself are promises of the same log."""
    ledger = MemoryLedger(note_key(str(ORIGIN)))
    fields = {"origin": str(ORIGIN), "time": UnixMillis(5), "digest": bytes(32)}
    key = ledger.key.verifier.renamed("any-name.example")
    texts = [
        ledger.promise(kind(**fields))  # type: ignore[arg-type]
        for kind in (TermsEntry, ClosedEntry, OpeningEntry)
    ]
    assert TermsInForce.parse(texts[0]).verify(key, ORIGIN).size == 1
    assert Closed.parse(texts[1]).verify(key, ORIGIN, bytes(32)).size == 2
    assert Opening.parse(texts[2]).verify(key, str(ORIGIN)).size == 3
    with pytest.raises(FormatError, match="expected a closed entry, found opening"):
        Closed.parse(texts[2])


def test_a_ticket_verifies_under_its_own_commitment_when_none_is_expected() -> None:
    """A reader may ask for any commitment, never for any ledger."""
    vector = load_vectors("ticket", "valid")[0]
    ticket = Ticket.parse(vector.data)
    ticket.verify(VerifierKey.parse(vector["vkey"]), ORIGIN)
    with pytest.raises(VerificationError, match="expected ledger"):
        ticket.verify(VerifierKey.parse(vector["vkey"]), Origin("permits.example", "autumn"))
