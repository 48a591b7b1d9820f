"""What a relay checks before it takes the first byte of a fragment.

Checkpoints whose signatures were found good are remembered: many tickets share one.

Source: docs/spec/staging.md, creation; docs/spec/fragments.md, claim.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from bistro.clock import Clock
from bistro.crypto.digest import leaf_hash
from bistro.crypto.merkle import verify_inclusion
from bistro.crypto.signing import VerifierKey
from bistro.errors import FormatError, LimitExceededError, VerificationError
from bistro.ids import Origin
from bistro.protocol.deadline import may_stage
from bistro.wire.checkpoint import Checkpoint
from bistro.wire.claim import Claim
from bistro.wire.proof import Proof
from bistro.wire.terms import Terms
from bistro.wire.ticket import Ticket
from bistro_relay.services.ledgers import CustodyLedgers
from bistro_relay.services.terms_book import TermsBook
from bistro_relay.store.destinations import Destination

_KNOWN: Final = 1_024

_Known = tuple[bytes, Origin, bytes]
"""A public key, the ledger that it speaks for, and a signed note."""


class Checkpoints:
    """Verified checkpoints: the latest of them need no second look at their signatures."""

    def __init__(self) -> None:
        self._known: OrderedDict[_Known, Checkpoint] = OrderedDict()

    def verify(self, claim: Claim, ticket: Ticket, key: VerifierKey) -> None:
        """Check that a ticket is one of the claim's call and commitment, signed by its log.

        Raises:
            VerificationError: It is not.
        """
        known = key.public, claim.origin, ticket.proof.checkpoint_note
        checkpoint = self._known.get(known)
        if (
            checkpoint is None
            or ticket.origin != str(claim.origin)
            or ticket.commitment != claim.commitment
        ):
            checkpoint = ticket.verify(key, claim.origin, claim.commitment)
            self._known[known] = checkpoint
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        else:
            _verify_covered(ticket.proof, checkpoint)


def _verify_covered(proof: Proof, checkpoint: Checkpoint) -> None:
    verify_inclusion(
        leaf=leaf_hash(proof.entry or b""),
        index=proof.index,
        size=checkpoint.size,
        path=proof.path,
        root=checkpoint.root,
    )


def verify_claim(claim: Claim, terms: Terms, checkpoints: Checkpoints) -> None:
    """Check that a fragment belongs to a commitment with a ticket; at most one signature check.

    That descriptor, layout and path belong together is seen when the claim is decoded.

    Raises:
        VerificationError: The promise is no ticket of this call, or for another commitment, or
            the layout is not one that the terms allow.
    """
    try:
        ticket = Ticket.parse(claim.promise)
    except FormatError as exc:
        raise VerificationError(f"claim: its promise is no ticket: {exc.message}") from exc
    checkpoints.verify(claim, ticket, terms.keys.log)
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


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    """What is taken at most.

    Attributes:
        fragment_bytes: Of one fragment.
        quota_bytes: For a destination without a quota of its own.
    """

    fragment_bytes: int
    quota_bytes: int | None


@dataclass(frozen=True, slots=True)
class Examined:
    """A claim that holds.

    Attributes:
        claim: It.
        encoded: As it came.
        terms: The latest of its call.
        destination: Whose call it is.
    """

    claim: Claim
    encoded: bytes
    terms: Terms
    destination: Destination


class ClaimDesk:
    """Looks at claims.

    Args:
        book: Knows terms.
        ledgers: Must be able to promise.
        clock: Tells whether it is too late.
        limits: What is taken at most.

    Attributes:
        limits: As given.
    """

    def __init__(
        self, book: TermsBook, ledgers: CustodyLedgers, clock: Clock, limits: IntakeLimits
    ) -> None:
        self.limits = limits
        self._book = book
        self._ledgers = ledgers
        self._clock = clock
        self._checkpoints = Checkpoints()

    async def examine(self, data: bytes, *, length: int) -> Examined:
        """The claim, if it holds; its call's terms are fetched if they are not known.

        Args:
            data: The encoded claim.
            length: The size that the upload announces.

        Raises:
            FormatError: No claim, or another length than it says.
            NotRegisteredError: The destination is not served here.
            UnknownObjectError: It has no such call.
            VerificationError: The claim does not hold.
            LimitExceededError: The fragment is larger than what is taken here.
            UnavailableError: Terms cannot be fetched.
        """
        claim = Claim.decode(data)
        destination = self._book.require_destination(claim.origin.server)
        terms = await self._book.require(claim.origin)
        return self._examine(claim, data, terms, destination, length)

    def examine_known(self, data: bytes, *, length: int) -> Examined | None:
        """As ``examine``; None where terms would have to be fetched."""
        claim = Claim.decode(data)
        destination = self._book.require_destination(claim.origin.server)
        served = self._book.find(claim.origin)
        if served is None:
            return None
        return self._examine(claim, data, served.signed.terms, destination, length)

    def _examine(
        self, claim: Claim, data: bytes, terms: Terms, destination: Destination, length: int
    ) -> Examined:
        verify_claim(claim, terms, self._checkpoints)
        require_length(claim, length)
        if length > self.limits.fragment_bytes:
            raise LimitExceededError(
                f"fragment: expected at most {self.limits.fragment_bytes} bytes, found {length}"
            )
        return Examined(claim, data, terms, destination)

    def require_open(self, examined: Examined) -> int | None:
        """Check that a new fragment may be staged now; the quota of its destination.

        Raises:
            DeadlinePassedError: ``repair_by`` has passed.
            UnavailableError: No receipt could be given now.
        """
        may_stage(self._clock.now(), examined.terms, repair=True).require()
        self._ledgers.require_running()
        return examined.destination.quota_bytes or self.limits.quota_bytes
