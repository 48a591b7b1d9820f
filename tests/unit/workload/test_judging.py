"""A verdict finds what was broken, and blames the generator for its own lateness."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bistro.crypto.digest import sha256
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.wire.entry import Entry, RefusedEntry, TicketEntry
from tests.support.promises import MemoryLedger
from tests.support.strategies import note_key
from tests.workload.judging import (
    EDGE_MS,
    LATE_LIMIT_S,
    Rules,
    Spread,
    Verdict,
    judge,
    percentile,
)
from tests.workload.records import Answer, Record, Run

ORIGIN = Origin("workload.example", "spring")
BEGIN = UnixMillis(1_800_000_000_000)
LAST = UnixMillis(BEGIN + 11_000)
RULES = Rules(BEGIN, opens_s=-1.0, last_at=LAST)


class Play:
    """Filings as they went, with the ledgers behind them."""

    def __init__(self) -> None:
        key = note_key(str(ORIGIN))
        self.log = MemoryLedger(key)
        self.refusals = MemoryLedger(key.renamed(ORIGIN.refusals))
        self.records: list[Record] = []

    @property
    def commitments(self) -> list[bytes]:
        return [sha256(b"%d" % record.number) for record in self.records]

    def file(self, due_s: float, answer: Answer = "ticket", **changes: object) -> Record:
        number = len(self.records)
        at = UnixMillis(BEGIN + round(due_s * 1_000))
        digest = sha256(b"%d" % number)
        promise = ""
        if answer == "ticket":
            entry: Entry = TicketEntry(origin=str(ORIGIN), time=at, digest=digest)
            promise = self.log.promise(entry)
        elif answer == "refusal":
            entry = RefusedEntry(
                origin=ORIGIN.refusals, time=at, digest=digest, reason="deadline-passed"
            )
            promise = self.refusals.promise(entry)
        record = Record(number, due_s, asked_at=at, answer=answer, promise=promise, attempts=1)
        record.took_s = 0.004 if promise else None
        for name, value in changes.items():
            setattr(record, name, value)
        self.records.append(record)
        return record

    def judge(self, rules: Rules = RULES, entries: list[bytes] | None = None) -> Verdict:
        return judge(
            Run(tuple(self.records), busy=0.1),
            rules,
            entries=self.log.entries if entries is None else entries,
            key=self.log.key.verifier,
            origin=ORIGIN,
            commitments=self.commitments,
        )


@pytest.fixture
def play() -> Play:
    """A deadline as it should be: two in time, two at the edge, two too late."""
    play = Play()
    for due_s, answer in ((1.0, "ticket"), (10.5, "ticket"), (10.95, "ticket")):
        play.file(due_s, answer)  # type: ignore[arg-type]
    for due_s in (10.99, 11.5):
        play.file(due_s, "refusal")
    play.file(11.6, "none")
    return play


def test_a_deadline_as_it_should_be(play: Play) -> None:
    """Those in time have tickets, those too late have none, the edge is counted apart."""
    verdict = play.judge()
    assert verdict.faults == ()
    assert verdict.is_valid
    assert (verdict.in_time, verdict.edge, verdict.edge_refused) == (2, 2, 1)
    assert (verdict.refused, verdict.unanswered, verdict.tickets) == (1, 1, 3)
    assert verdict.sampled == 5
    assert verdict.log_size == 3


@pytest.mark.parametrize("answer", ["refusal", "none"])
def test_whoever_asked_in_time_must_hold_a_ticket(play: Play, answer: Answer) -> None:
    """A filer who was let down is named, with the reason."""
    play.file(11.0 - EDGE_MS / 1_000, answer, problem="overloaded")
    (fault,) = play.judge().faults
    assert f"in time: {answer} after 1 attempts (overloaded)" in fault


def test_nobody_who_asked_too_late_may_hold_a_ticket(play: Play) -> None:
    """A deadline that lets some through is none."""
    play.file(11.001)
    faults = play.judge().faults
    assert any("too late: has a ticket" in fault for fault in faults)
    assert any(f"is of {LAST + 1}, too late" in fault for fault in faults)


def test_a_ticket_that_the_log_has_lost_is_found(play: Play) -> None:
    """Also one whose place another has taken."""
    assert "ticket 2 is not in the log" in play.judge(entries=play.log.entries[:2]).faults[0]
    swapped = [play.log.entries[at] for at in (1, 0, 2)]
    faults = play.judge(entries=swapped).faults
    assert sum("is not in the log" in fault for fault in faults) == 2
    assert any("time is before" in fault for fault in faults)


def test_a_commitment_has_one_ticket(play: Play) -> None:
    """A second entry for it would be a second time."""
    entries = [*play.log.entries, play.log.entries[-1]]
    assert play.judge(entries=entries).faults == (
        "entry 3: a second ticket for the same commitment",
    )


def test_a_promise_that_does_not_verify_is_found(play: Play) -> None:
    """Signed by somebody else, or no promise at all."""
    other = MemoryLedger(note_key("other.example/spring"))
    ours = play.records[0]
    entry = TicketEntry(
        origin=str(ORIGIN), time=UnixMillis(BEGIN + 1_000), digest=play.commitments[0]
    )
    ours.promise = other.promise(entry)
    play.records[1].promise = "no promise"
    faults = play.judge().faults
    assert any(fault.startswith("filing 0: its ticket:") for fault in faults)
    assert any(fault.startswith("filing 1:") for fault in faults)


def test_filings_that_were_never_asked_for_are_missed(play: Play) -> None:
    """A client that leaves some out has not replayed the profile."""
    last = play.records.pop()
    verdict = judge(
        Run(tuple(play.records), busy=0.1),
        RULES,
        entries=play.log.entries,
        key=play.log.key.verifier,
        origin=ORIGIN,
        commitments=[*play.commitments, sha256(b"%d" % last.number)],
    )
    assert verdict.faults == ("1 filings were never asked for",)


def test_a_late_generator_makes_a_run_invalid(play: Play) -> None:
    """Once is enough: the profile was not what came. An empty run shows nothing either."""
    play.file(2.0, late_s=LATE_LIMIT_S)
    assert play.judge().is_valid
    play.file(2.0, late_s=LATE_LIMIT_S + 0.001)
    assert not play.judge().is_valid
    assert not Play().judge().is_valid


def test_many_faults_are_told_shortly(play: Play) -> None:
    """Twenty, and how many more."""
    for _ in range(30):
        play.file(1.0, "none")
    faults = play.judge().faults
    assert len(faults) == 21
    assert faults[-1] == "and 10 more"


def test_who_comes_before_the_opening_waits_from_the_opening_on() -> None:
    """Nobody can have a ticket before."""
    rules = replace(RULES, opens_s=5.0)
    early = Record(0, due_s=3.0, took_s=2.25, answer="ticket")
    prompt = Record(1, due_s=6.0, took_s=0.25, answer="ticket")
    assert rules.waited_s(early) == rules.waited_s(prompt) == 0.25


def test_quantiles_are_values_that_occurred() -> None:
    """Nearest rank: no value is invented, and nothing is kinder than what was seen."""
    values = [float(x) for x in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 0.999, 1.0)] == [50, 99, 100, 100]
    assert Spread.of([]) == Spread(0, 0, 0, 0, 0)
    assert Spread.of([3.0, 1.0, 2.0]).longest == 3


def test_what_a_client_saw_survives_its_file(tmp_path: Path) -> None:
    """All of it."""
    run = Run(
        (Record(0, 0.5, took_s=0.1, answer="ticket", promise="x"), Record(1, 0.75)),
        busy=0.25,
        reads={200: 3, 0: 1},
        reads_s=(0.1, 0.2),
        postponed={"overloaded": 2},
    )
    run.write(tmp_path / "records")
    assert Run.read(tmp_path / "records") == run
