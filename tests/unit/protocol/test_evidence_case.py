"""Whose terms evidence shows, and which submission it is about."""

from dataclasses import replace

import pytest

from bistro.crypto.digest import sha256
from bistro.crypto.signing import SigningKey, sign_note
from bistro.ids import Origin
from bistro.protocol.findings import State
from bistro.protocol.verification import verify_evidence
from bistro.wire.entry import (
    TermsEntry,
)
from bistro.wire.evidence import TermsVersion
from bistro.wire.fragment import Layout
from bistro.wire.manifest import Manifest
from bistro.wire.terms import build
from tests.support.evidence import (
    CLOSES,
    DAY,
    HOUR,
    OPENS,
    ORIGIN,
    SERVER_KEY,
    Filing,
    at,
    first_terms,
    next_terms,
)
from tests.support.promises import MemoryLedger
from tests.support.reports import LOG_KEY, TRUST, check, only_failure, texts
from tests.support.strategies import note_key


def test_an_extension_moves_the_deadline() -> None:
    """The terms in force are those of the latest entry before the ticket."""
    later = CLOSES + DAY
    filing = Filing().closed().extend(CLOSES + HOUR, closes=at(later)).ticketed(CLOSES + 2 * HOUR)
    report = check(filing.evidence)
    assert report.exit_ok, report.failures
    assert "published in 2 versions" in texts(report, State.OK, "terms")[0]


def test_an_extension_after_the_ticket_does_not_make_it_on_time() -> None:
    """A late ticket stays late, whatever was published afterwards."""
    filing = Filing().ticketed(CLOSES + HOUR).extend(CLOSES + 2 * HOUR, closes=at(CLOSES + DAY))
    part, text = only_failure(filing.evidence)
    assert part == "ticket"
    assert "after the last moment" in text


def test_terms_that_shorten_are_refused() -> None:
    """A version that takes time away counts for nobody."""
    filing = Filing().ticketed().extend(CLOSES - HOUR, closes=at(CLOSES - DAY))
    report = check(filing.evidence)
    assert "closes may not go" in report.failures[0].text


def test_a_missing_first_version_is_noticed() -> None:
    """Nobody can show only the terms that suit them."""
    filing = Filing().extend(OPENS, title="Renamed").ticketed()
    report = check(replace(filing.evidence, terms=filing.evidence.terms[1:]))
    assert "expected version 1" in report.failures[0].text


def test_versions_stand_in_the_log_in_their_order() -> None:
    """A version cannot have come into force before the one that it follows."""
    log = MemoryLedger(LOG_KEY)
    first = first_terms()
    second = next_terms(first, title="Renamed")
    for terms in (first, second, first):
        log.append(TermsEntry(origin=str(ORIGIN), time=at(OPENS), digest=terms.hash))
    proofs = [log.prove(index).format().decode() for index in range(3)]
    notes = [build(terms, SERVER_KEY).encode().decode() for terms in (first, second)]
    third = build(next_terms(second, title="Again"), SERVER_KEY)
    log.append(TermsEntry(origin=str(ORIGIN), time=at(OPENS), digest=third.hash))
    log.append(TermsEntry(origin=str(ORIGIN), time=at(OPENS), digest=second.hash))
    versions = (
        TermsVersion(notes[0], proofs[0]),
        TermsVersion(notes[1], log.prove(4).format().decode()),
        TermsVersion(third.encode().decode(), log.prove(3).format().decode()),
    )
    report = check(replace(Filing().ticketed().evidence, terms=versions))
    assert "version 3 is entry 3" in report.failures[0].text


def test_terms_of_another_call_are_refused() -> None:
    """A file is about one call."""
    evidence = replace(Filing().ticketed().evidence, origin=Origin(ORIGIN.server, "autumn"))
    assert "expected terms of permits.example/autumn" in check(evidence).failures[0].text


def test_a_changed_terms_key_needs_both_signatures() -> None:
    """Trust runs on to the new key through a version that both have signed."""
    new = note_key(ORIGIN.server, seed="new")
    keys = replace(first_terms().keys, terms=new.verifier)
    filing = Filing().extend(OPENS, SERVER_KEY, new, keys=keys).ticketed()
    for trust in (TRUST, new.verifier):
        report = verify_evidence(filing.evidence, trust=trust)
        assert report.exit_ok, report.failures
    alone = sign_note(filing.terms.text, new).decode()
    terms = (filing.evidence.terms[0], TermsVersion(alone, filing.evidence.terms[1].proof))
    assert not check(replace(filing.evidence, terms=terms)).exit_ok


def test_a_key_rotation_leads_from_the_trusted_key_to_the_files() -> None:
    """Terms of another call of the same server pass trust on."""
    old = note_key(ORIGIN.server, seed="old")
    autumn = Origin(ORIGIN.server, "autumn")
    keys = replace(
        first_terms().keys,
        log=note_key(str(autumn)).verifier,
        collect=note_key(autumn.collect).verifier,
        status=note_key(autumn.status).verifier,
    )
    rotation = build(first_terms(origin=autumn, keys=keys), SERVER_KEY, old).encode().decode()
    evidence = Filing().ticketed().add(rotations=(rotation,)).evidence
    report = verify_evidence(evidence, trust=old.verifier)
    assert report.exit_ok, report.failures
    assert "passed on" in texts(report, State.OK, "trust")[0]
    stranger = note_key(ORIGIN.server, seed="stranger")
    assert not verify_evidence(evidence, trust=stranger.verifier).exit_ok


def test_a_signature_added_by_a_stranger_passes_no_trust_on() -> None:
    """Anybody can sign beside others: only a text that names a key vouches for it."""
    stranger = note_key(ORIGIN.server, seed="stranger")
    keys = replace(first_terms().keys, terms=stranger.verifier)
    # The trusted key signed some terms; the stranger adds a signature and shows them as a chain.
    added = sign_note(first_terms().text, SERVER_KEY, stranger).decode()
    filing = Filing(first_terms(keys=keys), stranger).ticketed().add(rotations=(added,))
    assert verify_evidence(filing.evidence).exit_ok
    assert not verify_evidence(filing.evidence, trust=TRUST).exit_ok


def test_a_trusted_key_of_another_server_vouches_for_nothing() -> None:
    """Its holder could sign terms that name keys of their own in somebody else's name."""
    elsewhere = note_key("elsewhere.example")
    filing = Filing().ticketed()
    note = sign_note(filing.terms.text, SERVER_KEY, elsewhere).decode()
    terms = (TermsVersion(note, filing.evidence.terms[0].proof),)
    for evidence in (
        replace(filing.evidence, terms=terms),
        replace(filing.evidence, terms=terms, terms_key=elsewhere.verifier.format()),
    ):
        report = verify_evidence(evidence, trust=elsewhere.verifier)
        assert "of permits.example, found one of elsewhere.example" in report.failures[0].text
    assert not verify_evidence(evidence).exit_ok


def test_a_submission_signed_by_another_filer_fails() -> None:
    """Header and signature belong together."""
    filing = Filing().ticketed()
    spoiled = filing.evidence.submission[:-1] + bytes([filing.evidence.submission[-1] ^ 1])
    report = check(replace(filing.evidence, submission=spoiled))
    assert [one.part for one in report.failures] == ["header", "ticket"]


def test_a_layout_that_is_not_the_terms_fails() -> None:
    """A filer cannot commit to fewer fragments than the terms ask for."""
    filing = Filing(first_terms(spread=replace(first_terms().spread, k=1))).ticketed()
    assert "expected 1 of 3 fragments" in check(filing.evidence).failures[0].text


def test_an_envelope_above_the_limit_fails() -> None:
    """The limit of the terms that the header names counts."""
    filing = Filing(first_terms(envelope_limit=999)).ticketed()
    assert "at most 999 bytes" in check(filing.evidence).failures[0].text


def test_another_layout_leads_to_another_commitment() -> None:
    """The ticket is for these fragments and no others."""
    layout = Layout(envelope_hash=sha256(b"other"), envelope_size=1_000, k=2, n=3)
    report = check(replace(Filing().ticketed().evidence, layout=layout.encode()))
    assert [one.part for one in report.failures] == ["ticket"]


def test_a_header_for_other_terms_fails() -> None:
    """The terms that the filer agreed to must be among those of the call."""
    filing = Filing().ticketed()
    other = Filing(first_terms(title="Other")).evidence
    report = check(replace(filing.evidence, submission=other.submission))
    assert "none of this call's" in report.failures[0].text


def test_another_manifest_fails_alone() -> None:
    """The header names one manifest."""
    manifest = Manifest(files=(), notes="other").encode()
    part, text = only_failure(replace(Filing().ticketed().evidence, manifest=manifest))
    assert part == "manifest"
    assert "that the header names" in text


@pytest.mark.parametrize(
    ("log_key", "digest"),
    [(note_key(str(ORIGIN), seed="forged"), first_terms().hash), (LOG_KEY, bytes(32))],
    ids=["another signs the log", "the log has another entry"],
)
def test_terms_that_the_log_does_not_have_are_refused(log_key: SigningKey, digest: bytes) -> None:
    """Terms that were shown to one filer alone are nobody's terms."""
    log = MemoryLedger(log_key)
    log.append(TermsEntry(origin=str(ORIGIN), time=at(OPENS), digest=digest))
    filing = Filing().ticketed()
    (version,) = filing.evidence.terms
    terms = (TermsVersion(version.note, log.prove(0).format().decode()),)
    assert check(replace(filing.evidence, terms=terms)).failures[0].part == "terms"


def test_first_terms_are_signed_with_the_key_that_they_name() -> None:
    """A key that never signed anything does not become the destination's."""
    unproven = note_key(ORIGIN.server, seed="unproven")
    keys = replace(first_terms().keys, terms=unproven.verifier)
    filing = Filing(first_terms(keys=keys), unproven).ticketed()
    filing.add(terms_key=SERVER_KEY.verifier.format())
    (version,) = filing.evidence.terms
    for signers, is_good in (((SERVER_KEY,), False), ((SERVER_KEY, unproven), True)):
        note = sign_note(filing.terms.text, *signers).decode()
        filing.add(terms=(TermsVersion(note, version.proof),))
        assert check(filing.evidence).exit_ok == is_good


def test_rotations_from_before_the_trusted_key_say_nothing() -> None:
    """Whoever came later trusts a later key, and reads the same file."""
    oldest, older = (note_key(ORIGIN.server, seed=seed) for seed in ("oldest", "older"))
    rotations = tuple(
        build(first_terms(keys=replace(first_terms().keys, terms=new.verifier)), new, old)
        .encode()
        .decode()
        for old, new in ((oldest, older), (older, SERVER_KEY))
    )
    evidence = Filing().ticketed().add(rotations=rotations).evidence
    for trust in (oldest.verifier, older.verifier, TRUST):
        report = verify_evidence(evidence, trust=trust)
        assert report.exit_ok, report.failures
