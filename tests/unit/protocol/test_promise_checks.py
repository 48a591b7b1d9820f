"""The promises in evidence: ticket, closing, opening, receipts, refusals."""

from dataclasses import replace

import pytest

from bistro.crypto.digest import sha256
from bistro.instant import UnixMillis
from bistro.protocol.findings import State
from bistro.protocol.verification import verify_evidence
from bistro.wire.entry import (
    ClosedEntry,
    HeldEntry,
    PostmarkedEntry,
    PostmarkEntry,
    TicketEntry,
)
from bistro.wire.postmark import Postmark, PostmarkBundle
from bistro.wire.receipt import Receipt
from tests.support.evidence import (
    CLOSES,
    DAY,
    HOUR,
    OPENS,
    ORIGIN,
    RELAYS,
    REPAIR_BY,
    STAGE_BY,
    Filing,
    at,
    first_terms,
)
from tests.support.promises import MemoryLedger
from tests.support.reports import LOG_KEY, TRUST, check, only_failure, texts
from tests.support.strategies import note_key, relay_named


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
    part, text = only_failure(Filing().closed().ticketed(CLOSES + 5_000).evidence)
    assert (part, "is earlier than" in text) == ("log", True)
    assert only_failure(Filing().closed().ticketed(CLOSES + 5_001).evidence)[0] == "ticket"


def test_a_call_closed_early_fails() -> None:
    """The last moment belongs to the filers, to its very end."""
    for time in (CLOSES, CLOSES + 5_000):
        filing = Filing().ticketed().closed(time)
        assert "not after its last moment" in only_failure(filing.evidence)[1]


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


def test_envelopes_that_are_never_sealed_do_not_open_the_call_early() -> None:
    """They may be read as they come, but nobody is shut out before repair_by."""
    terms = first_terms(sealed_until="none")
    filing = Filing(terms).ticketed().closed().opened(REPAIR_BY)
    assert "before the terms allow it" in only_failure(filing.evidence)[1]
    assert check(Filing(terms).ticketed().closed().opened(REPAIR_BY + 1).evidence).exit_ok


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
        ({"fragment_hash": bytes(32)}, "none of this submission"),
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


def test_later_terms_cannot_undo_a_receipt_by_naming_another_key() -> None:
    """Otherwise a destination could spoil the evidence of everybody who filed before."""
    stranger = note_key("relay-0.example", seed="other").verifier
    relays = (replace(relay_named(RELAYS[0]), vkey=stranger), *map(relay_named, RELAYS[1:]))
    filing = Filing().ticketed().staged().extend(CLOSES, relays=relays)
    report = check(filing.evidence)
    assert report.exit_ok, report.failures
    assert "3 fragments" in texts(report, State.OK, "staging")[0]
    before = relay_named(RELAYS[0]).vkey.fingerprint()
    assert any(before in one.by for one in report.findings if one.part == "receipts")


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


def _held(filing: Filing, *, index: int = 0, until: int = REPAIR_BY + 30 * DAY) -> Filing:
    """A receipt, and behind it in the same ledger the relay's word to hold longer."""
    origin = ORIGIN.custody(RELAYS[0])
    ledger = MemoryLedger(note_key(RELAYS[0]).renamed(origin))
    receipt = Receipt.parse(filing.receipt(0)).entry
    entry = HeldEntry(
        origin=origin,
        time=at(CLOSES),
        digest=filing.commitment,
        index=index,
        hold_until=at(until),
    )
    return filing.add(receipts=(ledger.promise(receipt),), held=(ledger.promise(entry),))


def test_a_hold_prolongs_what_a_receipt_promised() -> None:
    """By the same relay, in the same ledger, for the same fragment."""
    report = check(_held(Filing().ticketed()).evidence)
    assert report.exit_ok, report.failures
    assert "hold fragment 0 longer" in texts(report, State.OK, "held")[0]


@pytest.mark.parametrize("changes", [{"index": 1}, {"until": REPAIR_BY}])
def test_a_hold_that_prolongs_nothing_fails(changes: dict[str, int]) -> None:
    """Another fragment's, or a time that the receipt reached already."""
    part, text = only_failure(_held(Filing().ticketed(), **changes).evidence)
    assert (part, "no receipt in this file" in text) == ("held", True)


def test_a_hold_without_its_receipt_fails() -> None:
    """It prolongs a promise; alone it would be one nobody can weigh."""
    filing = _held(Filing().ticketed()).staged(1, 2)
    assert only_failure(filing.evidence)[0] == "held"


def _bundle(commitment: bytes, call: str) -> bytes:
    marks = []
    for relay in RELAYS[:2]:
        ledger = MemoryLedger(note_key(relay).renamed(f"{relay}/postmarks"))
        entry = PostmarkEntry(
            origin=ledger.origin, time=at(CLOSES), digest=commitment, call_origin=call
        )
        marks.append(Postmark.parse(ledger.promise(entry)))
    return PostmarkBundle(commitment=commitment, postmarks=tuple(marks)).encode()


def test_a_file_key_is_left_to_the_envelope() -> None:
    """It opens the envelope or it does not; the file alone cannot tell."""
    report = check(Filing().ticketed().add(file_key=bytes(16)).evidence)
    assert report.exit_ok
    assert sha256(b"envelope").hex() in texts(report, State.OPEN, "file_key")[0]


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
