"""Shows receipts to the destination, which says whether the submission is staged.

Source: docs/spec/staging.md, presenting receipts.
"""

from __future__ import annotations

from collections.abc import Sequence

from bistro.errors import (
    ConflictError,
    DeadlinePassedError,
    RefusedError,
    UnavailableError,
    error_for_code,
)
from bistro.protocol.submission import Attempt, Progress, Step, Submission, SubmissionState
from bistro.wire.staging import (
    MAX_PRESENTED,
    Failure,
    PresentedReceipt,
    ReceiptAccepted,
    ReceiptAnswer,
)
from bistro_client import notices
from bistro_client.claiming import claim_of
from bistro_client.contact import Destination
from bistro_client.journal import Journal
from bistro_client.patience import Patience
from bistro_client.wording import say


async def present(journal: Journal, destination: Destination, patience: Patience) -> Submission:
    """Present all receipts that the destination has not taken; journal what it says.

    A receipt that it refuses for itself is put aside and its fragment asked for again: it goes
    to another relay.

    Raises:
        DeadlinePassedError: ``stage_by`` has passed for the destination.
        UnavailableError: It could not be asked, or could not look at all of them now.
    """
    origin = journal.submission.request.origin
    unpresented = journal.submission.unpresented[:MAX_PRESENTED]
    items = [_item(journal.submission, fragment) for fragment in unpresented]
    answers = await destination.client.present_receipts(origin.call, items)
    await _take(journal, unpresented, answers, patience)
    _require_taken(answers)
    return journal.submission


def _item(submission: Submission, fragment: Progress) -> PresentedReceipt:
    if fragment.receipt is None:
        raise ConflictError(say("presenting.receipts-expected-receipt"))
    claim = claim_of(submission, fragment.index)
    return PresentedReceipt(claim.encode(), fragment.receipt)


async def _take(
    journal: Journal,
    fragments: Sequence[Progress],
    answers: Sequence[ReceiptAnswer],
    patience: Patience,
) -> None:
    """Write down all answers in one step: a crash before it asks all of them again."""
    taken: list[int] = []
    refused: list[tuple[int, Attempt]] = []
    for fragment, answer in zip(fragments, answers, strict=True):
        if isinstance(answer, ReceiptAccepted):
            taken.append(fragment.index)
        elif _is_about_the_receipt(answer):
            error = error_for_code(answer.code, answer.message)
            peer = fragment.relay or ""
            attempt = Attempt.of(error, at=patience.clock.now(), step=Step.PRESENT, peer=peer)
            refused.append((fragment.index, attempt))
            patience.listener.tell(notices.receipt_refused(peer, fragment.index, answer.message))
    is_staged = any(isinstance(one, ReceiptAccepted) and one.is_staged for one in answers)

    def step(submission: Submission) -> Submission:
        submission = submission.present(taken)
        submission = submission.repair([index for index, _ in refused])
        for _, attempt in refused:
            submission = submission.record(attempt)
        return submission.observe(SubmissionState.STAGED) if is_staged else submission

    before = journal.submission.state
    after = await journal.change(step)
    if after.state is SubmissionState.STAGED and before is not SubmissionState.STAGED:
        patience.listener.tell(notices.staged(after))


def _is_about_the_receipt(failure: Failure) -> bool:
    """Whether another receipt would be taken: no question of time or of the server's health."""
    error = error_for_code(failure.code, failure.message)
    return not isinstance(error, (UnavailableError, DeadlinePassedError)) and failure.code in {
        "malformed",
        "not-verified",
        "unknown-object",
        "conflict",
    }


def _require_taken(answers: Sequence[ReceiptAnswer]) -> None:
    """Raise what stands in the way of all receipts, if anything does."""
    for answer in answers:
        if isinstance(answer, Failure) and not _is_about_the_receipt(answer):
            error = error_for_code(answer.code, answer.message)
            if isinstance(error, RefusedError | UnavailableError):
                raise error
            raise UnavailableError(
                say("presenting.receipts-destination-says", answer=answer.message)
            )
