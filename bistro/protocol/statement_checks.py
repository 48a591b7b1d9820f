"""Checks of what a destination stated about a submission: status, outcome and minutes.

Source: docs/spec/evidence.md, checks 10 to 12.
"""

from __future__ import annotations

from typing import Final

from bistro.crypto.merkle import verify_consistency
from bistro.errors import VerificationError
from bistro.ids import Origin
from bistro.instant import format_rfc3339
from bistro.protocol.evidence_case import Case
from bistro.protocol.findings import Findings
from bistro.protocol.promise_checks import LogPromise, LogPromises, require_same_log
from bistro.wire.checkpoint import Checkpoint
from bistro.wire.minutes import Minutes, salted_outcome, verify_minutes
from bistro.wire.status import Outcome, verify_outcome, verify_status

_DECIDED_LATER: Final = frozenset({"accepted", "rejected"})
"""Outcomes that may follow an opening that found nothing wrong."""

_WITHOUT_HEADER: Final = frozenset({"lapsed", "rejected", "void"})
"""Outcomes for which the destination may not have read the header, and so knows no token."""


def check_statements(case: Case, log: LogPromises, findings: Findings) -> None:
    """Check status, outcome and minutes, and the outcome's place in the minutes."""
    evidence = case.evidence
    outcome: Outcome | None = None
    minutes: Minutes | None = None
    with findings.checking("status"):
        if evidence.status is not None:
            _check_status(case, evidence.status, log, findings)
    with findings.checking("outcome"):
        if evidence.outcome is not None:
            outcome = _check_outcome(case, evidence.outcome, findings)
    with findings.checking("minutes"):
        if evidence.minutes is not None:
            minutes = _check_minutes(case, evidence.minutes, log, findings)
    if outcome is not None and minutes is not None:
        with findings.checking("minutes"):
            _check_place(case, outcome, minutes, log, findings)
    with findings.checking("consistency"):
        if evidence.consistency is not None:
            _check_consistency(case, minutes, evidence.consistency, log, findings)


def _signer(case: Case) -> str:
    return f"{case.evidence.origin} (status key {case.status_key.fingerprint()})"


def _require_about(case: Case, origin: Origin, commitment: bytes) -> None:
    if origin != case.evidence.origin:
        raise VerificationError(f"it is about the call {origin}")
    if commitment != case.commitment:
        raise VerificationError(
            f"it is about commitment {commitment.hex()}, expected {case.commitment.hex()}"
        )


def _check_status(case: Case, note: str, log: LogPromises, findings: Findings) -> None:
    status = verify_status(note.encode(), case.status_key)
    _require_about(case, status.origin, status.commitment)
    if log.ticket is not None:
        ticket = log.ticket.promise
        if (status.index, status.ticketed_at) != (ticket.index, ticket.time):
            raise VerificationError(
                f"it says that the ticket is entry {status.index} of "
                f"{format_rfc3339(status.ticketed_at)}, the ticket itself says entry "
                f"{ticket.index} of {format_rfc3339(ticket.time)}"
            )
    findings.ok(
        "status",
        f"On {format_rfc3339(status.updated_at)} the submission was {status.state}.",
        by=_signer(case),
    )


def _check_outcome(case: Case, note: str, findings: Findings) -> Outcome:
    outcome = verify_outcome(note.encode(), case.status_key)
    _require_about(case, outcome.origin, outcome.commitment)
    reasons = "; ".join(f"{reason.code}: {reason.text}" for reason in outcome.reasons)
    findings.ok(
        "outcome",
        f"On {format_rfc3339(outcome.updated_at)} its outcome was {outcome.outcome}"
        + (f" ({reasons})." if reasons else "."),
        by=_signer(case),
    )
    return outcome


def _check_minutes(case: Case, note: str, log: LogPromises, findings: Findings) -> Minutes:
    minutes = verify_minutes(note.encode(), case.status_key)
    if minutes.origin != case.evidence.origin:
        raise VerificationError(f"they are about the call {minutes.origin}")
    checkpoint = minutes.verify_checkpoint(case.log_key)
    for seen in log:
        require_same_log(checkpoint, seen.checkpoint)
        if seen.promise.index >= checkpoint.size:
            raise VerificationError(
                f"their checkpoint of {checkpoint.size} entries does not cover entry "
                f"{seen.promise.index} ({seen.part})"
            )
    if log.opening is not None:
        _require_opening(minutes, checkpoint, log.opening.promise)
    allowed = _commitments(case, log, checkpoint.size - 2)
    _require_within("commitments", minutes.count, allowed, "the log that they close")
    present = ", ".join(minutes.present) or "nobody is named"
    every = ", all that the log has" if len(allowed) == 1 else ""
    findings.ok(
        "minutes",
        f"The minutes of {format_rfc3339(minutes.opened_at)} count {minutes.count} "
        f"commitments{every}; present: {present}.",
        by=_signer(case),
    )
    return minutes


def _commitments(case: Case, log: LogPromises, size: int) -> range:
    """How many commitments the log's first ``size`` entries can hold, closed entries apart.

    The others are versions of the terms, and at most one closed entry between one and the next.
    Where the opening entry is shown no version is missing: it names the last.

    Args:
        case: What is known of the terms.
        log: What is known of the log.
        size: Of a part of the log that does not end with a closed entry.
    """
    count = sum(1 for version in case.versions if version.proof.index < size)
    most = size - count
    least = most - count + 1 if log.opening is not None else 0
    return range(max(least, 0), most + 1)


def _require_within(what: str, found: int, allowed: range, where: str) -> None:
    if found not in allowed:
        least, most = allowed.start, allowed.stop - 1
        expected = str(most) if least == most else f"{least} to {most}"
        raise VerificationError(
            f"they count {found} {what}, {where} has {expected}: somebody was left out or added"
        )


def _require_opening(minutes: Minutes, checkpoint: Checkpoint, opening: LogPromise) -> None:
    """The minutes' checkpoint ends with the opening entry, and they give its time."""
    if checkpoint.size != opening.index + 1:
        raise VerificationError(
            f"their checkpoint has {checkpoint.size} entries, but the opening entry, the log's "
            f"last, is {opening.index}"
        )
    if minutes.opened_at != opening.time:
        raise VerificationError(
            f"they say {format_rfc3339(minutes.opened_at)}, the opening entry says "
            f"{format_rfc3339(opening.time)}"
        )


def _check_place(
    case: Case, outcome: Outcome, minutes: Minutes, log: LogPromises, findings: Findings
) -> None:
    place = outcome.minutes
    if place is None:
        findings.absent(
            "minutes entry",
            "The outcome was stated before there were minutes, so this file does not show that "
            "the minutes count this submission.",
        )
        return
    entry = minutes.verify_place(place)
    if entry.commitment != case.commitment:
        raise VerificationError(f"the minutes' entry is about {entry.commitment.hex()}")
    if log.ticket is not None:
        _require_index(entry.index, log.ticket.promise.index)
        before = _commitments(case, log, log.ticket.promise.index)
        _require_within("commitments before this one", place.index, before, "the log")
    written = _written_outcome(case, outcome.outcome, entry.salted)
    findings.ok(
        "minutes entry",
        f"The minutes count this submission as number {place.index + 1} of {minutes.count}, with "
        f"the outcome {written}.",
        by=_signer(case),
    )


def _require_index(found: int, expected: int) -> None:
    if found != expected:
        raise VerificationError(
            f"the minutes' entry is about entry {found} of the log, the ticket is entry {expected}"
        )


def _written_outcome(case: Case, stated: str, salted: bytes) -> str:
    """What the minutes say, in words, where the outcome note says ``stated``.

    Raises:
        VerificationError: Something that does not go with it.
    """
    if salted == salted_outcome(case.header.token, stated):
        return stated
    # Minutes are written once; what the back office decides later is in the note alone.
    if stated in _DECIDED_LATER and salted == salted_outcome(case.header.token, "opened"):
        return f"opened; that it was {stated} was decided later"
    if stated in _WITHOUT_HEADER and salted == salted_outcome(b"", stated):
        return f"{stated}, and say that no header of it could be read"
    raise VerificationError(f"the minutes have another outcome for this submission than {stated}")


def _check_consistency(
    case: Case,
    minutes: Minutes | None,
    path: tuple[bytes, ...],
    log: LogPromises,
    findings: Findings,
) -> None:
    if minutes is None or log.ticket is None:
        raise VerificationError("it needs a ticket and minutes that hold")
    old, new = log.ticket.checkpoint, minutes.verify_checkpoint(case.log_key)
    verify_consistency(
        old_size=old.size, old_root=old.root, size=new.size, root=new.root, path=path
    )
    findings.ok(
        "consistency",
        f"The log that was opened, of {new.size} entries, begins with the {old.size} entries "
        "that the ticket was given under: the ticket was not dropped.",
        by=case.destination,
    )
