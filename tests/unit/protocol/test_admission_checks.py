"""The admission in evidence, and at the opening."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bistro.crypto.digest import sha256
from bistro.protocol.findings import State
from bistro.protocol.opening import judge_admission
from bistro.wire.admission import Admission
from tests.support.evidence import Filing, first_terms
from tests.support.reports import check, only_failure, texts


def registered() -> Filing:
    """A filing of a call for registered filers."""
    return Filing(first_terms(filers="registered", tickets_per_filer=2))


def test_an_admission_shows_who_asked() -> None:
    """Commitment, terms, slot and key fit, and the ticket names it."""
    filing = registered().admitted().ticketed()
    report = check(filing.evidence)
    assert report.exit_ok, report.failures
    found = texts(report, State.OK, "admission")[0]
    assert filing.header.filer_key.hex() in found
    assert "slot main" in found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"who": "bob"}, "asked for the ticket, the header is of"),
        ({"slot": "other"}, "asked for slot other"),
        ({"commitment": sha256(b"other")}, "signature"),
        ({"terms_hash": sha256(b"other")}, "signature"),
    ],
)
def test_an_admission_of_another_submission_fails(changes: dict[str, object], said: str) -> None:
    """Whoever else asked, for whatever else: it is not this one."""
    part, text = only_failure(registered().admitted(**changes).ticketed().evidence)
    assert part == "admission"
    assert said in text


def test_an_admission_that_the_ticket_does_not_name_fails() -> None:
    """A second one, made later for the same commitment, shows nothing."""
    filing = registered().admitted(who="bob").ticketed().admitted()
    part, text = only_failure(filing.evidence)
    assert part == "admission"
    assert "the ticket names the admission" in text


def test_a_ticket_without_admission_in_a_registered_call_fails() -> None:
    """The destination broke its own terms."""
    part, text = only_failure(registered().ticketed().evidence)
    assert (part, "registered filers may file" in text) == ("admission", True)


def test_an_admission_where_anyone_files_fails() -> None:
    """With a ticket that names it, and beside one that does not."""
    assert "anyone may file" in only_failure(Filing().admitted().ticketed().evidence)[1]
    assert "ask for none" in only_failure(Filing().ticketed().admitted().evidence)[1]


def test_a_missing_admission_is_told_as_what_it_is() -> None:
    """None is needed for anyone's call; where the ticket names one, it is missing."""
    filing = registered().admitted().ticketed()
    report = check(replace(filing.evidence, admission=None))
    assert report.exit_ok, report.failures
    assert "not here" in texts(report, State.ABSENT, "admission")[0]
    report = check(Filing().ticketed().evidence)
    assert "none is needed" in texts(report, State.ABSENT, "admission")[0]


def test_a_refusal_with_an_admission_proves_whose_attempt_it_was() -> None:
    """Nobody's ticket names it, but it is signed for this commitment."""
    filing = registered().admitted().refused(reason="tickets-per-filer")
    report = check(filing.evidence)
    assert report.exit_ok, report.failures
    assert texts(report, State.OK, "admission")
    assert "tickets-per-filer" in texts(report, State.OK, "refusal")[0]


def test_a_header_fits_its_admission_or_is_rejected() -> None:
    """Key, slot and, by the signature, commitment and terms."""
    filing = registered().admitted()
    fits = Admission.decode(filing.evidence.admission or b"")
    assert judge_admission(filing.header, fits, commitment=filing.commitment) is None
    others = (
        replace(fits, slot="b"),
        replace(fits, filer_key=bytes(32)),
        replace(fits, signature=bytes(64)),
    )
    for other in others:
        fault = judge_admission(filing.header, other, commitment=filing.commitment)
        assert fault is not None
        assert (fault.outcome, fault.reason.code) == ("rejected", "admission")
