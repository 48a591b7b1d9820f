"""Checks of RFC 3161 stamps in evidence: when others saw the checkpoint that covers the ticket.

A stamp is over the checkpoint of the ticket, or of ``witnessed``, which is the same entry's
place under a later checkpoint. It bounds the ticket's time from above, by a clock that is not
the destination's, if the reader believes the authority: because the terms name it, or because
the reader says so.

Source: docs/spec/evidence.md, checks 13 and 14; docs/spec/timestamps.md, anchors.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from bistro.crypto.timestamp.chain import fingerprints, subject_of, verify_chained
from bistro.errors import VerificationError
from bistro.instant import UnixMillis, format_duration, format_rfc3339
from bistro.protocol.evidence_case import Case
from bistro.protocol.findings import Findings
from bistro.protocol.promise_checks import LogPromises, Seen, require_last, require_same_log
from bistro.wire.anchor import Timestamp, stamped_digest
from bistro.wire.ticket import Ticket

TOLERANCE_MS: Final = 60_000
"""By how much two clocks that nobody compared may differ before one of them is called wrong."""


def check_stamps(
    case: Case, log: LogPromises, findings: Findings, *, authorities: Collection[bytes]
) -> None:
    """Check ``witnessed`` and ``timestamps``.

    Args:
        case: What they are checked against.
        log: What the file shows of the call's log.
        findings: Gets what was found.
        authorities: SHA-256 of certificates that the reader believes, besides those in the terms.
    """
    covering = log.ticket
    with findings.checking("witnessed"):
        if case.evidence.witnessed is not None:
            covering = None
            covering = _check_place(case, case.evidence.witnessed, log, findings)
    for timestamp in case.evidence.timestamps:
        with findings.checking("timestamps"):
            _check_stamp(case, timestamp, covering, findings, authorities)


def _check_place(case: Case, text: str, log: LogPromises, findings: Findings) -> Seen:
    """The ticket's entry again, under another checkpoint of the same log."""
    if log.ticket is None:
        raise VerificationError("it needs a ticket that holds")
    if not case.evidence.timestamps:
        raise VerificationError(
            "nothing in this file stamps that checkpoint, and this version of bistro cannot check "
            "the cosignatures of witnesses"
        )
    place = Ticket.parse(text)
    checkpoint = place.verify(case.log_key, case.evidence.origin, case.commitment)
    ticket = log.ticket.promise
    if (place.index, place.proof.entry) != (ticket.index, ticket.proof.entry):
        raise VerificationError(
            f"it is about entry {place.index} of the log, the ticket is entry {ticket.index}"
        )
    found = Seen("witnessed", place, checkpoint)
    for seen in log:
        require_same_log(checkpoint, seen.checkpoint)
    if log.opening is not None:
        require_last(log.opening, [found])
    findings.ok(
        "witnessed",
        f"The ticket is also among the first {checkpoint.size} entries of the log, whose "
        "checkpoint was stamped.",
        by=case.destination,
    )
    return found


def _check_stamp(
    case: Case,
    timestamp: Timestamp,
    covering: Seen | None,
    findings: Findings,
    authorities: Collection[bytes],
) -> None:
    if covering is None:
        raise VerificationError("it needs a ticket, and its place in the log, that hold")
    stamp = verify_chained(timestamp.token, timestamp.certificates)
    if stamp.digest != stamped_digest(covering.promise.proof.checkpoint_note):
        raise VerificationError(
            f"it is over something else than the checkpoint of {covering.checkpoint.size} "
            f"entries ({covering.part})"
        )
    latest = UnixMillis(stamp.time + (stamp.accuracy_ms or 0))
    if latest + TOLERANCE_MS < covering.promise.time:
        raise VerificationError(
            f"the authority saw the checkpoint {format_rfc3339(stamp.time)}, before the ticket's "
            f"time {format_rfc3339(covering.promise.time)}: one of both clocks was wrong"
        )
    error = f", to {format_duration(stamp.accuracy_ms)}" if stamp.accuracy_ms is not None else ""
    said = (
        f"The log's first {covering.checkpoint.size} entries, the ticket among them, were there "
        f"by {format_rfc3339(stamp.time)}{error}."
    )
    chain = fingerprints(timestamp.certificates)
    named = {one.certificate for version in case.versions for one in version.terms.timestamping}
    subject = subject_of(timestamp.certificates[0])
    known = [one for one in chain if one in authorities or one in named]
    if known:
        how = "you trust" if known[0] in authorities else "the terms name"
        by = f"time-stamp authority {subject} (certificate {known[0].hex()}, which {how})"
        findings.ok("timestamps", said, by=by)
        return
    findings.open(
        "timestamps",
        f"{said} So says {subject}, whom the terms do not name: compare its certificate "
        f"{chain[0].hex()} with one that you know, and give it with --authority.",
    )
