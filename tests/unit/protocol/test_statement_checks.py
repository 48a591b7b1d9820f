"""Status, outcome and minutes in evidence, against each other and the log."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from bistro.crypto.signing import sign_note
from bistro.ids import Origin
from bistro.protocol.findings import State
from bistro.wire.minutes import MinutesEntry
from bistro.wire.status import MinutesPlace, Reason
from tests.support.evidence import (
    CLOSES,
    HOUR,
    ORIGIN,
    Filing,
    at,
    whole_filing,
)
from tests.support.promises import MemoryLedger
from tests.support.reports import LOG_KEY, check, only_failure, texts
from tests.support.strategies import note_key


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
    ("outcome", lambda one: replace(one.outcome, outcome="superseded"), "another outcome"),
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
    filing = Filing().ticketed().closed().opened()
    entry = MinutesEntry(index=0, commitment=bytes(32), salted=bytes(32))
    minutes = replace(filing.minutes, root=entry.leaf)
    outcome = replace(filing.outcome, minutes=MinutesPlace(entry=entry.encode(), index=0, path=()))
    part, text = only_failure(filing.state(minutes=minutes, outcome=outcome).evidence)
    assert (part, "the minutes' entry is about" in text) == ("minutes", True)


def test_an_entry_of_the_minutes_for_another_ticket_fails() -> None:
    """Two filers may hold one commitment: each has an entry under its own index."""
    filing = Filing().ticketed().closed().opened()
    place = filing.outcome.minutes
    assert place is not None
    entry = replace(MinutesEntry.decode(place.entry), index=2)
    minutes = replace(filing.minutes, root=entry.leaf)
    outcome = replace(filing.outcome, minutes=replace(place, entry=entry.encode()))
    part, text = only_failure(filing.state(minutes=minutes, outcome=outcome).evidence)
    assert part == "minutes"
    assert "about entry 2 of the log, the ticket is entry 1" in text


def test_minutes_that_leave_somebody_out_fail() -> None:
    """Every filer can show it, without the log: its size is in the signed checkpoint."""
    filing = whole_filing()
    first, *_ = check(filing.recorded("opened", hidden=1).state().evidence).failures
    assert "count 7 commitments, the log that they close has 8" in first.text
    first, *_ = check(filing.recorded("opened", invented=1).state().evidence).failures
    assert "count 9 commitments, the log that they close has 8" in first.text
    _, text = only_failure(filing.recorded("opened", hidden=1, invented=1).state().evidence)
    assert "count 2 commitments before this one, the log has 3" in text


def test_minutes_after_an_extension_count_within_bounds() -> None:
    """A call may have been closed before it was extended; no more entries can be anything else."""
    filing = Filing().others(2, CLOSES).closed().others(0, CLOSES)
    filing.extend(CLOSES + 6_000, closes=CLOSES + HOUR).ticketed(CLOSES + HOUR).others(
        1, CLOSES + HOUR
    )
    filing.closed(CLOSES + HOUR + 5_001).opened()
    report = check(filing.evidence)
    assert report.exit_ok, report.failures
    assert "all that the log has" not in texts(report, State.OK, "minutes")[0]
    said = " ".join(
        one.text for one in check(filing.recorded("opened", hidden=1).state().evidence).failures
    )
    assert "the log that they close has 4 to 5" in said


@pytest.mark.parametrize("stated", ["accepted", "rejected"])
def test_what_the_back_office_decides_comes_after_the_minutes(stated: str) -> None:
    """Minutes are written once; the report does not claim more for them."""
    report = check(whole_filing().recorded("opened", stated=stated).state().evidence)
    assert report.exit_ok, report.failures
    said = texts(report, State.OK, "minutes entry")[0]
    assert f"opened; that it was {stated} was decided later" in said


@pytest.mark.parametrize("outcome", ["void", "lapsed", "rejected"])
def test_who_read_no_header_knows_no_token(outcome: str) -> None:
    """The outcome is then salted with nothing, and the report says what that means."""
    filing = whole_filing().recorded(outcome, token=b"", stated=outcome)
    report = check(filing.state().evidence)
    assert report.exit_ok, report.failures
    assert "no header of it could be read" in texts(report, State.OK, "minutes entry")[0]
    filing.recorded("superseded", token=b"", stated="superseded")
    assert "another outcome" in only_failure(filing.state().evidence)[1]


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
