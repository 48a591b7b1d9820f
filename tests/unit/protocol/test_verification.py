"""Verification of evidence: what holds, what is absent, what fails, and by whom."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto.digest import sha256
from bistro.crypto.signing import sign_note
from bistro.errors import BistroError
from bistro.ids import Origin
from bistro.instant import MAX_INSTANT, UnixMillis
from bistro.protocol.findings import Findings, Report, State
from bistro.protocol.verification import verify_evidence, verify_promise
from bistro.wire.entry import (
    ClosedEntry,
    PostmarkedEntry,
    PostmarkEntry,
    TermsEntry,
    TicketEntry,
)
from bistro.wire.evidence import OPTIONAL_PARTS, Evidence, TermsVersion, Timestamp
from bistro.wire.fragment import Layout
from bistro.wire.manifest import Manifest
from bistro.wire.postmark import Postmark, PostmarkBundle
from bistro.wire.receipt import Receipt
from bistro.wire.refusal import Refusal
from bistro.wire.status import MinutesPlace, Reason
from bistro.wire.terms import build
from bistro.wire.ticket import Ticket
from tests.support.evidence import (
    CLOSES,
    DAY,
    HOUR,
    OPENS,
    ORIGIN,
    RELAYS,
    REPAIR_BY,
    SERVER_KEY,
    STAGE_BY,
    Filing,
    at,
    first_terms,
    next_terms,
    whole_filing,
)
from tests.support.promises import MemoryLedger
from tests.support.strategies import note_key, private_key, relay_named

TRUST = SERVER_KEY.verifier
LOG_KEY = note_key(str(ORIGIN))
WHOLE = whole_filing()


def check(evidence: Evidence) -> Report:
    """The report to one who trusts the server's key."""
    return verify_evidence(evidence, trust=TRUST)


def texts(report: Report, state: State, part: str) -> list[str]:
    """What the report says of a part."""
    return [one.text for one in report.findings if (one.state, one.part) == (state, part)]


def only_failure(evidence: Evidence) -> tuple[str, str]:
    """Part and text of the one thing that does not hold."""
    report = check(evidence)
    assert not report.exit_ok
    assert len(report.failures) == 1, report.failures
    return report.failures[0].part, report.failures[0].text


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
    assert absent == set(OPTIONAL_PARTS) - {"ticket", "refusal", "rotations"}
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


# --- terms


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
    evidence = replace(WHOLE.evidence, origin=Origin(ORIGIN.server, "autumn"))
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


# --- submission


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
    layout = Layout(envelope_sha256=sha256(b"other"), envelope_size=1_000, k=2, n=3)
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


# --- promises


@pytest.mark.parametrize(
    ("time", "said"),
    [
        (OPENS, "10 d before the deadline"),
        (CLOSES, "on time"),
        (CLOSES + 5_000, "within the grace"),
    ],
)
def test_a_ticket_is_on_time_to_the_last_millisecond_of_the_grace(time: int, said: str) -> None:
    """Both ends count."""
    report = check(Filing().ticketed(time).evidence)
    assert report.exit_ok, report.failures
    assert said in texts(report, State.OK, "ticket")[0]


@pytest.mark.parametrize(
    ("time", "said"),
    [(OPENS - 1, "before the call opened"), (CLOSES + 5_001, "after the last moment")],
)
def test_a_ticket_out_of_time_fails(time: int, said: str) -> None:
    """One millisecond decides."""
    assert said in only_failure(Filing().ticketed(time).evidence)[1]


def test_a_ticket_after_closing_fails() -> None:
    """Nothing is admitted after a closed entry that nobody superseded."""
    filing = Filing().closed(CLOSES + 5_000).ticketed(CLOSES + 5_000)
    assert "after the call was closed" in only_failure(filing.evidence)[1]


def test_a_call_closed_early_fails() -> None:
    """The last moment belongs to the filers."""
    filing = Filing().ticketed().closed(CLOSES)
    assert "before its last moment" in only_failure(filing.evidence)[1]


def test_closing_under_unknown_terms_fails() -> None:
    """A version that the file hides would show."""
    filing = Filing().ticketed()
    entry = ClosedEntry(origin=str(ORIGIN), time=at(CLOSES + DAY), digest=sha256(b"hidden"))
    filing.add(closed=filing.log.promise(entry))
    assert "it names terms" in only_failure(filing.evidence)[1]


def test_an_early_opening_fails() -> None:
    """Envelopes are sealed until the terms say."""
    filing = Filing().ticketed().staged().closed().opened(STAGE_BY)
    assert "before the terms allow it" in only_failure(filing.evidence)[1]


def test_a_log_that_goes_on_after_opening_fails() -> None:
    """The opening entry is the last."""
    filing = Filing().others(1, OPENS).ticketed().closed().opened().others(1, STAGE_BY + 5)
    late = filing.log.prove(filing.ticket_index).format().decode()
    report = check(replace(filing.evidence, ticket=late))
    assert "must be its last" in " ".join(one.text for one in report.failures)


def test_a_fork_of_the_log_is_shown() -> None:
    """Two checkpoints of one size with two roots are proof against the log's keeper."""
    filing = Filing().others(1, CLOSES - HOUR).ticketed()
    fork = Filing().ticketed().closed()
    part, text = only_failure(replace(filing.evidence, closed=fork.evidence.closed))
    assert part == "log"
    assert "both entry 2" in text
    longer = Filing().ticketed().others(1, CLOSES)
    ticket = longer.log.prove(1).format().decode()
    part, text = only_failure(replace(longer.evidence, ticket=ticket, closed=fork.evidence.closed))
    assert part == "log"
    assert "shows different logs" in text


def test_times_never_decrease_in_a_log() -> None:
    """A ticket that was dated back beside others shows."""
    filing = Filing().extend(OPENS + DAY, title="Renamed").ticketed(OPENS)
    assert "is earlier than entry" in only_failure(filing.evidence)[1]


def test_a_ticket_before_all_terms_fails() -> None:
    """The first entry of a log is its terms."""
    filing = Filing()
    log = MemoryLedger(LOG_KEY)
    entry = TicketEntry(origin=str(ORIGIN), time=at(OPENS), digest=filing.commitment)
    filing.add(ticket=log.promise(entry))
    report = check(filing.evidence)
    assert "before the first terms" in " ".join(one.text for one in report.failures)


def test_a_ticket_by_postmarks_is_refused_clearly() -> None:
    """What cannot be checked is not passed over."""
    filing = Filing()
    entry = PostmarkedEntry(
        origin=str(ORIGIN),
        time=at(CLOSES),
        digest=filing.commitment,
        at=at(CLOSES),
        bundle=bytes(32),
    )
    filing.add(ticket=filing.log.promise(entry))
    assert "cannot check" in only_failure(filing.evidence)[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 1}, "none of this submission"),
        ({"sha256": bytes(32)}, "none of this submission"),
        ({"hold_until": at(REPAIR_BY + 7 * DAY - 1)}, "the terms ask for"),
        ({"digest": bytes(32)}, "expected sha256"),
        ({"relay": "stranger.example"}, "in no version of the terms"),
    ],
)
def test_a_receipt_for_something_else_fails(change: dict[str, object], said: str) -> None:
    """A receipt counts for one fragment, one relay and long enough."""
    filing = Filing().ticketed()
    filing.add(receipts=(filing.receipt(0), filing.receipt(1, **change), filing.receipt(2)))
    part, text = only_failure(filing.evidence)
    assert part == "receipts"
    assert said in text


def test_a_receipt_of_a_relay_that_left_the_terms_still_counts() -> None:
    """Promises outlive the list of relays."""
    relays = (relay_named(RELAYS[1]), relay_named(RELAYS[2]))
    filing = Filing().ticketed().staged().extend(CLOSES, relays=relays)
    assert check(filing.evidence).exit_ok


def test_receipts_for_too_few_fragments_are_said_not_failed() -> None:
    """One of two fragments is not staged, and still a promise."""
    filing = Filing().ticketed()
    filing.add(receipts=(filing.receipt(0), filing.receipt(0)))
    report = check(filing.evidence)
    assert report.exit_ok
    assert "1 of the 2 fragments" in texts(report, State.ABSENT, "staging")[0]


def test_receipts_after_stage_by_do_not_count_as_staged() -> None:
    """What comes too late does not save a submission from lapsing."""
    filing = Filing().ticketed()
    late = at(STAGE_BY + 1)
    filing.add(receipts=(filing.receipt(0), filing.receipt(1, time=late)))
    assert texts(check(filing.evidence), State.ABSENT, "staging")


def test_a_receipt_that_does_not_hold_leaves_no_word_on_staging() -> None:
    """Only receipts that hold are counted."""
    report = check(Filing().ticketed().add(receipts=("nonsense",)).evidence)
    assert [one.part for one in report.failures] == ["receipts"]
    assert not any(one.part == "staging" for one in report.findings)


def test_a_hold_that_has_run_out_is_said() -> None:
    """The reader's own clock tells."""
    evidence = Filing().ticketed().staged().evidence
    report = verify_evidence(evidence, trust=TRUST, now=UnixMillis(REPAIR_BY + 8 * DAY))
    assert report.exit_ok
    assert "has passed" in texts(report, State.OK, "receipts")[0]


def test_postmarks_are_shown_as_evidence() -> None:
    """Each names its relay; none makes a ticket."""
    filing = Filing().ticketed().add(postmarks=_bundle(Filing().commitment, str(ORIGIN)))
    report = check(filing.evidence)
    assert report.exit_ok, report.failures
    assert len(texts(report, State.OK, "postmarks")) == 2


@pytest.mark.parametrize("call", ["permits.example/spring", "permits.example/autumn"])
def test_postmarks_for_something_else_fail(call: str) -> None:
    """Another commitment, another call."""
    commitment = sha256(b"other") if call == str(ORIGIN) else Filing().commitment
    filing = Filing().ticketed().add(postmarks=_bundle(commitment, call))
    assert only_failure(filing.evidence)[0] == "postmarks"


def _bundle(commitment: bytes, call: str) -> bytes:
    marks = []
    for relay in RELAYS[:2]:
        ledger = MemoryLedger(note_key(relay).renamed(f"{relay}/postmarks"))
        entry = PostmarkEntry(
            origin=ledger.origin, time=at(CLOSES), digest=commitment, call_origin=call
        )
        marks.append(Postmark.parse(ledger.promise(entry)))
    return PostmarkBundle(commitment=commitment, postmarks=tuple(marks)).encode()


@pytest.mark.parametrize(
    "parts",
    [
        {"admission": b"admission"},
        {"timestamp": Timestamp(b"token", b"certificate")},
        {"witnessed": "proof"},
    ],
)
def test_what_this_version_cannot_check_fails(parts: dict[str, object]) -> None:
    """A claim that nobody looked at must not pass."""
    part, text = only_failure(Filing().ticketed().add(**parts).evidence)
    assert part in parts
    assert "cannot check" in text


def test_a_file_key_is_left_to_the_envelope() -> None:
    """It opens the envelope or it does not; the file alone cannot tell."""
    report = check(Filing().ticketed().add(file_key=bytes(16)).evidence)
    assert report.exit_ok
    assert sha256(b"envelope").hex() in texts(report, State.OPEN, "file_key")[0]


# --- refusals


def test_a_refusal_alone_proves_an_attempt() -> None:
    """Exit 0, and it says that it is no more."""
    report = check(Filing().refused().evidence)
    assert report.exit_ok, report.failures
    assert "refused as too late" in texts(report, State.OK, "refusal")[0]
    assert "an attempt" in texts(report, State.ABSENT, "ticket")[0]
    assert {one.part for one in report.findings if one.state is State.ABSENT} == {"ticket"}


def test_a_refusal_that_contradicts_the_terms_says_so() -> None:
    """The attempt is proven, and so is the destination's mistake."""
    report = check(Filing().refused(CLOSES).evidence)
    assert report.exit_ok
    assert "contradicts" in texts(report, State.OK, "refusal")[0]


def test_a_refusal_for_another_reason_names_it() -> None:
    """Codes are shown as they were signed."""
    report = check(Filing().refused(CLOSES, "no-outage").evidence)
    assert "no-outage" in texts(report, State.OK, "refusal")[0]


def test_a_refused_submission_that_was_ticketed_later_has_both() -> None:
    """An extension makes room for what was refused."""
    filing = Filing().refused().extend(CLOSES + 2 * HOUR, closes=at(CLOSES + DAY))
    report = check(filing.ticketed(CLOSES + 3 * HOUR).evidence)
    assert report.exit_ok, report.failures
    assert texts(report, State.OK, "refusal")
    assert texts(report, State.OK, "ticket")


def test_a_refusal_of_another_commitment_fails() -> None:
    """An attempt is proven for this submission or for none."""
    other = Filing(first_terms(envelope_limit=2_000_000)).refused()
    evidence = replace(Filing().refused().evidence, refusal=other.evidence.refusal)
    assert only_failure(evidence)[0] == "refusal"


def test_a_refusal_before_the_first_terms_is_judged_by_them() -> None:
    """A clock that was behind does not stop a verifier."""
    assert check(Filing().refused(OPENS - 2 * DAY).evidence).exit_ok


# --- statements


def _moved(place: MinutesPlace | None) -> MinutesPlace:
    assert place is not None
    return replace(place, index=place.index ^ 1)


CHANGES: list[tuple[str, Callable[[Filing], object], str]] = [
    ("status", lambda one: replace(one.status, index=0), "the ticket itself says"),
    ("status", lambda one: replace(one.status, commitment=bytes(32)), "about commitment"),
    (
        "status",
        lambda one: replace(one.status, origin=Origin("permits.example", "autumn")),
        "signature",
    ),
    ("outcome", lambda one: replace(one.outcome, commitment=bytes(32)), "about commitment"),
    ("outcome", lambda one: replace(one.outcome, outcome="rejected"), "another outcome"),
    (
        "outcome",
        lambda one: replace(one.outcome, minutes=_moved(one.outcome.minutes)),
        "expected root",
    ),
    ("minutes", lambda one: replace(one.minutes, opened_at=at(1)), "the opening entry says"),
    (
        "minutes",
        lambda one: replace(one.minutes, checkpoint_note=one.log.checkpoint_note(2)),
        "does not cover",
    ),
    (
        "minutes",
        lambda one: replace(
            one.minutes, checkpoint_note=MemoryLedger(LOG_KEY, [b"x"] * 11).checkpoint_note()
        ),
        "shows different logs",
    ),
    (
        "minutes",
        lambda one: replace(
            one.minutes, checkpoint_note=MemoryLedger(LOG_KEY, [b"x"] * 12).checkpoint_note()
        ),
        "but the opening entry",
    ),
]


@pytest.mark.parametrize(("name", "change", "said"), CHANGES)
def test_a_statement_that_contradicts_the_rest_fails(
    name: str, change: Callable[[Filing], object], said: str
) -> None:
    """Signed statements are checked against each other and against the log."""
    filing = whole_filing()
    filing.state(**{name: change(filing)})
    report = check(filing.evidence)
    assert not report.exit_ok
    assert said in " ".join(one.text for one in report.failures)


def test_an_entry_of_the_minutes_for_another_commitment_fails() -> None:
    """Another filer's place is not this one's."""
    filing = whole_filing()
    place = filing.outcome.minutes
    assert place is not None
    other = replace(
        filing.minutes, count=1, root=sha256(b"\0" + (entry := _other_entry(place.entry)))
    )
    outcome = replace(filing.outcome, minutes=replace(place, entry=entry, index=0, path=()))
    part, text = only_failure(filing.state(minutes=other, outcome=outcome).evidence)
    assert (part, "the minutes' entry is about" in text) == ("minutes", True)


def _other_entry(entry: bytes) -> bytes:
    return entry[:3] + bytes([entry[3] ^ 1]) + entry[4:]


def test_statements_of_another_call_fail() -> None:
    """A server with one status key for two calls cannot mix them up."""
    filing = whole_filing()
    autumn = Origin(ORIGIN.server, "autumn")
    key = note_key(ORIGIN.status)
    minutes = sign_note(replace(filing.minutes, origin=autumn).encode(), key).decode()
    status = sign_note(replace(filing.status, origin=autumn).encode(), key).decode()
    report = check(replace(filing.evidence, minutes=minutes, status=status))
    assert {one.part for one in report.failures} == {"minutes", "status", "consistency"}
    assert all("about the call" in one.text or "needs" in one.text for one in report.failures)


def test_an_outcome_before_there_are_minutes_is_enough() -> None:
    """A place can come later."""
    filing = whole_filing()
    filing.state(outcome=replace(filing.outcome, minutes=None))
    report = check(filing.evidence)
    assert report.exit_ok, report.failures
    assert texts(report, State.ABSENT, "minutes entry")


def test_minutes_of_an_empty_room_say_so() -> None:
    """Nobody named is a fact, too."""
    filing = whole_filing()
    report = check(filing.state(minutes=replace(filing.minutes, present=())).evidence)
    assert "nobody is named" in texts(report, State.OK, "minutes")[0]


def test_reasons_are_quoted() -> None:
    """The filer learns why, in the destination's words."""
    filing = whole_filing()
    reasons = (Reason(code="manifest-mismatch", text="file a is another"),)
    report = check(filing.state(outcome=replace(filing.outcome, reasons=reasons)).evidence)
    assert "manifest-mismatch: file a is another" in texts(report, State.OK, "outcome")[0]


def test_minutes_hold_without_the_opening_proof_and_without_ticket_status() -> None:
    """Each part is checked against what is there."""
    filing = whole_filing()
    report = check(replace(filing.evidence, opening=None, closed=None, outcome=None))
    assert report.exit_ok, report.failures
    attempt = replace(filing.refused().evidence, ticket=None, consistency=None, outcome=None)
    assert check(attempt).exit_ok


def test_a_consistency_proof_that_leads_elsewhere_fails() -> None:
    """A dropped ticket shows."""
    filing = whole_filing()
    path = filing.evidence.consistency
    assert path is not None
    assert only_failure(filing.add(consistency=(*path[:-1], bytes(32))).evidence)[0] == (
        "consistency"
    )
    report = check(replace(filing.evidence, consistency=path, minutes=None))
    assert "needs a ticket and minutes" in report.failures[0].text


# --- one promise alone


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
