"""Checks of the promises in evidence: ticket, refusal, receipts, closing and opening.

Source: docs/spec/evidence.md, checks 3, 7 and 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, pairwise
from typing import Final

from bistro.errors import VerificationError
from bistro.instant import MAX_INSTANT, UnixMillis, format_duration, format_rfc3339
from bistro.protocol.deadline import is_on_time, latest_on_time, may_open
from bistro.protocol.evidence_case import Case
from bistro.protocol.findings import Findings
from bistro.wire.checkpoint import Checkpoint
from bistro.wire.entry import PostmarkedEntry
from bistro.wire.postmark import PostmarkBundle
from bistro.wire.receipt import Hold, Receipt
from bistro.wire.refusal import Refusal
from bistro.wire.terms import Terms
from bistro.wire.ticket import Closed, Opening, TermsInForce, Ticket

HOLD_MARGIN_MS: Final = 7 * 86_400_000
"""How long after ``repair_by`` a relay must promise to hold."""

TERMS_DELAY_MS: Final = 60_000
"""How long a relay may take to honour a new version of the terms."""

LogPromise = Ticket | TermsInForce | Closed | Opening


@dataclass(frozen=True, slots=True)
class Seen:
    """A promise of the call's log and the checkpoint that covers it, both verified."""

    part: str
    promise: LogPromise
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class LogPromises:
    """What a file shows of the call's log; None where it is absent or does not hold."""

    ticket: Seen | None
    closed: Seen | None
    opening: Seen | None
    terms: tuple[Seen, ...]

    def __iter__(self) -> Iterator[Seen]:
        """All that is there, in no special order."""
        yield from self.terms
        yield from (one for one in (self.ticket, self.closed, self.opening) if one is not None)


def check_log(case: Case, findings: Findings) -> LogPromises:
    """Check everything that comes from the call's log, also against each other."""
    ticket = closed = opening = None
    evidence = case.evidence
    with findings.checking("ticket"):
        if evidence.ticket is not None:
            ticket = _check_ticket(case, evidence.ticket, findings)
    with findings.checking("closed"):
        if evidence.closed is not None:
            closed = _check_closed(case, evidence.closed, findings)
    with findings.checking("opening"):
        if evidence.opening is not None:
            opening = _check_opening(case, evidence.opening, findings)
    terms = tuple(_seen(case, "terms", version.proof) for version in case.versions)
    promises = LogPromises(ticket, closed, opening, terms)
    with findings.checking("log"):
        _check_coherence(promises)
        if opening is not None:
            require_last(opening, promises)
    return promises


def _seen(case: Case, part: str, promise: LogPromise, commitment: bytes | None = None) -> Seen:
    checkpoint = promise.verify(case.log_key, case.evidence.origin, commitment)
    return Seen(part, promise, checkpoint)


def _check_ticket(case: Case, text: str, findings: Findings) -> Seen:
    ticket = Ticket.parse(text)
    seen = _seen(case, "ticket", ticket, case.commitment)
    if isinstance(ticket.entry, PostmarkedEntry):
        raise VerificationError(
            "the ticket rests on postmarks, which this version of bistro cannot check"
        )
    terms = case.in_force(ticket.index)
    if ticket.time < terms.opens:
        raise VerificationError(
            f"the ticket is of {format_rfc3339(ticket.time)}, before the call opened "
            f"at {format_rfc3339(terms.opens)}"
        )
    if not is_on_time(ticket.time, terms):
        raise VerificationError(
            f"the ticket is of {format_rfc3339(ticket.time)}, after the last moment "
            f"{format_rfc3339(latest_on_time(terms))}"
        )
    if ticket.time <= terms.closes:
        margin = f"{format_duration(terms.closes - ticket.time)} before the deadline"
    else:
        margin = f"within the grace after the deadline {format_rfc3339(terms.closes)}"
    findings.ok(
        "ticket",
        f"The commitment arrived {format_rfc3339(ticket.time)}, on time: {margin}. It is entry "
        f"{ticket.index} of the log.",
        by=case.destination,
    )
    return seen


def _check_closed(case: Case, text: str, findings: Findings) -> Seen:
    closed = Closed.parse(text)
    seen = _seen(case, "closed", closed)
    terms = case.in_force(closed.index)
    _require_terms(closed, terms)
    # So a ticket after it is late, unless later terms reopened the log: times never decrease.
    if is_on_time(closed.time, terms):
        raise VerificationError(
            f"the call was closed {format_rfc3339(closed.time)}, not after its last moment "
            f"{format_rfc3339(latest_on_time(terms))}"
        )
    findings.ok(
        "closed",
        f"The call closed {format_rfc3339(closed.time)}; that is entry {closed.index} of the log.",
        by=case.destination,
    )
    return seen


def _check_opening(case: Case, text: str, findings: Findings) -> Seen:
    opening = Opening.parse(text)
    seen = _seen(case, "opening", opening)
    terms = case.in_force(opening.index)
    _require_terms(opening, terms)
    # What was staged and collected by then the file does not show: that may only delay it.
    ruling = may_open(opening.time, terms, is_closed=True, unstaged_count=0, uncollected_count=0)
    if not ruling.allowed:
        raise VerificationError(
            f"opening began {format_rfc3339(opening.time)}, before the terms allow it: "
            f"{ruling.reason}"
        )
    findings.ok(
        "opening",
        f"Opening began {format_rfc3339(opening.time)}, not before the terms allow; it is "
        f"entry {opening.index} of the log, after which nothing is admitted.",
        by=case.destination,
    )
    return seen


def _require_terms(promise: Closed | Opening, terms: Terms) -> None:
    if promise.commitment != terms.hash:
        raise VerificationError(
            f"it names terms {promise.commitment.hex()}, but the last version before it in "
            f"this file is {terms.hash.hex()}"
        )


def _check_coherence(promises: LogPromises) -> None:
    """One log has one entry an index, times that never decrease, one root a size."""
    ordered = sorted(promises, key=lambda seen: seen.promise.index)
    for first, second in pairwise(ordered):
        if first.promise.index == second.promise.index:
            raise VerificationError(
                f"{first.part} and {second.part} are both entry {first.promise.index} of the log"
            )
        if first.promise.time > second.promise.time:
            raise VerificationError(
                f"entry {second.promise.index} ({second.part}) is earlier than entry "
                f"{first.promise.index} ({first.part})"
            )
    for first, second in combinations(promises, 2):
        require_same_log(first.checkpoint, second.checkpoint)


def require_same_log(first: Checkpoint, second: Checkpoint) -> None:
    """Raise where two checkpoints of one size differ: their signer keeps two logs."""
    if first.size == second.size and first.root != second.root:
        raise VerificationError(
            f"two signed checkpoints of {first.size} entries have different roots: the "
            f"keeper of {first.origin} shows different logs to different people"
        )


def require_last(opening: Seen, promises: Iterable[Seen]) -> None:
    """Raise where one of ``promises`` shows that the log goes on after its opening entry."""
    last = opening.promise.index
    for seen in promises:
        if seen.promise.index > last or seen.checkpoint.size > last + 1:
            raise VerificationError(
                f"the log goes on after the opening entry {last}, which must be its last"
            )


def check_refusal(case: Case, text: str, findings: Findings) -> None:
    """Check a refusal: proof that an attempt was made and turned away."""
    refusal = Refusal.parse(text)
    refusal.verify(case.log_key, case.evidence.origin, case.commitment)
    terms = case.in_force_at(refusal.time)
    attempt = f"This commitment was presented {format_rfc3339(refusal.time)} and refused"
    if refusal.reason != "deadline-passed":
        why = f" ({refusal.reason})."
    elif is_on_time(refusal.time, terms):
        why = (
            " as too late, although by the terms in this file the last moment was "
            f"{format_rfc3339(latest_on_time(terms))}: the refusal contradicts them."
        )
    else:
        why = f" as too late: the last moment was {format_rfc3339(latest_on_time(terms))}."
    findings.ok("refusal", attempt + why, by=case.destination)


def check_receipts(case: Case, findings: Findings, *, now: UnixMillis | None) -> None:
    """Check every receipt and what prolongs it, and whether they make the submission staged."""
    receipts: list[Receipt] = []
    for text in case.evidence.receipts:
        with findings.checking("receipts"):
            receipts.append(_check_receipt(case, text, findings, now=now))
    for text in case.evidence.held:
        with findings.checking("held"):
            _check_hold(case, text, receipts, findings)
    if not receipts:
        return
    k, stage_by = case.cut.layout.k, case.latest.stage_by
    in_time = {one.fragment_index for one in receipts if one.time <= stage_by}
    until = format_rfc3339(stage_by)
    if len(in_time) >= k:
        findings.ok(
            "staging",
            f"By {until} relays had promised to hold {len(in_time)} fragments, of which any {k} "
            "restore the envelope. That the destination knew of them in time is for its status "
            "to say.",
            by=", ".join(sorted({f"relay {one.relay}" for one in receipts})),
        )
    else:
        findings.absent(
            "staging",
            f"By {until} the receipts show {len(in_time)} of the {k} fragments that restore the "
            "envelope: by themselves they do not show that the submission was staged.",
        )


def _check_receipt(case: Case, text: str, findings: Findings, *, now: UnixMillis | None) -> Receipt:
    receipt = Receipt.parse(text)
    relay = case.relay(
        receipt.relay, lambda key: receipt.verify(key, case.evidence.origin, case.commitment)
    )
    entry = receipt.entry
    fits = [
        one.index == entry.index
        and one.size == entry.size
        and one.fragment_hash == entry.fragment_hash
        for one in case.cut.descriptors
    ]
    if not any(fits):
        raise VerificationError(
            f"the receipt of relay {relay.name} is for a fragment {entry.index} of {entry.size} "
            f"bytes with hash {entry.fragment_hash.hex()}, which is none of this submission"
        )
    terms = case.in_force_at(UnixMillis(receipt.time - TERMS_DELAY_MS))
    # The margin may lead beyond the last year that there are dates for.
    least = UnixMillis(min(terms.repair_by + HOLD_MARGIN_MS, MAX_INSTANT))
    if receipt.hold_until < least:
        raise VerificationError(
            f"relay {relay.name} promised to hold fragment {entry.index} until "
            f"{format_rfc3339(receipt.hold_until)}, the terms ask for "
            f"{format_rfc3339(least)}"
        )
    over = "; that time has passed" if now is not None and now > receipt.hold_until else ""
    findings.ok(
        "receipts",
        f"Fragment {entry.index} was whole at relay {relay.name} at "
        f"{format_rfc3339(receipt.time)}, which promised to hold it until "
        f"{format_rfc3339(receipt.hold_until)}{over}.",
        by=f"relay {relay.name}, run by {relay.operator} (key {relay.vkey.fingerprint()})",
    )
    return receipt


def _check_hold(case: Case, text: str, receipts: Sequence[Receipt], findings: Findings) -> None:
    hold = Hold.parse(text)
    relay = case.relay(
        hold.relay, lambda key: hold.verify(key, case.evidence.origin, case.commitment)
    )
    begun = [
        one
        for one in receipts
        if (one.relay, one.fragment_index) == (hold.relay, hold.fragment_index)
        and one.index < hold.index
        and one.time <= hold.time
        and one.hold_until < hold.hold_until
    ]
    if not begun:
        raise VerificationError(
            f"relay {relay.name} wrote that it holds fragment {hold.fragment_index} until "
            f"{format_rfc3339(hold.hold_until)}, but no receipt in this file is prolonged by that"
        )
    findings.ok(
        "held",
        f"Relay {relay.name} promised on {format_rfc3339(hold.time)} to hold fragment "
        f"{hold.fragment_index} longer, until {format_rfc3339(hold.hold_until)}.",
        by=f"relay {relay.name}, run by {relay.operator} (key {relay.vkey.fingerprint()})",
    )


def check_postmarks(case: Case, data: bytes, findings: Findings) -> None:
    """Check a postmark bundle: evidence, not a ticket."""
    bundle = PostmarkBundle.decode(data)
    if bundle.call_origin != str(case.evidence.origin):
        raise VerificationError(f"the postmarks are for {bundle.call_origin}")
    for postmark in bundle.postmarks:
        relay = case.relay(postmark.relay, partial(postmark.verify, commitment=case.commitment))
        findings.ok(
            "postmarks",
            f"Relay {relay.name} saw the commitment at {format_rfc3339(postmark.time)}; this is "
            "evidence, not a ticket.",
            by=f"relay {relay.name}, run by {relay.operator} (key {relay.vkey.fingerprint()})",
        )
