"""The client's journal of one submission: a frozen value that is written before each step.

| state | event | next | what `resume` does next |
|---|---|---|---|
| sealing | ``seal`` | sealed | seal from the start: nothing was promised yet |
| sealed | ``ticket`` / ``refuse`` | ticketed / refused | ask for the ticket: asking twice is one |
| refused | ``ticket`` (after an extension) | ticketed | nothing by itself |
| ticketed | ``assign`` | staging | choose relays |
| staging | ``receive``, ``present`` | staging | upload and present what is missing |
| ticketed, staging | ``observe`` staged | staged | the same, and watch |
| staged | ``observe`` collected, ``repair`` | collected / staged | as asked |
| any after ticketed | ``observe`` opened, lapsed | opened, lapsed | nothing, or fetch the outcome |

The driver writes the new value to disk atomically, then acts. A kill between the two repeats a
step that is safe to repeat: an upload is found again by its address, a ticket by its commitment.
Only sealing is not, and it happens in exactly one state: once ``seal`` is on disk, ``sealing``
is never entered again.

Source: docs/spec/journal.md.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from bistro.errors import BistroError, ConflictError, FormatError
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.wire.fragment import Cut
from bistro.wire.header import Kind, SignedHeader

MAX_ATTEMPTS: Final = 200
"""Attempts that are kept; the oldest go first."""
MAX_MESSAGE_LENGTH: Final = 1_000


class SubmissionState(StrEnum):
    """Where a submission stands, as its filer knows; the texts stand in the journal."""

    SEALING = "sealing"
    SEALED = "sealed"
    REFUSED = "refused"
    TICKETED = "ticketed"
    STAGING = "staging"
    STAGED = "staged"
    COLLECTED = "collected"
    OPENED = "opened"
    LAPSED = "lapsed"


class Step(StrEnum):
    """What there is to do next."""

    SEAL = "seal"
    TICKET = "ticket"
    UPLOAD = "upload"
    PRESENT = "present"
    WATCH = "watch"
    REST = "rest"


_UNSEALED = frozenset({SubmissionState.SEALING})
_UNTICKETED = frozenset({SubmissionState.SEALING, SubmissionState.SEALED, SubmissionState.REFUSED})
_UPLOADING = frozenset({SubmissionState.TICKETED, SubmissionState.STAGING, SubmissionState.STAGED})
_RANKS: Final = {
    SubmissionState.TICKETED: 0,
    SubmissionState.STAGING: 1,
    SubmissionState.STAGED: 2,
    SubmissionState.COLLECTED: 3,
    SubmissionState.OPENED: 4,
    SubmissionState.LAPSED: 4,
}


@dataclass(frozen=True, slots=True)
class Request:
    """What the filer asked for; written before anything is read.

    Attributes:
        sources: Files and folders, absolute.
        server_url: Where the call was found.
        terms_key: The server's terms key as the filer trusted it then, a vkey.
        origin: The call.
        slot: Of the header.
        kind: Of the header.
        previous: Of the header.
        form: Of the manifest.
        key_file: Where the filer's key lies, absolute; None for the one in the client's home.
    """

    sources: tuple[str, ...]
    server_url: str
    terms_key: str
    origin: Origin
    slot: str
    kind: Kind = "submit"
    previous: bytes | None = None
    form: str | None = None
    key_file: str | None = None


@dataclass(frozen=True, slots=True)
class Sealed:
    """What sealing made; envelope fragments and manifest lie beside the journal.

    Attributes:
        signed: Header with the filer's signature.
        cut: Layout and descriptors.
        terms: The terms note it was sealed for, verbatim.
    """

    signed: SignedHeader
    cut: Cut
    terms: str

    @property
    def commitment(self) -> bytes:
        """What a ticket is asked for."""
        return self.cut.commitment(self.signed.header.leaf)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one fragment is.

    Attributes:
        index: Of the fragment.
        relay: Name of the relay chosen for it.
        upload_url: Where its upload was created, so that it can be continued.
        receipt: The receipt's proof text.
        is_presented: Whether the destination has taken the receipt.
        failed: Relays that failed for it, to be avoided.
        lost: Earlier receipts whose fragments were asked for again: evidence.
    """

    index: int
    relay: str | None = None
    upload_url: str | None = None
    receipt: str | None = None
    is_presented: bool = False
    failed: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse progress that skips a step."""
        if self.relay is None and (self.upload_url is not None or self.receipt is not None):
            raise FormatError(f"journal, fragment {self.index}: expected a relay, found none")
        if self.is_presented and not self.receipt:
            raise FormatError(f"journal, fragment {self.index}: expected a receipt, found none")


@dataclass(frozen=True, slots=True)
class Attempt:
    """Something that was tried and failed, for the filer's own records.

    Attributes:
        at: When.
        step: What was tried.
        peer: Name or URL of who was asked; empty for the own machine.
        code: The error's code.
        message: The error's words.
    """

    at: UnixMillis
    step: Step
    peer: str
    code: str
    message: str

    @classmethod
    def of(cls, error: BistroError, *, at: UnixMillis, step: Step, peer: str) -> Attempt:
        """The record of ``error``."""
        message = error.message[:MAX_MESSAGE_LENGTH]
        return cls(at=at, step=step, peer=peer, code=error.code, message=message)


@dataclass(frozen=True, slots=True)
class Submission:
    """The journal of one submission.

    Attributes:
        id: Name of its folder.
        created_at: When the filer asked.
        request: What for.
        state: See the table above.
        sealed: From ``seal`` on.
        ticket: Proof text, from ``ticket`` on.
        refusal: Proof text of the last refusal, kept as evidence of the attempt.
        fragments: One for each fragment, from ``seal`` on.
        status: The last status note from the destination, verbatim.
        outcome: Name of the outcome, once the filer could read it.
        outcome_note: The note that says so, verbatim.
        repair_cursor: The last row of the destination's repairs that was read.
        attempts: The last failures, oldest first.
    """

    id: str
    created_at: UnixMillis
    request: Request
    state: SubmissionState = SubmissionState.SEALING
    sealed: Sealed | None = None
    ticket: str | None = None
    refusal: str | None = None
    fragments: tuple[Progress, ...] = ()
    status: str | None = None
    outcome: str | None = None
    outcome_note: str | None = None
    repair_cursor: int = 0
    attempts: tuple[Attempt, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a state without what it stands on."""
        if (self.sealed is None) != (self.state in _UNSEALED):
            raise FormatError(f"journal: {self.state} does not go with what was sealed")
        if (self.ticket is None) != (self.state in _UNTICKETED):
            raise FormatError(f"journal: {self.state} does not go with the ticket")
        if self.state is SubmissionState.REFUSED and self.refusal is None:
            raise FormatError("journal: refused without a refusal")
        count = 0 if self.sealed is None else self.sealed.cut.layout.n
        if [fragment.index for fragment in self.fragments] != list(range(count)):
            raise FormatError(f"journal: expected fragments 0 to {count - 1} in order")

    # --- what there is to do ---

    @property
    def next_step(self) -> Step:
        """What ``resume`` does next; a step that was begun is simply done again."""
        if self.state is SubmissionState.SEALING:
            return Step.SEAL
        if self.state is SubmissionState.SEALED:
            return Step.TICKET
        if self.state in _UPLOADING and self.missing:
            return Step.UPLOAD
        if self.state in _UPLOADING and self.unpresented:
            return Step.PRESENT
        is_over = self.state in {SubmissionState.REFUSED, SubmissionState.LAPSED}
        return Step.REST if is_over or self.outcome is not None else Step.WATCH

    @property
    def missing(self) -> tuple[Progress, ...]:
        """Fragments that no relay has given a receipt for."""
        return tuple(fragment for fragment in self.fragments if fragment.receipt is None)

    @property
    def unpresented(self) -> tuple[Progress, ...]:
        """Fragments whose receipts the destination has not taken."""
        return tuple(f for f in self.fragments if f.receipt is not None and not f.is_presented)

    @property
    def may_delete_spool(self) -> bool:
        """Whether the destination has the envelope: only then may its bytes go.

        What lapsed stays: an extension may revive the ticket, and nobody else has the bytes.
        """
        return self.state in {SubmissionState.COLLECTED, SubmissionState.OPENED}

    # --- events ---

    def seal(self, sealed: Sealed) -> Submission:
        """Envelope, fragments and header are durable on the filer's disk.

        Raises:
            ConflictError: It was sealed before; sealing again is another submission.
        """
        self._require(_UNSEALED)
        fragments = tuple(Progress(index) for index in range(sealed.cut.layout.n))
        return replace(self, state=SubmissionState.SEALED, sealed=sealed, fragments=fragments)

    def take_ticket(self, ticket: str) -> Submission:
        """The destination gave a verified ticket; the same one again changes nothing."""
        if self.ticket is not None:
            return self
        self._require({SubmissionState.SEALED, SubmissionState.REFUSED})
        return replace(self, state=SubmissionState.TICKETED, ticket=ticket)

    def take_refusal(self, refusal: str) -> Submission:
        """The destination refused, signed and verified; it stays as evidence."""
        self._require({SubmissionState.SEALED, SubmissionState.REFUSED})
        return replace(self, state=SubmissionState.REFUSED, refusal=refusal)

    def assign(self, index: int, relay: str) -> Submission:
        """``relay`` was chosen for a fragment without receipt; an upload elsewhere is forgotten."""
        self._require(_UPLOADING)
        fragment = self._fragment_without_receipt(index)
        if fragment.relay != relay:
            fragment = replace(fragment, relay=relay, upload_url=None)
        is_first = self.state is SubmissionState.TICKETED
        state = SubmissionState.STAGING if is_first else self.state
        return self._with(fragment, state)

    def upload_created(self, index: int, upload_url: str) -> Submission:
        """The relay created the upload: it can be continued there after a kill."""
        self._require(_UPLOADING)
        return self._with(replace(self._fragment_without_receipt(index), upload_url=upload_url))

    def receive(self, index: int, receipt: str) -> Submission:
        """The relay gave a verified receipt; the same one again changes nothing."""
        if self._fragment(index).receipt == receipt:
            return self
        self._require(_UPLOADING)
        return self._with(replace(self._fragment_without_receipt(index), receipt=receipt))

    def fail(self, index: int, attempt: Attempt) -> Submission:
        """The relay of a fragment failed for good: another one is to be chosen."""
        fragment = self._fragment_without_receipt(index)
        if fragment.relay is None:
            return self.record(attempt)
        failed = tuple(dict.fromkeys((*fragment.failed, fragment.relay)))
        cleared = replace(fragment, relay=None, upload_url=None, failed=failed)
        return self._with(cleared).record(attempt)

    def present(self, indexes: Collection[int]) -> Submission:
        """The destination has taken the receipts of these fragments."""
        changed = self
        for index in sorted(indexes):
            changed = changed._with(replace(changed._fragment(index), is_presented=True))
        return changed

    def repair(self, indexes: Collection[int], *, cursor: int = 0) -> Submission:
        """The destination asks for these fragments again, elsewhere; the bytes stay the same.

        Fragments that are without receipt already are as asked.

        Args:
            indexes: Of the fragments.
            cursor: Of the last row that asked: it is not honoured a second time.
        """
        self._require(_UPLOADING)
        changed = self
        for index in sorted(indexes):
            fragment = changed._fragment(index)
            if fragment.receipt is not None and fragment.relay is not None:
                again = Progress(
                    index,
                    failed=tuple(dict.fromkeys((*fragment.failed, fragment.relay))),
                    lost=(*fragment.lost, fragment.receipt),
                )
                changed = changed._with(again)
        return replace(changed, repair_cursor=max(cursor, self.repair_cursor))

    def observe(self, state: SubmissionState, *, status: str | None = None) -> Submission:
        """The destination says where the submission stands; older news changes nothing.

        Args:
            state: ``ticketed``, ``staged``, ``collected``, ``opened`` or ``lapsed``.
            status: The verified note that says so.
        """
        self._require(_RANKS.keys())
        if state not in _RANKS:
            raise ConflictError(f"journal: the destination cannot say {state} after a ticket")
        if _RANKS[state] < _RANKS[self.state]:
            return self
        return replace(self, state=state, status=status or self.status)

    def conclude(self, outcome: str, *, note: str) -> Submission:
        """The destination says, verified, what became of the submission; may come again."""
        self._require({SubmissionState.OPENED, SubmissionState.LAPSED})
        return replace(self, outcome=outcome, outcome_note=note)

    def record(self, attempt: Attempt) -> Submission:
        """Something failed and may be tried again."""
        return replace(self, attempts=(*self.attempts, attempt)[-MAX_ATTEMPTS:])

    # --- inside ---

    def _require(self, states: Collection[SubmissionState]) -> None:
        if self.state not in states:
            expected = " or ".join(sorted(states))
            raise ConflictError(f"submission: expected to be {expected}, found {self.state}")

    def _fragment(self, index: int) -> Progress:
        if not 0 <= index < len(self.fragments):
            raise FormatError(f"fragment: expected an index below {len(self.fragments)}")
        return self.fragments[index]

    def _fragment_without_receipt(self, index: int) -> Progress:
        fragment = self._fragment(index)
        if fragment.receipt is not None:
            raise ConflictError(f"fragment {index}: a receipt was given already")
        return fragment

    def _with(self, fragment: Progress, state: SubmissionState | None = None) -> Submission:
        at = fragment.index
        fragments = (*self.fragments[:at], fragment, *self.fragments[at + 1 :])
        return replace(self, fragments=fragments, state=state or self.state)
