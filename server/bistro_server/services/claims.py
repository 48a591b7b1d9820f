"""Verified claims: that a fragment belongs to a commitment with a ticket of this server.

Source: docs/spec/fragments.md, claim; docs/spec/staging.md, presenting receipts.
"""

from __future__ import annotations

from bistro.errors import BistroError, VerificationError
from bistro.instant import UnixMillis
from bistro.wire.claim import Claim
from bistro.wire.receipt import Receipt
from bistro.wire.ticket import Ticket
from bistro_server.services.calls import Call
from bistro_server.store.submissions import KnownFragment, Ticketed


def verify_claim(data: bytes, call: Call) -> tuple[Claim, Ticketed]:
    """The claim that ``data`` encodes and its ticket, once both are found good; takes CPU.

    Raises:
        FormatError: Not a claim, or no ticket in it.
        VerificationError: Another call, no ticket of its log, or not what the terms ask for.
    """
    claim = Claim.decode(data)
    if claim.origin != call.origin:
        raise VerificationError(f"claim: expected one for {call.origin}, found {claim.origin}")
    ticket = Ticket.parse(claim.promise)
    ticket.verify(call.log_key, call.origin, claim.commitment)
    terms, layout = call.terms, claim.layout
    if (layout.k, layout.n) != (terms.spread.k, terms.spread.n):
        raise VerificationError(
            f"claim: expected fragments {terms.spread.k} of {terms.spread.n}, "
            f"found {layout.k} of {layout.n}"
        )
    if layout.envelope_size > terms.envelope_limit:
        raise VerificationError(
            f"claim: expected an envelope of at most {terms.envelope_limit} bytes, "
            f"found {layout.envelope_size}"
        )
    return claim, Ticketed(
        commitment=claim.commitment, log_index=ticket.index, ticketed_at=ticket.effective_at
    )


def listed_fragment(
    claim: Claim, *, relay: str, hold_until: UnixMillis, seen_at: UnixMillis
) -> KnownFragment:
    """A fragment that a relay lists as staged, from its verified claim."""
    return _known(claim, relay=relay, receipt=None, dated_at=seen_at, hold_until=hold_until)


def receipted_fragment(claim: Claim, text: str, call: Call) -> KnownFragment:
    """A fragment that a relay gave a receipt for, once the receipt is found good; takes CPU.

    Args:
        claim: Verified.
        text: The receipt, a tlog-proof text.
        call: The call of the claim.

    Raises:
        FormatError: Not a receipt.
        VerificationError: Not by a relay of any version of the terms, or for another fragment.
    """
    receipt = Receipt.parse(text)
    _verify_relay(receipt, claim, call)
    descriptor, entry = claim.descriptor, receipt.entry
    expected = (descriptor.index, descriptor.size, descriptor.fragment_hash)
    found = (entry.index, entry.size, entry.fragment_hash)
    if expected != found:
        raise VerificationError(
            f"receipt: expected fragment {descriptor.index} of {descriptor.size} bytes with "
            f"the hash {descriptor.fragment_hash.hex()}, found fragment {entry.index} of "
            f"{entry.size} bytes with {entry.fragment_hash.hex()}"
        )
    return _known(
        claim,
        relay=receipt.relay,
        receipt=text,
        dated_at=receipt.time,
        hold_until=receipt.hold_until,
    )


def _verify_relay(receipt: Receipt, claim: Claim, call: Call) -> None:
    """Check the receipt with each key that some version gives its relay: one must hold."""
    failure: BistroError = VerificationError(
        f"receipt: expected one of a relay in the terms of {call.origin}, found {receipt.relay}"
    )
    for key in call.relay_keys(receipt.relay):
        try:
            receipt.verify(key, call.origin, claim.commitment)
        except VerificationError as exc:
            failure = exc
        else:
            return
    raise failure


def _known(
    claim: Claim, *, relay: str, receipt: str | None, dated_at: UnixMillis, hold_until: UnixMillis
) -> KnownFragment:
    return KnownFragment(
        index=claim.descriptor.index,
        relay=relay,
        claim=claim.encode(),
        layout=claim.layout.encode(),
        needed=claim.layout.k,
        header_leaf=claim.header_leaf,
        receipt=receipt,
        dated_at=dated_at,
        hold_until=hold_until,
    )
