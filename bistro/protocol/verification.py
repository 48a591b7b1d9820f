"""Verification of evidence: every part checked, and said in plain words who proves what.

Works offline and trusts nothing in the file but what follows from one key: the server's terms
key, which names all others.

Source: docs/spec/evidence.md, checking.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from bistro.crypto.signing import VerifierKey
from bistro.instant import UnixMillis, format_rfc3339
from bistro.protocol.admission_checks import check_admission
from bistro.protocol.evidence_case import Case, read_case
from bistro.protocol.findings import Finding, Findings, Report, State
from bistro.protocol.promise_checks import (
    LogPromises,
    check_log,
    check_postmarks,
    check_receipts,
    check_refusal,
)
from bistro.protocol.statement_checks import check_statements
from bistro.wire.evidence import Evidence
from bistro.wire.receipt import Receipt
from bistro.wire.refusal import Refusal
from bistro.wire.ticket import Ticket

__all__ = ["Finding", "Report", "State", "verify_evidence", "verify_promise"]

_ABSENCES: Final = {
    "ticket": "There is no ticket: this shows an attempt, not a submission on time.",
    "manifest": "The manifest is not here: which files were submitted cannot be shown from this.",
    "receipts": "There are no receipts: no relay's promise to hold a fragment can be shown.",
    "postmarks": "There are no postmarks: none are needed where the destination gave a ticket.",
    "witnessed": (
        "The ticket is shown under no later checkpoint that others saw: that the destination shows "
        "the same log to everybody rests on its word."
    ),
    "timestamps": "There is no RFC 3161 time stamp: the ticket's time rests on its signer's clock.",
    "closed": "The closing of the call is not shown.",
    "opening": "The opening of the call is not shown: it may not have been opened yet.",
    "status": "No signed status is here: where the submission stands is not shown.",
    "outcome": "No signed outcome is here: how the submission ended is not shown.",
    "minutes": "The minutes are not here: that the opening counted this submission is not shown.",
    "consistency": (
        "No consistency proof is here: that the log that was opened is the one the ticket came "
        "from is shown only where their checkpoints are the same."
    ),
    "file_key": "The envelope's file key is not here: this file does not open the envelope.",
}
"""What it means that a part is missing; a missing refusal, rotation or hold means nothing."""

_OF_ATTEMPTS: Final = frozenset({"ticket", "manifest"})


def verify_evidence(
    evidence: Evidence,
    *,
    trust: VerifierKey | None = None,
    now: UnixMillis | None = None,
    authorities: Collection[bytes] = (),
) -> Report:
    """Check everything in ``evidence``; never raises for what the file says.

    Args:
        evidence: The decoded file.
        trust: The server's terms key as known otherwise. Without it the key is taken from the
            file, and the report says that its fingerprint must be compared.
        now: The reader's time, to tell whether a hold has run out; may be unknown.
        authorities: SHA-256 of certificates of time-stamp authorities that the reader trusts,
            besides those that the terms name.
    """
    findings = Findings()
    promise = "refusal" if evidence.is_attempt else "ticket"
    case = read_case(evidence, findings, trust)
    if case is None:
        findings.failed(
            promise, "Nothing else was checked: it would rest on what does not hold above."
        )
    else:
        _check_parts(case, findings, now=now, authorities=authorities)
    _tell_absences(evidence, findings)
    return Report(tuple(findings.found), needed=("terms", "header", promise))


def _check_parts(
    case: Case, findings: Findings, *, now: UnixMillis | None, authorities: Collection[bytes]
) -> None:
    evidence = case.evidence
    log: LogPromises = check_log(case, findings)
    if evidence.refusal is not None:
        with findings.checking("refusal"):
            check_refusal(case, evidence.refusal, findings)
    check_admission(case, log.ticket, findings)
    check_receipts(case, findings, now=now)
    if evidence.postmarks is not None:
        with findings.checking("postmarks"):
            check_postmarks(case, evidence.postmarks, findings)
    check_statements(case, log, findings)
    if evidence.timestamps or evidence.witnessed is not None:
        # Few have stamps, and what reads certificates takes its time to load.
        from bistro.protocol.stamp_checks import check_stamps  # noqa: PLC0415

        check_stamps(case, log, findings, authorities=authorities)
    if evidence.file_key is not None:
        findings.open(
            "file_key",
            "The file has the key of the envelope: try it on the envelope, whose tree hash is "
            f"{case.cut.layout.envelope_hash.hex()}.",
        )


def _tell_absences(evidence: Evidence, findings: Findings) -> None:
    for part in evidence.absent:
        if part in _ABSENCES and (not evidence.is_attempt or part in _OF_ATTEMPTS):
            findings.absent(part, _ABSENCES[part])


def verify_promise(promise: Ticket | Refusal | Receipt, *, key: VerifierKey) -> Report:
    """Check one promise by itself: a ``*.ticket``, ``*.refusal`` or ``*.receipt`` file.

    Args:
        promise: The parsed file.
        key: The key that its maker is known by: the call's log key, or the relay's.
    """
    findings = Findings()
    with findings.checking(promise.NAME):
        promise.verify(key, _call_of(promise))
        findings.ok(
            promise.NAME,
            f"Commitment {promise.commitment.hex()}: {_said(promise)} at "
            f"{format_rfc3339(promise.time)}; it is entry {promise.index} of {promise.origin}.",
            by=f"{promise.origin} (key {key.fingerprint()})",
        )
    findings.open(
        "submission", "Only this one promise was checked: evidence shows what it belongs to."
    )
    return Report(tuple(findings.found), needed=(promise.NAME,))


def _call_of(promise: Ticket | Refusal | Receipt) -> str:
    return promise.origin if isinstance(promise, Ticket) else promise.call_origin


def _said(promise: Ticket | Refusal | Receipt) -> str:
    if isinstance(promise, Ticket):
        return "it was admitted"
    if isinstance(promise, Refusal):
        return f"it was refused ({promise.reason})"
    until = format_rfc3339(promise.hold_until)
    return f"fragment {promise.fragment_index} is held until {until}, which was promised"
