"""The client's journal: what is resumed after a kill between any two steps."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bistro.errors import BistroError, ConflictError, FormatError, RelayFullError
from bistro.instant import UnixMillis
from bistro.protocol.journal import decode_journal, encode_journal
from bistro.protocol.submission import (
    MAX_ATTEMPTS,
    Attempt,
    Progress,
    Request,
    Sealed,
    Step,
    Submission,
    SubmissionState,
)
from tests.support.vectors import Vector, each_vector
from tests.unit.protocol.builders import ORIGIN, cut_of, make_header, sign_header, signing_key

NOW = UnixMillis(1_790_000_000_000)


def begun() -> Submission:
    request = Request(
        sources=("/home/ada/größe.pdf",),
        server_url="https://files.example.org",
        terms_key=signing_key(ORIGIN.server).verifier.format(),
        origin=ORIGIN,
        slot="main",
        form="1040",
    )
    return Submission(id="s1", created_at=NOW, request=request)


def sealed_parts(content: bytes = b"envelope") -> Sealed:
    cut, _ = cut_of(content)
    return Sealed(signed=sign_header(make_header()), cut=cut, terms="terms note\n")


def sealed() -> Submission:
    return begun().seal(sealed_parts())


def ticketed() -> Submission:
    return sealed().take_ticket("ticket text")


def staged() -> Submission:
    """All receipts are there and presented."""
    submission = ticketed()
    for index in range(3):
        relay = f"r{index}.example"
        submission = submission.assign(index, relay).upload_created(index, f"https://{relay}/u")
        submission = submission.receive(index, f"receipt {index}")
    return submission.present({0, 1, 2}).observe(SubmissionState.STAGED, status="note")


def failure(at: UnixMillis = NOW) -> Attempt:
    error = RelayFullError("no room" * 1_000)
    return Attempt.of(error, at=at, step=Step.UPLOAD, peer="r0.example")


def test_a_submission_without_trouble() -> None:
    """Each step leads to the next, and the end is quiet."""
    submission = begun()
    assert submission.next_step is Step.SEAL
    submission = submission.seal(sealed_parts())
    assert submission.next_step is Step.TICKET
    submission = submission.take_ticket("ticket text")
    assert (submission.next_step, len(submission.missing)) == (Step.UPLOAD, 3)
    for index in range(3):
        submission = submission.assign(index, f"r{index}.example")
        assert submission.state is SubmissionState.STAGING
        submission = submission.receive(index, f"receipt {index}")
    assert submission.next_step is Step.PRESENT
    assert len(submission.unpresented) == 3
    submission = submission.present({0, 1, 2}).observe(SubmissionState.STAGED)
    assert (submission.next_step, submission.may_delete_spool) == (Step.WATCH, False)
    submission = submission.observe(SubmissionState.COLLECTED)
    assert submission.may_delete_spool
    submission = submission.observe(SubmissionState.OPENED).conclude("accepted", note="note")
    assert submission.next_step is Step.REST
    assert decode_journal(encode_journal(submission)) == submission


def test_nothing_is_ever_sealed_twice() -> None:
    """Sealing again would be another submission with another ticket."""
    for submission in (sealed(), ticketed(), staged(), sealed().take_refusal("refusal")):
        with pytest.raises(ConflictError, match="sealing"):
            submission.seal(sealed_parts(b"another"))


def test_a_ticket_needs_a_sealed_envelope() -> None:
    """Durable before the ticket."""
    with pytest.raises(ConflictError):
        begun().take_ticket("ticket text")
    assert ticketed().take_ticket("another proof of the same entry") == ticketed()


def test_a_refusal_is_kept_and_may_turn_into_a_ticket() -> None:
    """After an extension the same commitment is asked for again."""
    refused = sealed().take_refusal("refusal text")
    assert refused.next_step is Step.REST
    accepted = refused.take_ticket("ticket text")
    assert (accepted.state, accepted.refusal) == (SubmissionState.TICKETED, "refusal text")
    with pytest.raises(ConflictError):
        ticketed().take_refusal("refusal text")


def test_an_upload_is_continued_where_it_was_created() -> None:
    """The address is on disk; choosing the same relay again keeps it."""
    submission = ticketed().assign(0, "r0.example").upload_created(0, "https://r0.example/u")
    assert submission.assign(0, "r0.example") == submission
    elsewhere = submission.assign(0, "r1.example").fragments[0]
    assert (elsewhere.relay, elsewhere.upload_url) == ("r1.example", None)


def test_a_failed_relay_is_remembered() -> None:
    """Another one is chosen, and the attempt is on record."""
    submission = ticketed().assign(0, "r0.example").upload_created(0, "https://r0.example/u")
    submission = submission.fail(0, failure())
    assert submission.fragments[0] == Progress(0, failed=("r0.example",))
    assert submission.attempts[0].code == "relay-full"
    assert len(submission.attempts[0].message) == 1_000
    again = submission.assign(0, "r0.example").fail(0, failure())
    assert again.fragments[0].failed == ("r0.example",)
    assert again.fail(0, failure()).fragments == again.fragments


def test_attempts_are_bounded() -> None:
    """A journal does not grow with the outage."""
    submission = sealed()
    for number in range(MAX_ATTEMPTS + 5):
        submission = submission.record(failure(UnixMillis(number)))
    assert [submission.attempts[0].at, submission.attempts[-1].at] == [5, MAX_ATTEMPTS + 4]


def test_a_repair_sends_the_same_bytes_elsewhere() -> None:
    """The lost receipt stays as evidence; the submission stays staged."""
    submission = staged().repair({1})
    assert submission.state is SubmissionState.STAGED
    assert submission.next_step is Step.UPLOAD
    assert submission.fragments[1] == Progress(1, failed=("r1.example",), lost=("receipt 1",))
    assert submission.repair({1}) == submission
    submission = submission.assign(1, "r9.example").receive(1, "receipt again")
    assert submission.next_step is Step.PRESENT


def test_a_second_receipt_does_not_replace_the_first() -> None:
    """The same one again is no news."""
    submission = ticketed().assign(0, "r0.example").receive(0, "receipt")
    assert submission.receive(0, "receipt") == submission
    with pytest.raises(ConflictError, match="receipt"):
        submission.receive(0, "other")
    with pytest.raises(ConflictError, match="receipt"):
        submission.assign(0, "r1.example")
    with pytest.raises(ConflictError, match="receipt"):
        submission.fail(0, failure())


def test_older_news_changes_nothing() -> None:
    """A cached status may arrive after a newer one."""
    submission = staged().observe(SubmissionState.COLLECTED, status="newer")
    assert submission.observe(SubmissionState.TICKETED, status="older") == submission
    assert submission.observe(SubmissionState.COLLECTED, status="fresh").status == "fresh"
    assert submission.observe(SubmissionState.COLLECTED).status == "newer"
    with pytest.raises(ConflictError):
        sealed().observe(SubmissionState.STAGED)
    with pytest.raises(ConflictError):
        staged().observe(SubmissionState.SEALING)


def test_a_lapsed_submission_rests() -> None:
    """There is nothing to do; but nobody else has its bytes, so that they stay."""
    lapsed = ticketed().observe(SubmissionState.LAPSED)
    assert (lapsed.next_step, lapsed.may_delete_spool) == (Step.REST, False)
    assert lapsed.conclude("lapsed", note="note").outcome == "lapsed"
    with pytest.raises(ConflictError):
        staged().conclude("opened", note="note")


@pytest.mark.parametrize("index", [-1, 3])
def test_a_fragment_that_is_none_is_malformed(index: int) -> None:
    """The layout says how many there are."""
    with pytest.raises(FormatError):
        ticketed().assign(index, "r0.example")


@pytest.mark.parametrize(
    "changes",
    [
        {"sealed": None, "fragments": ()},
        {"ticket": None},
        {"state": SubmissionState.SEALING},
        {"state": SubmissionState.SEALED},
        {"state": SubmissionState.REFUSED, "ticket": None},
        {"fragments": ()},
        {"fragments": (Progress(1), Progress(0), Progress(2))},
    ],
)
def test_a_state_without_what_it_stands_on_is_malformed(changes: dict[str, Any]) -> None:
    """A journal cannot claim what it does not hold."""
    with pytest.raises(FormatError):
        replace(staged(), **changes)


@pytest.mark.parametrize(
    "fields",
    [
        {"upload_url": "https://r0.example/u"},
        {"receipt": "receipt"},
        {"relay": "r0.example", "is_presented": True},
    ],
)
def test_progress_that_skips_a_step_is_malformed(fields: dict[str, Any]) -> None:
    """No upload without a relay, nothing presented without a receipt."""
    with pytest.raises(FormatError):
        Progress(0, **fields)


STATES = [
    begun(),
    sealed(),
    sealed().take_refusal("refusal"),
    ticketed(),
    ticketed().assign(1, "r1.example").upload_created(1, "https://r1.example/u").record(failure()),
    staged(),
    staged().repair({0}),
    staged().observe(SubmissionState.OPENED).conclude("rejected", note="note"),
]


@pytest.mark.parametrize("submission", STATES, ids=range(len(STATES)))
def test_decoding_a_journal_undoes_encoding(submission: Submission) -> None:
    """What a kill leaves on disk is what was there."""
    data = encode_journal(submission)
    assert decode_journal(data) == submission
    assert encode_journal(decode_journal(data)) == data


def test_a_journal_whose_parts_belong_to_different_envelopes_is_malformed() -> None:
    """The commitment is written down beside what it is made of."""
    document = json.loads(encode_journal(sealed()))
    document["sealed"]["commitment"] = "00" * 32
    data = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    with pytest.raises(FormatError, match="commitment"):
        decode_journal(data.encode())


@each_vector("journal", "valid")
def test_journals_of_earlier_versions_are_read(vector: Vector) -> None:
    """A filer may update the client in the middle of a submission."""
    submission = decode_journal(vector.data)
    assert submission.state == vector["state"]
    assert submission.next_step == vector["next_step"]
    assert encode_journal(submission) == vector.data


@each_vector("journal", "invalid")
def test_damaged_journals_are_malformed(vector: Vector) -> None:
    """Nothing is guessed."""
    with pytest.raises(BistroError) as caught:
        decode_journal(vector.data)
    assert caught.value.code == vector.code


class JournalMachine(RuleBasedStateMachine):
    """Any events, with a kill and a restart from disk after each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.submission = begun()

    def attempt(self, event: Callable[[], Submission]) -> None:
        before = self.submission
        after = before
        with contextlib.suppress(BistroError):
            after = event()
        # Outside: a journal that cannot be read again is the worst that can happen here.
        self.submission = decode_journal(encode_journal(after))
        assert self.submission == after
        assert before.sealed in (None, after.sealed)
        assert before.ticket in (None, after.ticket)
        kept = {f.receipt for f in before.fragments} - {None}
        assert kept <= {r for f in after.fragments for r in (f.receipt, *f.lost)}

    @rule(content=st.sampled_from([b"one", b"two"]))
    def seal(self, content: bytes) -> None:
        self.attempt(lambda: self.submission.seal(sealed_parts(content)))

    @rule(text=st.sampled_from(["ticket 1", "ticket 2"]))
    def take_ticket(self, text: str) -> None:
        self.attempt(lambda: self.submission.take_ticket(text))

    @rule()
    def take_refusal(self) -> None:
        self.attempt(lambda: self.submission.take_refusal("refusal"))

    @rule(index=st.integers(0, 3), relay=st.sampled_from(["a.example", "b.example"]))
    def assign(self, index: int, relay: str) -> None:
        self.attempt(lambda: self.submission.assign(index, relay))

    @rule(index=st.integers(0, 2))
    def create(self, index: int) -> None:
        self.attempt(lambda: self.submission.upload_created(index, "https://a.example/u"))

    @rule(index=st.integers(0, 2), text=st.sampled_from(["receipt 1", "receipt 2"]))
    def receive(self, index: int, text: str) -> None:
        self.attempt(lambda: self.submission.receive(index, text))

    @rule(index=st.integers(0, 2))
    def fail(self, index: int) -> None:
        self.attempt(lambda: self.submission.fail(index, failure()))

    @rule(indexes=st.sets(st.integers(0, 2)))
    def present(self, indexes: set[int]) -> None:
        self.attempt(lambda: self.submission.present(indexes))

    @rule(indexes=st.sets(st.integers(0, 2)))
    def repair(self, indexes: set[int]) -> None:
        self.attempt(lambda: self.submission.repair(indexes))

    @rule(state=st.sampled_from(list(SubmissionState)))
    def observe(self, state: SubmissionState) -> None:
        self.attempt(lambda: self.submission.observe(state, status="note"))

    @rule()
    def conclude(self) -> None:
        self.attempt(lambda: self.submission.conclude("opened", note="note"))

    @invariant()
    def the_next_step_can_be_done(self) -> None:
        match self.submission.next_step:
            case Step.SEAL:
                assert self.submission.sealed is None
            case Step.TICKET:
                assert self.submission.ticket is None
            case Step.UPLOAD:
                assert self.submission.missing
            case Step.PRESENT:
                assert self.submission.unpresented
            case Step.WATCH:
                assert self.submission.ticket is not None
            case _:
                assert not self.submission.sealed or self.submission.state in {
                    SubmissionState.REFUSED,
                    SubmissionState.LAPSED,
                    SubmissionState.OPENED,
                }


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
