"""What is said about staged fragments: receipts presented, rows of a relay, repairs asked for.

Claims and receipts travel as they are, so that one bad item of many is answered by itself and
does not spoil the others.

Source: docs/spec/staging.md and docs/spec/collection.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeAlias

from bistro.errors import BistroError, FormatError
from bistro.ids import COMMITMENT_SIZE
from bistro.instant import MAX_INSTANT, UnixMillis
from bistro.wire import codec
from bistro.wire.claim import MAX_CLAIM_SIZE
from bistro.wire.fragment import MAX_FRAGMENTS
from bistro.wire.ticketing import MAX_CODE_LENGTH, MAX_PROMISE_SIZE, require_code

MAX_PRESENTED: Final = 255
MAX_PRESENTED_SIZE: Final = 4_194_304
MAX_MESSAGE_LENGTH: Final = 512
MAX_RECEIPT_ANSWERS_SIZE: Final = MAX_PRESENTED * (4 * MAX_MESSAGE_LENGTH + MAX_CODE_LENGTH + 16)
MAX_STAGED_ROWS: Final = 1_000
MAX_STAGED_SIZE: Final = MAX_STAGED_ROWS * (MAX_CLAIM_SIZE + 32)
MAX_REPAIRS: Final = 1_000
MAX_REPAIRS_SIZE: Final = MAX_REPAIRS * (2 * MAX_FRAGMENTS + 64)
_ACCEPTED: Final = 0
_FAILED: Final = 2


@dataclass(frozen=True, slots=True)
class PresentedReceipt:
    """A receipt that a filer shows to the destination.

    Attributes:
        claim: The encoded claim that the relay was shown.
        receipt: The relay's receipt, a tlog-proof text.
    """

    claim: bytes
    receipt: str


def encode_presented(items: tuple[PresentedReceipt, ...]) -> bytes:
    """The body that presents 1 to 255 receipts."""
    return codec.encode([[item.claim, item.receipt] for item in items])


def decode_presented(data: bytes) -> tuple[PresentedReceipt, ...]:
    """The receipts that a body presents, or ``FormatError``; none of them is verified."""
    body = codec.Reader("receipts", data, max_size=MAX_PRESENTED_SIZE)
    _require_count("receipts", len(body), minimum=1, maximum=MAX_PRESENTED)
    return tuple(map(_read_presented, body.rest("receipt")))


def _read_presented(fields: codec.Reader) -> PresentedReceipt:
    presented = PresentedReceipt(
        claim=fields.blob(MAX_CLAIM_SIZE, minimum=1),
        receipt=fields.text(MAX_PROMISE_SIZE, minimum=1),
    )
    fields.end()
    return presented


@dataclass(frozen=True, slots=True)
class ReceiptAccepted:
    """A receipt counts.

    Attributes:
        distinct_count: For how many fragments of its commitment the destination has receipts.
        is_staged: Whether those are enough: the submission cannot lapse any more.
    """

    distinct_count: int
    is_staged: bool

    def __post_init__(self) -> None:
        """Refuse a count that no submission has."""
        if not 1 <= self.distinct_count <= MAX_FRAGMENTS:
            raise FormatError(
                f"receipt answer: expected a count of 1 to {MAX_FRAGMENTS}, "
                f"found {self.distinct_count}"
            )


@dataclass(frozen=True, slots=True)
class Failure:
    """One item of a request failed; the others are not touched by it.

    Attributes:
        code: An error code of the catalogue, or one that is not known here.
        message: What was expected and found, at most 512 characters.
    """

    code: str
    message: str

    def __post_init__(self) -> None:
        """Refuse what is no code, or a message that no reader takes."""
        require_code(self.code)
        if len(self.message) > MAX_MESSAGE_LENGTH:
            raise FormatError(
                f"failure: expected a message of at most {MAX_MESSAGE_LENGTH} characters, "
                f"found {len(self.message)}"
            )

    @classmethod
    def of(cls, error: BistroError) -> Failure:
        """The failure that tells a peer about ``error``; a long message is cut."""
        return cls(error.code, error.message[:MAX_MESSAGE_LENGTH])

    @classmethod
    def read(cls, fields: codec.Reader) -> Failure:
        """The failure whose code and message are the next fields of an answer."""
        return cls(fields.text(MAX_CODE_LENGTH), fields.text(MAX_MESSAGE_LENGTH))

    def value(self) -> list[codec.Value]:
        """The array that describes this failure as an answer."""
        return [_FAILED, self.code, self.message]


ReceiptAnswer: TypeAlias = ReceiptAccepted | Failure


def encode_receipt_answers(items: tuple[ReceiptAnswer, ...]) -> bytes:
    """The body that answers presented receipts, one by one in their order."""
    return codec.encode(
        [
            item.value()
            if isinstance(item, Failure)
            else [_ACCEPTED, item.distinct_count, item.is_staged]
            for item in items
        ]
    )


def decode_receipt_answers(data: bytes) -> tuple[ReceiptAnswer, ...]:
    """The answers that a body holds, or ``FormatError``."""
    body = codec.Reader("receipt answers", data, max_size=MAX_RECEIPT_ANSWERS_SIZE)
    _require_count("receipt answers", len(body), minimum=1, maximum=MAX_PRESENTED)
    return tuple(map(_read_receipt_answer, body.rest("receipt answer")))


def _read_receipt_answer(fields: codec.Reader) -> ReceiptAnswer:
    answer: ReceiptAnswer
    if is_failure(fields):
        answer = Failure.read(fields)
    else:
        answer = ReceiptAccepted(
            distinct_count=fields.uint(MAX_FRAGMENTS), is_staged=fields.boolean()
        )
    fields.end()
    return answer


def is_failure(fields: codec.Reader) -> bool:
    """Whether the next field says that an item failed; anything but 0 and 2 is malformed."""
    result = fields.uint(_FAILED)
    if result not in {_ACCEPTED, _FAILED}:
        raise FormatError(f"answer: expected {_ACCEPTED} or {_FAILED} first, found {result}")
    return result == _FAILED


@dataclass(frozen=True, slots=True)
class StagedRow:
    """A fragment that a relay holds.

    Attributes:
        cursor: Its place in the relay's list; never lower than that of an earlier row.
        claim: The encoded claim it came with, which the reader must verify.
        hold_until: Until when the relay promised to hold it.
    """

    cursor: int
    claim: bytes
    hold_until: UnixMillis


def encode_staged(rows: tuple[StagedRow, ...]) -> bytes:
    """The body that lists at most 1,000 staged fragments."""
    return codec.encode([[row.cursor, row.claim, row.hold_until] for row in rows])


def decode_staged(data: bytes) -> tuple[StagedRow, ...]:
    """The rows that a body lists, or ``FormatError``: their cursors must grow."""
    body = codec.Reader("staged", data, max_size=MAX_STAGED_SIZE)
    _require_count("staged", len(body), minimum=0, maximum=MAX_STAGED_ROWS)
    rows = tuple(map(_read_staged, body.rest("staged row")))
    _require_growing("staged", [row.cursor for row in rows])
    return rows


def _read_staged(fields: codec.Reader) -> StagedRow:
    row = StagedRow(
        cursor=fields.uint(minimum=1),
        claim=fields.blob(MAX_CLAIM_SIZE, minimum=1),
        hold_until=UnixMillis(fields.uint(MAX_INSTANT)),
    )
    fields.end()
    return row


@dataclass(frozen=True, slots=True)
class Repair:
    """Fragments that the destination asks a filer to stage again.

    Attributes:
        cursor: Its place in the destination's list.
        commitment: The submission.
        indexes: The fragments, in growing order.
        until: When it is too late.
    """

    cursor: int
    commitment: bytes
    indexes: tuple[int, ...]
    until: UnixMillis


def encode_repairs(repairs: tuple[Repair, ...]) -> bytes:
    """The body that lists at most 1,000 repairs."""
    return codec.encode(
        [[repair.cursor, repair.commitment, repair.indexes, repair.until] for repair in repairs]
    )


def decode_repairs(data: bytes) -> tuple[Repair, ...]:
    """The repairs that a body lists, or ``FormatError``: cursors and indexes must grow."""
    body = codec.Reader("repairs", data, max_size=MAX_REPAIRS_SIZE)
    _require_count("repairs", len(body), minimum=0, maximum=MAX_REPAIRS)
    repairs = tuple(map(_read_repair, body.rest("repair")))
    _require_growing("repairs", [repair.cursor for repair in repairs])
    return repairs


def _read_repair(fields: codec.Reader) -> Repair:
    cursor = fields.uint(minimum=1)
    commitment = fields.fixed(COMMITMENT_SIZE)
    indexes = codec.Reader("repair, indexes", fields.array(MAX_FRAGMENTS, minimum=1))
    repair = Repair(
        cursor=cursor,
        commitment=commitment,
        indexes=tuple(indexes.uint(MAX_FRAGMENTS - 1) for _ in range(len(indexes))),
        until=UnixMillis(fields.uint(MAX_INSTANT)),
    )
    fields.end()
    _require_growing("repair, indexes", repair.indexes)
    return repair


def _require_growing(what: str, numbers: list[int] | tuple[int, ...]) -> None:
    for number, following in pairwise(numbers):
        if not number < following:
            raise FormatError(f"{what}: expected growing numbers, found {following} after {number}")


def _require_count(what: str, found: int, *, minimum: int, maximum: int) -> None:
    if not minimum <= found <= maximum:
        raise FormatError(f"{what}: expected {minimum} to {maximum} items, found {found}")
