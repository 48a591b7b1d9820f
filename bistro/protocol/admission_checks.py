"""Checks of the admission: that the filer asked for the ticket, and in whose name.

The same rule is applied to evidence and, before that, at the opening.

Source: docs/spec/admission.md; docs/spec/evidence.md, check 3a.
"""

from __future__ import annotations

from bistro.errors import VerificationError
from bistro.protocol.evidence_case import Case
from bistro.protocol.findings import Findings
from bistro.protocol.opening import judge_admission
from bistro.protocol.promise_checks import Seen
from bistro.wire.admission import Admission
from bistro.wire.entry import TicketEntry


def check_admission(case: Case, ticket: Seen | None, findings: Findings) -> None:
    """Check the admission, and that the ticket names one exactly where the terms ask for it.

    Args:
        case: Terms and submission.
        ticket: What the file shows of the ticket, verified; ``None`` if nothing holds.
        findings: Told what was found.
    """
    named = None if ticket is None else _named_by(ticket)
    data = case.evidence.admission
    with findings.checking("admission"):
        if ticket is not None:
            _require_named(case, ticket, named)
        if data is not None:
            _check(case, Admission.decode(data), named, findings)
        elif named is not None:
            findings.absent(
                "admission",
                f"The ticket names the admission {named.hex()}, which is not here: that this "
                "filer asked for the ticket is not shown.",
            )
        elif ticket is not None:
            findings.absent(
                "admission", "There is no admission: none is needed where anyone may file."
            )


def _named_by(ticket: Seen) -> bytes | None:
    entry = ticket.promise.entry
    return entry.admission if isinstance(entry, TicketEntry) else None


def _require_named(case: Case, ticket: Seen, named: bytes | None) -> None:
    filers = case.in_force(ticket.promise.index).filers
    if (filers == "registered") != (named is not None):
        found = "no admission" if named is None else f"the admission {named.hex()}"
        raise VerificationError(
            f"the terms say that {'registered filers' if filers == 'registered' else 'anyone'} "
            f"may file, and the ticket names {found}"
        )


def _check(case: Case, admission: Admission, named: bytes | None, findings: Findings) -> None:
    if case.latest.filers != "registered":
        raise VerificationError("there is an admission, and the terms ask for none")
    if named is not None and admission.hash != named:
        raise VerificationError(
            f"the ticket names the admission {named.hex()}, this one is {admission.hash.hex()}"
        )
    fault = judge_admission(case.header, admission, commitment=case.commitment)
    if fault is not None:
        raise VerificationError(fault.reason.text)
    findings.ok(
        "admission",
        f"The holder of filer key {admission.filer_key.hex()} asked for this ticket, for slot "
        f"{admission.slot}.",
        by=f"filer key {admission.filer_key.hex()}",
    )
