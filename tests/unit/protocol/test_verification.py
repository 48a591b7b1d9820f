"""Verification of evidence: what holds, what is absent, what fails, and by whom."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import BistroError
from bistro.instant import MAX_INSTANT
from bistro.protocol.findings import Findings, State
from bistro.protocol.verification import verify_evidence, verify_promise
from bistro.wire.evidence import OPTIONAL_PARTS, Evidence
from bistro.wire.receipt import Receipt
from bistro.wire.refusal import Refusal
from bistro.wire.ticket import Ticket
from tests.support.evidence import (
    CLOSES,
    DAY,
    ORIGIN,
    RELAYS,
    Filing,
    first_terms,
    whole_filing,
)
from tests.support.reports import LOG_KEY, TRUST, check, texts
from tests.support.strategies import note_key, private_key

WHOLE = whole_filing()


def test_a_submission_that_went_all_the_way_is_proven_from_end_to_end() -> None:
    """Every part holds, and each sentence names who vouches for it."""
    report = check(WHOLE.evidence)
    assert report.exit_ok, report.failures
    held = [one for one in report.findings if one.state is State.OK]
    assert [one.part for one in held] == [
        "trust",
        "terms",
        "header",
        "manifest",
        "ticket",
        "closed",
        "opening",
        "receipts",
        "receipts",
        "receipts",
        "staging",
        "status",
        "outcome",
        "minutes",
        "minutes entry",
        "consistency",
    ]
    assert all(one.by for one in held)
    vouching = {one.part: one.by for one in held}
    assert TRUST.fingerprint() in vouching["trust"]
    assert LOG_KEY.verifier.fingerprint() in vouching["ticket"]
    assert "relay-2.example" in vouching["receipts"]
    assert "operator of relay-2.example" in vouching["receipts"]
    assert WHOLE.header.filer_key.hex() in vouching["header"]
    assert "1 h before the deadline" in texts(report, State.OK, "ticket")[0]
    assert "accepted" in texts(report, State.OK, "minutes entry")[0]


def test_the_file_itself_survives_encoding() -> None:
    """What is verified is what was written."""
    assert Evidence.decode(WHOLE.evidence.encode()) == WHOLE.evidence


def test_without_a_trusted_key_the_report_asks_to_compare_the_fingerprint() -> None:
    """The file's own key proves nothing about who holds it."""
    report = verify_evidence(WHOLE.evidence)
    assert report.exit_ok
    [said] = texts(report, State.OPEN, "trust")
    assert TRUST.fingerprint() in said
    assert "Compare" in said
    assert not texts(report, State.OK, "trust")


def test_another_trusted_key_fails_everything() -> None:
    """Nothing is checked against a server that is not the one that is trusted."""
    other = note_key(ORIGIN.server, seed="other").verifier
    report = verify_evidence(WHOLE.evidence, trust=other)
    assert [one.part for one in report.failures] == ["terms", "ticket"]
    assert not report.exit_ok


def test_a_key_that_was_not_the_one_pinned_fails() -> None:
    """The file may not claim another first contact than its terms show."""
    stranger = note_key(ORIGIN.server, seed="stranger").verifier.format()
    for trust in (TRUST, None):
        report = verify_evidence(replace(WHOLE.evidence, terms_key=stranger), trust=trust)
        assert {one.part for one in report.failures} == {"terms", "ticket"}


def test_what_is_absent_is_said_and_does_not_fail_the_file() -> None:
    """A young file is whole, too."""
    report = check(replace(Filing().ticketed().evidence, manifest=None))
    assert report.exit_ok
    absent = {one.part for one in report.findings if one.state is State.ABSENT}
    assert absent == set(OPTIONAL_PARTS) - {"held", "ticket", "refusal", "rotations"}
    [said] = texts(report, State.ABSENT, "witnessed")
    assert "rests on its word" in said


@pytest.mark.parametrize(
    "part",
    [
        "ticket",
        "closed",
        "opening",
        "status",
        "outcome",
        "minutes",
    ],
)
def test_a_tampered_signature_fails_its_part(part: str) -> None:
    """One changed character at the end, where signatures stand, is found."""
    text = getattr(WHOLE.evidence, part)
    last = "A" if text[-8] != "A" else "B"
    report = check(replace(WHOLE.evidence, **{part: text[:-8] + last + text[-7:]}))
    assert not report.exit_ok
    assert part in {one.part for one in report.failures}


@given(st.data())
def test_no_change_of_a_file_goes_unnoticed(data: st.DataObject) -> None:
    """A file with one byte changed is refused, fails, or says the same in the same bytes.

    Parts that nothing in the file vouches for are the exception: a file key is only tried on
    the envelope.
    """
    encoded = bytearray(WHOLE.evidence.encode())
    place = data.draw(st.integers(0, len(encoded) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != encoded[place]))
    encoded[place] = byte
    try:
        evidence = Evidence.decode(bytes(encoded))
    except BistroError:
        return
    assert not check(evidence).exit_ok


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_LOCAL = {
    name: st.just(getattr(WHOLE.evidence, name)) | _TEXTS
    for name in ("ticket", "closed", "opening", "status", "outcome", "minutes")
}
_OTHER = {
    "refusal": _TEXTS,
    "terms_key": _TEXTS,
    "submission": st.binary(max_size=40),
    "layout": st.binary(max_size=40),
    "manifest": st.binary(max_size=40),
    "postmarks": st.binary(max_size=40),
    "receipts": st.lists(_TEXTS, max_size=2).map(tuple),
    "rotations": st.lists(_TEXTS, max_size=2).map(tuple),
}


@given(st.fixed_dictionaries({}, optional=_LOCAL | _OTHER))
def test_whatever_a_file_says_a_report_comes_out(parts: dict[str, object]) -> None:
    """Nonsense in one part is a finding, never a crash."""
    evidence = replace(WHOLE.evidence, **{"refusal": WHOLE.evidence.ticket, **parts})  # type: ignore[arg-type]
    assert not check(evidence).exit_ok


def test_terms_up_to_the_end_of_time_are_judged() -> None:
    """The last date that there is has no day after it."""
    filing = Filing(first_terms(repair_by=MAX_INSTANT, stage_by=MAX_INSTANT)).ticketed().closed()
    filing.opened(CLOSES + DAY).staged()
    report = check(filing.evidence)
    assert {one.part for one in report.failures} == {"opening", "receipts"}


def test_a_bug_is_no_finding() -> None:
    """Only deliberate errors speak about a file."""
    with pytest.raises(ZeroDivisionError), Findings().checking("ticket"):
        raise ZeroDivisionError


def test_one_promise_alone_is_checked_and_says_that_it_is_alone() -> None:
    """A bare file proves one thing."""
    filing = whole_filing().refused()
    evidence = filing.evidence
    relay_key = note_key(RELAYS[0]).verifier
    for promise, key in (
        (Ticket.parse(evidence.ticket or ""), LOG_KEY.verifier),
        (Refusal.parse(evidence.refusal or ""), LOG_KEY.verifier),
        (Receipt.parse(evidence.receipts[0]), relay_key),
    ):
        report = verify_promise(promise, key=key)
        assert report.exit_ok
        assert "Only this one promise" in report.findings[-1].text
        other = private_key("other").public_key().public_bytes_raw()
        assert not verify_promise(promise, key=replace(key, public=other)).exit_ok
