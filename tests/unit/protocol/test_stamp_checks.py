"""RFC 3161 stamps in evidence: what bounds a ticket's time from above, and by whose word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from bistro.crypto.digest import sha256
from bistro.crypto.timestamp import certificate as certificates
from bistro.instant import UnixMillis
from bistro.protocol.findings import Report, State
from bistro.protocol.verification import verify_evidence
from bistro.wire.anchor import Timestamp, stamped_digest
from bistro.wire.clauses import Authority as NamedAuthority
from bistro.wire.evidence import Evidence
from bistro_server.services.authority import Authority
from tests.support.clocks import NOON
from tests.support.evidence import CLOSES, DAY, HOUR, Filing, first_terms, whole_filing
from tests.support.reports import TRUST, texts
from tests.support.timestamps import NAME, authority, der_of, issued, stamp

OWN = der_of(authority().chain)[0]
URL = "http://stamps.example/tsr"


def check(evidence: Evidence, *authorities: bytes) -> Report:
    return verify_evidence(evidence, trust=TRUST, authorities=authorities)


def only_failure(evidence: Evidence) -> tuple[str, str]:
    report = check(evidence)
    (one,) = report.failures
    return one.part, one.text


def named(*certificates_: bytes) -> Filing:
    """A filing under terms that name authorities."""
    clause = tuple(NamedAuthority(sha256(one), URL) for one in certificates_)
    return Filing(terms=first_terms(timestamping=clause))


def covered(filing: Filing, *, size: int | None = None, by: Authority | None = None) -> Filing:
    """With a stamp over the checkpoint of the first ``size`` entries, and the ticket's place."""
    note = filing.log.checkpoint_note(size)
    maker = by or authority()
    token = stamp(maker, stamped_digest(note))
    return filing.add(
        witnessed=filing.log.prove(filing.ticket_index, size).format().decode(),
        timestamps=(Timestamp(token, der_of(maker.chain)),),
    )


def test_a_stamp_of_an_authority_that_the_terms_name_holds() -> None:
    """Over a later checkpoint, under which the ticket is shown; whose word it is, is said."""
    filing = named(OWN).others(3, CLOSES - 2 * HOUR).ticketed().others(5, CLOSES)
    report = check(covered(filing).evidence)
    assert report.exit_ok
    (place,) = texts(report, State.OK, "witnessed")
    assert "first 10 entries" in place
    (said,) = texts(report, State.OK, "timestamps")
    assert "were there by 2026-11-22T12:00:00" in said
    (finding,) = [one for one in report.findings if one.part == "timestamps"]
    assert sha256(OWN).hex() in finding.by
    assert "the terms name" in finding.by


def test_a_stamp_over_the_tickets_own_checkpoint_needs_no_other_place() -> None:
    """As for a ticket that is proven to the checkpoint of the minutes."""
    filing = named(OWN).ticketed()
    note = filing.log.checkpoint_note()
    filing.add(timestamps=(Timestamp(stamp(authority(), stamped_digest(note)), (OWN,)),))
    report = check(filing.evidence)
    assert report.exit_ok
    assert len(texts(report, State.OK, "timestamps")) == 1


def test_a_stamp_of_a_whole_filing_holds() -> None:
    """Over the last checkpoint, beside everything else."""
    filing = covered(whole_filing())
    report = check(filing.evidence, sha256(OWN))
    assert report.exit_ok
    assert len(texts(report, State.OK, "timestamps")) == 1


def test_an_authority_that_nobody_named_is_left_to_the_reader() -> None:
    """It does not count against the file; with a certificate that the reader gives it holds."""
    evidence = covered(Filing().ticketed()).evidence
    report = check(evidence)
    assert report.exit_ok
    (said,) = texts(report, State.OPEN, "timestamps")
    assert "--authority" in said
    assert sha256(OWN).hex() in said
    report = check(evidence, sha256(OWN))
    assert len(texts(report, State.OK, "timestamps")) == 1
    assert texts(report, State.OPEN, "timestamps") == []


def test_who_issued_the_authoritys_certificate_may_be_named_instead() -> None:
    """Authorities change the certificate that they sign under."""
    key = certificates.generate_key()
    maker = Authority(key, issued(key, now=NOON))
    _, root = der_of(maker.chain)
    filing = covered(named(root).ticketed(), by=maker)
    (said,) = texts(check(filing.evidence), State.OK, "timestamps")
    assert "were there" in said


def other_chain(filing: Filing) -> Filing:
    """Somebody named, who did not issue the signer's certificate."""
    key = certificates.generate_key()
    own, _ = issued(key, now=NOON)
    _, root = issued(key, now=NOON)
    note = filing.log.checkpoint_note()
    token = stamp(Authority(key, (own,)), stamped_digest(note))
    return filing.add(timestamps=(Timestamp(token, der_of((own, root))),))


def no_issuer(filing: Filing) -> Filing:
    """A certificate for time stamps that 'issues' others."""
    key = certificates.generate_key()
    own, _ = issued(key, now=NOON)
    note = filing.log.checkpoint_note()
    token = stamp(Authority(key, (own,)), stamped_digest(note))
    return filing.add(timestamps=(Timestamp(token, (*der_of((own,)), OWN)),))


def too_early(filing: Filing) -> Filing:
    """Seen before the ticket's time."""
    key = certificates.generate_key()
    begins = UnixMillis(CLOSES - 10 * DAY)
    maker = Authority(key, (certificates.make_certificate(key, name=NAME, now=begins),))
    note = filing.log.checkpoint_note()
    token = stamp(maker, stamped_digest(note), time=UnixMillis(CLOSES - 2 * HOUR))
    return filing.add(timestamps=(Timestamp(token, der_of(maker.chain)),))


def other_checkpoint(filing: Filing) -> Filing:
    """Over another checkpoint of the same log."""
    note = filing.log.checkpoint_note()
    filing.others(1, CLOSES)
    covered(filing)
    return filing.add(
        timestamps=(Timestamp(stamp(authority(), stamped_digest(note)), (OWN,)),),
    )


def damaged(filing: Filing) -> Filing:
    """One bit of the signature."""
    covered(filing)
    token, chain = filing.evidence.timestamps[0]
    changed = token[:-1] + bytes([token[-1] ^ 1])
    return filing.add(timestamps=(Timestamp(changed, chain),))


def no_certificate(filing: Filing) -> Filing:
    covered(filing)
    token, _ = filing.evidence.timestamps[0]
    return filing.add(timestamps=(Timestamp(token, (b"nonsense",)),))


FAULTS: dict[str, tuple[Callable[[Filing], Filing], str]] = {
    "another issuer": (other_chain, "was not issued by"),
    "no issuer": (no_issuer, "was not issued by"),
    "before the ticket": (too_early, "one of both clocks was wrong"),
    "another checkpoint": (other_checkpoint, "over something else"),
    "changed": (damaged, "signature does not hold"),
    "no certificate": (no_certificate, "a certificate is damaged"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_stamp_that_does_not_hold_fails(fault: str) -> None:
    """Whoever made it, and whoever is named."""
    make, words = FAULTS[fault]
    part, text = only_failure(make(named(OWN).ticketed()).evidence)
    assert part == "timestamps"
    assert words in text


def test_a_stamp_needs_a_place_that_holds() -> None:
    """Of this ticket, in this log, under a checkpoint that is stamped here."""
    filing = covered(named(OWN).ticketed().others(2, CLOSES))
    other = filing.log.prove(filing.ticket_index + 1).format().decode()
    report = check(filing.add(witnessed=other).evidence)
    assert [one.part for one in report.failures] == ["witnessed", "timestamps"]
    filing = covered(named(OWN).ticketed())
    part, text = only_failure(replace(filing.evidence, timestamps=()))
    assert part == "witnessed"
    assert "nothing in this file stamps that checkpoint" in text


def test_a_stamped_checkpoint_is_one_of_the_same_log() -> None:
    """Another root for a size, or entries after the last, show two logs."""
    filing = whole_filing()
    filing.log.entries[-1] += b"\n"
    covered(filing)
    assert "different roots" in check(filing.evidence).failures[0].text
    filing = whole_filing().others(1, CLOSES)
    covered(filing)
    assert "goes on after the opening entry" in check(filing.evidence).failures[0].text


def test_an_attempt_has_nothing_that_is_stamped() -> None:
    """A refusal stands in another log."""
    filing = Filing().refused()
    token = stamp(authority(), sha256(b"refusal"))
    filing.add(timestamps=(Timestamp(token, (OWN,)),))
    assert "needs a ticket" in only_failure(filing.evidence)[1]
