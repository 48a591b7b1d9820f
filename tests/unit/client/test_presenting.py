"""What the destination may say about receipts, and what the client makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bistro.errors import DeadlinePassedError, RefusedError, UnavailableError
from bistro.protocol.submission import Step, SubmissionState
from bistro.wire.staging import (
    Failure,
    ReceiptAnswer,
    decode_receipt_answers,
    encode_receipt_answers,
)
from bistro_client.journal import read_journal
from tests.unit.client.worlds import world

Verdict = Callable[[tuple[ReceiptAnswer, ...]], tuple[ReceiptAnswer, ...]]


def saying(verdict: Verdict) -> Callable[[bytes], bytes]:
    """Change the answers to receipts."""
    return lambda body: encode_receipt_answers(verdict(decode_receipt_answers(body)))


async def test_a_receipt_that_is_not_believed_is_replaced(tmp_path: Path) -> None:
    """The fragment goes to another relay; the refused receipt is kept as proof."""
    async with world(tmp_path) as w:
        waiting = [Failure("not-verified", "the signature does not hold")]

        def verdict(answers: tuple[ReceiptAnswer, ...]) -> tuple[ReceiptAnswer, ...]:
            return (waiting.pop(), *answers[1:]) if waiting else answers

        w.wire.changes["/receipts"] = saying(verdict)
        done = await w.submitter().submit(w.wish())
        assert done.state is SubmissionState.STAGED
        assert not done.missing
        assert not done.unpresented
        assert [len(one.lost) for one in done.fragments].count(1) == 1
        assert "receipt-refused" in w.listener.keys
        assert any(one.step is Step.PRESENT for one in done.attempts)


async def test_a_destination_that_believes_no_receipt_is_told_about(tmp_path: Path) -> None:
    """It ends after a few rounds, exit 3, with the filer on time and the evidence at hand."""
    async with world(tmp_path) as w:
        w.wire.changes["/receipts"] = saying(
            lambda answers: tuple(Failure("not-verified", "no") for _ in answers)
        )
        with pytest.raises(RefusedError, match="takes none of the relays' receipts") as caught:
            await w.submitter().submit(w.wish())
        assert "on time" in caught.value.hint
        assert read_journal(w.only_folder()).ticket is not None


async def test_a_destination_that_cannot_look_now_is_asked_again(tmp_path: Path) -> None:
    """Its disk, its load and its deadline are no fault of the receipt."""
    async with world(tmp_path) as w:
        codes = ["storage", "overloaded", "unavailable"]
        w.wire.changes["/receipts"] = saying(
            lambda answers: (
                tuple(Failure(codes[-1], "later") for _ in answers)
                if codes and [codes.pop()] and codes
                else answers
            )
        )
        done = await w.submitter().submit(w.wish())
        assert done.state is SubmissionState.STAGED
        assert all(not one.lost for one in done.fragments)


async def test_receipts_that_come_too_late_are_said_to(tmp_path: Path) -> None:
    """``deadline-passed`` is final for this run; nothing is thrown away."""
    async with world(tmp_path) as w:
        w.wire.changes["/receipts"] = saying(
            lambda answers: tuple(Failure("deadline-passed", "stage_by was") for _ in answers)
        )
        with pytest.raises(DeadlinePassedError, match="stage_by was"):
            await w.submitter().submit(w.wish())
        submission = read_journal(w.only_folder())
        assert all(one.receipt for one in submission.fragments)


async def test_receipts_are_shown_later_if_the_destination_breaks_meanwhile(
    tmp_path: Path,
) -> None:
    """Down after the ticket: uploads end, presenting is tried until patience ends."""
    async with world(tmp_path) as w:
        w.wire.changes["/receipts"] = lambda _: b"\xc1"
        with pytest.raises(UnavailableError):
            await w.submitter(limit_ms=5_000).submit(w.wish())
        assert not read_journal(w.only_folder()).missing
        w.wire.changes.clear()
        done = await w.submitter().resume(w.only_folder())
        assert done.state is SubmissionState.STAGED
