"""Which submissions count at the opening, and an outcome for every commitment of the log.

Submissions are taken by effective time, then by log index. One counts under its filer key and
slot; the last valid one of a slot decides:

| kind | counts if | effect |
|---|---|---|
| ``submit`` | always | replaces what stood in the slot |
| ``amend`` | ``previous`` is earlier, and not under another key or slot | replaces what stood |
| ``withdraw`` | as ``amend`` | what stood is ``withdrawn``, and so is the withdrawal |

Where the header of ``previous`` could not be read, because it lapsed or its fragments were lost,
nobody can say whose it was. That does not count against the amendment: it touches only its own
key and slot.

What is found wrong only while unpacking (pass 2) is given as a fault to a second ``resolve``:
the submission before it then stands again, and has to be unpacked too. The caller repeats this
until nothing new is to be unpacked; it ends, since every round adds a fault.

Source: docs/spec/opening.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from bistro.errors import VerificationError
from bistro.instant import UnixMillis
from bistro.wire.header import Header, SignedHeader


class Outcome(StrEnum):
    """What became of a submission; the texts stand in minutes and outcome notes."""

    OPENED = "opened"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"
    VOID = "void"
    LAPSED = "lapsed"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why, as a code that programs read and a sentence part for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a submission by itself, before others are looked at."""

    outcome: Outcome
    reason: Reason

    @classmethod
    def lapsed(cls) -> Fault:
        """It was not staged in time."""
        return cls(Outcome.LAPSED, Reason("not-staged", "it was not staged by stage_by"))

    @classmethod
    def lost(cls) -> Fault:
        """It was staged, and too few fragments could be had until ``repair_by``."""
        text = "it was staged, but fewer than k fragments could be had by repair_by"
        return cls(Outcome.VOID, Reason("not-collected", text))

    @classmethod
    def void(cls, code: str, text: str) -> Fault:
        """No header could be read, or the fragments do not belong together."""
        return cls(Outcome.VOID, Reason(code, text))

    @classmethod
    def rejected(cls, code: str, text: str) -> Fault:
        """A header could be read, and something does not fit."""
        return cls(Outcome.REJECTED, Reason(code, text))


@dataclass(frozen=True, slots=True)
class Candidate:
    """One commitment of the log, as it stands before the opening.

    Attributes:
        commitment: 32 bytes, unique in the log.
        index: In the call's log.
        time: Effective time.
        header: What its filer signed; None where none was read, or where it is not the one
            of the commitment or not signed by its key: nothing it says is then believed.
        fault: What is wrong with it; None if nothing is, and then there is a header.
    """

    commitment: bytes
    index: int
    time: UnixMillis
    header: Header | None = None
    fault: Fault | None = None

    def __post_init__(self) -> None:
        """Refuse a candidate without header that nothing is said to be wrong with."""
        if self.header is None and self.fault is None:
            raise ValueError(f"commitment {self.commitment.hex()}: expected a header or a fault")


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one commitment.

    Attributes:
        commitment: 32 bytes.
        index: In the call's log.
        outcome: ``opened`` is the one to unpack.
        reasons: Why, empty where the outcome says it all.
        replaced_by: The commitment that superseded or withdrew it.
    """

    commitment: bytes
    index: int
    outcome: Outcome
    reasons: tuple[Reason, ...] = ()
    replaced_by: bytes | None = None


_Slot: TypeAlias = "tuple[bytes, str]"

_EFFECTS = {"submit": Outcome.OPENED, "amend": Outcome.OPENED, "withdraw": Outcome.WITHDRAWN}
_REPLACED = {Outcome.OPENED: Outcome.SUPERSEDED, Outcome.WITHDRAWN: Outcome.WITHDRAWN}


def judge_header(
    signed: SignedHeader, *, header_leaf: bytes, terms_hashes: Collection[bytes]
) -> Fault | None:
    """What is wrong with a header by itself; None if nothing is.

    Args:
        signed: The ``submission.bin`` found in the envelope.
        header_leaf: The leaf hash that the commitment binds.
        terms_hashes: Terms hashes of all logged versions of the call.
    """
    header = signed.header
    if header.leaf != header_leaf:
        text = f"the commitment binds the header {header_leaf.hex()}, found {header.leaf.hex()}"
        return Fault.rejected("header-mismatch", text)
    if header.terms_hash not in terms_hashes:
        text = f"no version of this call's terms has the hash {header.terms_hash.hex()}"
        return Fault.rejected("unknown-terms", text)
    try:
        signed.verify()
    except VerificationError:
        return Fault.rejected("signature", "the filer's signature does not hold")
    return None


def resolve(candidates: Sequence[Candidate]) -> tuple[Decision, ...]:
    """An outcome for every commitment, in log order."""
    decisions: dict[bytes, Decision] = {}
    known: dict[bytes, _Slot | None] = {}  # earlier commitments, valid or not; None: unread
    standing: dict[_Slot, Candidate] = {}
    for candidate in sorted(candidates, key=lambda c: (c.time, c.index)):
        header = candidate.header
        fault = candidate.fault or _unknown_previous(header, known)
        known[candidate.commitment] = None if header is None else _slot_of(header)
        if fault is not None:
            decisions[candidate.commitment] = _decide(candidate, fault)
        if fault is not None or header is None:  # a candidate without header has a fault
            continue
        slot, outcome = _slot_of(header), _EFFECTS[header.kind]
        before = standing.pop(slot, None)
        if before is not None:
            replaced = _REPLACED[outcome]
            decisions[before.commitment] = _decide(before, replaced, by=candidate)
        if outcome is Outcome.OPENED:
            standing[slot] = candidate
        decisions[candidate.commitment] = _decide(candidate, outcome)
    return tuple(sorted(decisions.values(), key=lambda decision: decision.index))


def _slot_of(header: Header) -> _Slot:
    return header.filer_key, header.slot


def _unknown_previous(header: Header | None, known: Mapping[bytes, _Slot | None]) -> Fault | None:
    """The fault of an amendment or withdrawal of what is not the filer's own earlier one."""
    if header is None or header.previous is None:
        return None
    if header.previous in known and known[header.previous] in {None, _slot_of(header)}:
        return None
    text = "previous is no earlier commitment, or one under another key or slot"
    return Fault.rejected("unknown-previous", text)


def _decide(
    candidate: Candidate, result: Outcome | Fault, *, by: Candidate | None = None
) -> Decision:
    outcome, reasons = (
        (result.outcome, (result.reason,)) if isinstance(result, Fault) else (result, ())
    )
    return Decision(
        commitment=candidate.commitment,
        index=candidate.index,
        outcome=outcome,
        reasons=reasons,
        replaced_by=None if by is None else by.commitment,
    )
