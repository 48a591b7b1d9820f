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

What is found wrong only while unpacking (pass 2) is given to ``Resolution.reject``: the submission
before it then stands again, and has to be unpacked too. It ends, since every fault takes one away.

Source: docs/spec/opening.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from bistro.errors import VerificationError
from bistro.instant import UnixMillis
from bistro.wire.admission import Admission
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


def judge_admission(header: Header, admission: Admission, *, commitment: bytes) -> Fault | None:
    """What does not fit between a header and the admission of its ticket; None if it fits.

    The signature is verified again: before the ticket it was for the terms of the request, and
    only now it is known that they are those of the header.
    """
    if header.filer_key != admission.filer_key:
        asked, signed = admission.filer_key.hex(), header.filer_key.hex()
        text = f"filer key {asked} asked for the ticket, the header is of {signed}"
        return Fault.rejected("admission", text)
    if header.slot != admission.slot:
        text = f"the ticket was asked for slot {admission.slot}, the header is for {header.slot}"
        return Fault.rejected("admission", text)
    try:
        admission.verify(commitment=commitment, terms_hash=header.terms_hash)
    except VerificationError:
        text = "the admission's signature is not for this commitment and the header's terms"
        return Fault.rejected("admission", text)
    return None


class Resolution:
    """An outcome for every commitment, kept up to date while unpacking finds faults.

    A fault costs the same however many submissions there are: only the last valid one of a slot
    is ever unpacked, and without it the one before stands as it stood.

    Args:
        candidates: In any order, each commitment once.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._decisions: dict[bytes, Decision] = {}
        # Earlier commitments, valid or not; None: whose header was not read.
        self._known: dict[bytes, _Slot | None] = {}
        # What counts in each slot, oldest first: all but the last were replaced.
        self._valid: dict[_Slot, list[Candidate]] = {}
        for candidate in sorted(candidates, key=lambda c: (c.time, c.index)):
            header = candidate.header
            fault = candidate.fault or _unknown_previous(header, self._known)
            self._known[candidate.commitment] = None if header is None else _slot_of(header)
            if fault is not None:
                self._decide(candidate, fault)
            elif header is not None:  # a candidate without header has a fault
                self._count(candidate, header)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """An outcome for every commitment, in log order."""
        return tuple(sorted(self._decisions.values(), key=lambda decision: decision.index))

    @property
    def standing(self) -> tuple[bytes, ...]:
        """The commitments that count, one a slot at most: those to unpack."""
        tops = (valid[-1] for valid in self._valid.values() if valid)
        return tuple(one.commitment for one in tops if not _is_withdrawal(one))

    def reject(self, commitment: bytes, fault: Fault) -> bytes | None:
        """Take into account that unpacking found something wrong.

        Args:
            commitment: One of ``standing``.
            fault: What was found.

        Returns:
            The commitment that stands again in its place, and has to be unpacked too, if any.

        Raises:
            ValueError: The commitment does not stand.
        """
        slot = self._known.get(commitment)
        valid = [] if slot is None else self._valid.get(slot, [])
        if not valid or valid[-1].commitment != commitment or _is_withdrawal(valid[-1]):
            raise ValueError(f"commitment {commitment.hex()}: expected one that stands")
        self._decide(valid.pop(), fault)
        if not valid or _is_withdrawal(valid[-1]):
            return None
        self._decide(valid[-1], Outcome.OPENED)
        return valid[-1].commitment

    def _count(self, candidate: Candidate, header: Header) -> None:
        outcome = _EFFECTS[header.kind]
        valid = self._valid.setdefault(_slot_of(header), [])
        if valid and not _is_withdrawal(valid[-1]):
            self._decide(valid[-1], _REPLACED[outcome], by=candidate)
        valid.append(candidate)
        self._decide(candidate, outcome)

    def _decide(
        self, candidate: Candidate, result: Outcome | Fault, *, by: Candidate | None = None
    ) -> None:
        outcome, reasons = (
            (result.outcome, (result.reason,)) if isinstance(result, Fault) else (result, ())
        )
        self._decisions[candidate.commitment] = Decision(
            commitment=candidate.commitment,
            index=candidate.index,
            outcome=outcome,
            reasons=reasons,
            replaced_by=None if by is None else by.commitment,
        )


def resolve(candidates: Sequence[Candidate]) -> tuple[Decision, ...]:
    """An outcome for every commitment, in log order."""
    return Resolution(candidates).decisions


def _is_withdrawal(candidate: Candidate) -> bool:
    return candidate.header is not None and candidate.header.kind == "withdraw"


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
