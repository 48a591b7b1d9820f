"""What a relay checks before it takes the first byte of a fragment.

Source: docs/spec/staging.md, creation; docs/spec/fragments.md, claim.
"""

from __future__ import annotations

from bistro.errors import FormatError, VerificationError
from bistro.wire.claim import Claim
from bistro.wire.terms import Terms
from bistro.wire.ticket import Ticket


def verify_claim(claim: Claim, terms: Terms) -> None:
    """Check that a fragment belongs to a commitment with a ticket; costs one signature check.

    That descriptor, layout and path belong together is seen when the claim is decoded.

    Raises:
        VerificationError: The promise is no ticket of this call, or for another commitment, or
            the layout is not one that the terms allow.
    """
    try:
        ticket = Ticket.parse(claim.promise)
    except FormatError as exc:
        raise VerificationError(f"claim: its promise is no ticket: {exc.message}") from exc
    ticket.verify(terms.keys.log, claim.origin, claim.commitment)
    layout, spread = claim.layout, terms.spread
    if (layout.k, layout.n) != (spread.k, spread.n):
        raise VerificationError(
            f"claim: expected fragments of {spread.k} of {spread.n}, found {layout.k} of {layout.n}"
        )
    if layout.envelope_size > terms.envelope_limit:
        raise VerificationError(
            f"claim: expected an envelope of at most {terms.envelope_limit} bytes, "
            f"found {layout.envelope_size}"
        )


def require_length(claim: Claim, length: int) -> None:
    """Check what an upload announces.

    Raises:
        FormatError: It is not the size of the claimed fragment.
    """
    if length != claim.descriptor.size:
        raise FormatError(
            f"upload length: expected the descriptor's {claim.descriptor.size} bytes, "
            f"found {length}"
        )
