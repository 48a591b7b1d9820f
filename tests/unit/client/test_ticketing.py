"""Only a signed answer counts: what a destination, or somebody in between, may answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from bistro.errors import (
    BistroError,
    DeadlinePassedError,
    NotOpenError,
    UnavailableError,
    UnknownObjectError,
    VerificationError,
)
from bistro.instant import UnixMillis
from bistro.protocol.submission import SubmissionState
from bistro.wire.ticket import Ticket
from bistro.wire.ticketing import Postponed, TicketAnswers, Ticketed
from bistro_client.journal import read_journal
from bistro_client.verifying import Trust, verify_file
from tests.support.clocks import NOON
from tests.unit.client.worlds import Change, World, ticket_of, world


def tampered(body: bytes) -> bytes:
    """The same ticket with one digit of its entry's time changed."""
    (answer,) = TicketAnswers.decode(body).items
    assert isinstance(answer, Ticketed)
    at = answer.ticket.index("extra ") + 60
    other = "A" if answer.ticket[at] != "A" else "B"
    ticket = answer.ticket[:at] + other + answer.ticket[at + 1 :]
    return TicketAnswers((Ticketed(ticket),)).encode()


def answering(*answers: Postponed) -> Change:
    """Replace answers by these, one after the other, then leave them as they are."""
    waiting = list(answers)

    def change(body: bytes) -> bytes:
        return TicketAnswers((waiting.pop(0),)).encode() if waiting else body

    return change


async def test_a_tampered_ticket_is_not_believed(tmp_path: Path) -> None:
    """Exit 4; the sealed submission stays, and the true ticket is there for the asking."""
    async with world(tmp_path) as w:
        w.wire.changes["/tickets"] = tampered
        with pytest.raises((VerificationError, UnavailableError)) as caught:
            await w.submitter(limit_ms=1_000).submit(w.wish())
        assert caught.value.exit_code in {4, 5}
        assert read_journal(w.only_folder()).state is SubmissionState.SEALED
        assert "on-time" not in w.listener.keys
        w.wire.changes.clear()
        assert (await w.submitter().resume(w.only_folder())).state is SubmissionState.STAGED


async def test_a_ticket_for_another_commitment_is_not_believed(tmp_path: Path) -> None:
    """A true ticket of the same log, but not for this submission: exit 4."""
    async with world(tmp_path) as w:
        first = await w.submitter().submit(w.wish())
        other = TicketAnswers((Ticketed(ticket_of(first)),)).encode()
        w.wire.changes["/tickets"] = lambda _: other
        with pytest.raises(VerificationError, match="expected sha256:"):
            await w.submitter().submit(w.wish())


async def test_an_answer_without_meaning_is_asked_for_again(tmp_path: Path) -> None:
    """A proxy's page instead of an answer is no answer; the next one counts."""
    async with world(tmp_path) as w:
        bodies = [b"<html>please log in</html>"] * 2
        w.wire.changes["/tickets"] = lambda body: bodies.pop() if bodies else body
        done = await w.submitter().submit(w.wish())
        assert done.state is SubmissionState.STAGED
        assert not bodies
        assert w.listener.keys.count("waiting") == 1


async def test_overload_is_waited_out(tmp_path: Path) -> None:
    """``overloaded`` says when to ask again; nobody is late for having waited."""
    async with world(tmp_path) as w:
        began = w.clock.now()
        w.wire.changes["/tickets"] = answering(Postponed("overloaded", 4_000))
        done = await w.submitter().submit(w.wish())
        assert done.state is SubmissionState.STAGED
        assert w.clock.now() >= began + 4_000


async def test_a_call_that_opens_in_a_moment_is_waited_for(tmp_path: Path) -> None:
    """Seconds are a clock's error, not a reason to give up."""
    async with world(tmp_path, opens=UnixMillis(NOON + 1_500)) as w:
        done = await w.submitter().submit(w.wish(call="spring"))
        assert done.state is SubmissionState.STAGED
        assert Ticket.parse(ticket_of(done)).time >= NOON + 1_500


async def test_a_destination_whose_disk_failed_is_waited_for(tmp_path: Path) -> None:
    """Its fault is not ours."""
    async with world(tmp_path) as w:
        w.wire.changes["/tickets"] = answering(Postponed("storage", 0), Postponed("new-code", 10))
        assert (await w.submitter().submit(w.wish())).ticket is not None


@pytest.mark.parametrize(
    ("code", "error"),
    [("not-open", NotOpenError), ("unknown-object", UnknownObjectError)],
)
async def test_a_word_that_waiting_cannot_change_ends_the_asking(
    tmp_path: Path, code: str, error: type[BistroError]
) -> None:
    """The error is the destination's, the submission stays sealed."""
    async with world(tmp_path) as w:
        w.wire.changes["/tickets"] = answering(Postponed(code, 0))
        with pytest.raises(error) as caught:
            await w.submitter().submit(w.wish())
        assert caught.value.hint
        assert read_journal(w.only_folder()).state is SubmissionState.SEALED


async def refuse_late(w: World) -> DeadlinePassedError:
    w.clock.advance(2 * 3_600_000 - 10_000)
    with pytest.raises(DeadlinePassedError) as caught:
        await w.submitter().submit(w.wish(call="spring"))  # it may be closed by now
    return caught.value


async def test_a_refusal_is_kept_as_proof_of_the_attempt(tmp_path: Path) -> None:
    """Exit 3; the message says not on time, and the signed refusal verifies offline."""
    async with world(tmp_path) as w:
        error = await refuse_late(w)
        folder = w.only_folder()
        assert "NOT on time" in error.hint
        assert str(folder.refusal) in error.hint
        assert read_journal(folder).state is SubmissionState.REFUSED
        trust = Trust(given=[w.destination.terms.keys.terms])
        for path in (folder.refusal, folder.evidence):
            assert verify_file(path, trust).holds


async def test_a_refused_submission_stays_refused(tmp_path: Path) -> None:
    """Without an extension ``resume`` says so again and asks for nothing new."""
    async with world(tmp_path) as w:
        await refuse_late(w)
        asked = len([one for one in w.wire.asked if one.endswith("/tickets")])
        with pytest.raises(DeadlinePassedError):
            await w.submitter().resume(w.only_folder())
        assert len([one for one in w.wire.asked if one.endswith("/tickets")]) == asked


async def test_a_destination_that_is_down_is_waited_for(tmp_path: Path) -> None:
    """The ticket is asked for until somebody answers."""
    async with world(tmp_path) as w:
        w.wire.changes["/tickets"] = lambda _: b"\xc1"
        with pytest.raises(UnavailableError):
            await w.submitter(limit_ms=20_000).submit(w.wish())
        assert read_journal(w.only_folder()).state is SubmissionState.SEALED
        w.wire.changes.clear()
        w.wire.down = True
        with pytest.raises(UnavailableError):
            await w.submitter(limit_ms=20_000).resume(w.only_folder())
        w.wire.down = False
        assert (await w.submitter().resume(w.only_folder())).state is SubmissionState.STAGED
