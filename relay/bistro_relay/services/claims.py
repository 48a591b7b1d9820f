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
from bistro.crypto.keys import decode_base64
from bistro.crypto.merkle import verify_inclusion
from bistro.crypto.signing import VerifierKey
from bistro.errors import FormatError, LimitExceededError, VerificationError
from bistro.ids import Origin
from bistro.protocol.deadline import may_stage
from bistro.wire.checkpoint import Checkpoint
from bistro.wire.claim import Claim
from bistro.wire.entry import decode_entry
from bistro.wire.lines import parse_base64_hash, parse_decimal
from bistro.wire.proof import MAGIC
from bistro.wire.terms import Terms
from bistro.wire.ticket import Ticket
from bistro_relay.services.ledgers import CustodyLedgers
from bistro_relay.services.orders import StandingOrders
from bistro_relay.services.takedowns import Takedowns
from bistro_relay.services.terms_book import TermsBook
from bistro_relay.store.destinations import Destination

_KNOWN: Final = 1_024
_EXTRA: Final = "extra "
_INDEX: Final = "index "

_Known = tuple[bytes, Origin, str]
"""A public key, the ledger that it speaks for, and a signed note."""


class Checkpoints:
    """Verified checkpoints: the latest of them need no second look at their signatures."""

    def __init__(self) -> None:
        self._known: OrderedDict[_Known, Checkpoint] = OrderedDict()

    def verify(self, claim: Claim, key: VerifierKey) -> None:
        """Check that a claim's promise is a ticket for its commitment, signed by its call's log.

        Raises:
            VerificationError: It is not.
        """
        head, _, note = claim.promise.partition("\n\n")
        known = key.public, claim.origin, note
        checkpoint = self._known.get(known)
        if checkpoint is not None and _is_covered(claim, head, checkpoint):
            return
        # Not known, or something is wrong: the whole look, which says what.
        try:
            ticket = Ticket.parse(claim.promise)
        except FormatError as exc:
            raise VerificationError(f"claim: its promise is no ticket: {exc.message}") from exc
        self._known[known] = ticket.verify(key, claim.origin, claim.commitment)
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)


def _is_covered(claim: Claim, head: str, checkpoint: Checkpoint) -> bool:
    """Whether the lines before a note prove a ticket for the claim in a known checkpoint."""
    magic, extra, index, *lines = (*head.split("\n"), "", "")
    if magic != MAGIC or not extra.startswith(_EXTRA) or not index.startswith(_INDEX):
        return False
    try:
        data = decode_base64("proof extra", extra.removeprefix(_EXTRA))
        entry = decode_entry(data)
        if not isinstance(entry, Ticket.ENTRIES):
            return False
        verify_inclusion(
            leaf=leaf_hash(data),
            index=parse_decimal("proof index", index.removeprefix(_INDEX)),
            size=checkpoint.size,
            path=[parse_base64_hash("proof path", line) for line in lines[:-2]],
            root=checkpoint.root,
        )
    except (FormatError, VerificationError):
        return False
    return entry.origin == str(claim.origin) and entry.digest == claim.commitment


def verify_claim(claim: Claim, terms: Terms, checkpoints: Checkpoints) -> None:
    """Check that a fragment belongs to a commitment with a ticket; at most one signature check.

    That descriptor, layout and path belong together is seen when the claim is decoded.

    Raises:
        VerificationError: The promise is no ticket of this call, or for another commitment, or
            the layout is not one that the terms allow.
    """
    checkpoints.verify(claim, terms.keys.log)
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
        orders: May say that nothing new is taken.
        takedowns: What is not taken again.
        clock: Tells whether it is too late.
        limits: What is taken at most.

    Attributes:
        limits: As given.
    """

    def __init__(
        self,
        book: TermsBook,
        ledgers: CustodyLedgers,
        orders: StandingOrders,
        takedowns: Takedowns,
        clock: Clock,
        limits: IntakeLimits,
    ) -> None:
        self.limits = limits
        self._orders = orders
        self._takedowns = takedowns
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
            RefusedError: The fragment was taken down.
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

    def recall(self, data: bytes) -> Examined | None:
        """A claim that was found good before; None where its call is not served any more."""
        claim = Claim.decode(data)
        served = self._book.find(claim.origin)
        if served is None:
            return None
        destination = self._book.require_destination(claim.origin.server)
        return Examined(claim, data, served.signed.terms, destination)

    def _examine(
        self, claim: Claim, data: bytes, terms: Terms, destination: Destination, length: int
    ) -> Examined:
        verify_claim(claim, terms, self._checkpoints)
        require_length(claim, length)
        self.require_allowed(claim.origin, claim.commitment, claim.descriptor.index)
        if length > self.limits.fragment_bytes:
            raise LimitExceededError(
                f"fragment: expected at most {self.limits.fragment_bytes} bytes, found {length}"
            )
        return Examined(claim, data, terms, destination)

    def require_allowed(self, origin: Origin, commitment: bytes, index: int) -> None:
        """Check that a fragment was not taken down, also while it was on its way.

        Raises:
            RefusedError: It was.
        """
        self._takedowns.require_allowed(origin, commitment, index)

    def require_open(self, examined: Examined) -> int | None:
        """Check that a new fragment may be staged now; the quota of its destination.

        Raises:
            DeadlinePassedError: ``repair_by`` has passed.
            UnavailableError: No receipt could be given now, or the relay is draining.
        """
        self._orders.require_taking()
        now = self._clock.now()
        if not examined.terms.opens <= now <= examined.terms.repair_by:
            may_stage(now, examined.terms, repair=True).require()
        self._ledgers.require_running()
        return examined.destination.quota_bytes or self.limits.quota_bytes
