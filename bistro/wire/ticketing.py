"""Ticket requests and their answers, one at a time or in bulk.

A body is one item, or an array of 1 to 1,000 of them; the answer has the same shape and order.

Source: docs/spec/ticketing.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from bistro.crypto.digest import HASH_SIZE
from bistro.errors import FormatError
from bistro.ids import COMMITMENT_SIZE
from bistro.wire import codec
from bistro.wire.admission import Admission

MAX_REQUESTS: Final = 1_000
MAX_REQUESTS_SIZE: Final = 524_288
MAX_PROMISE_SIZE: Final = 4_096
MAX_ANSWERS_SIZE: Final = MAX_REQUESTS * (MAX_PROMISE_SIZE + 16)
MAX_CODE_LENGTH: Final = 64
MAX_RETRY_MS: Final = 86_400_000
_VERSION: Final = 1
_TICKETED: Final = 0
_REFUSED: Final = 1
_POSTPONED: Final = 2
_CODE = re.compile(r"[a-z]+(?:-[a-z]+)*")


def require_code(code: str) -> None:
    """Accept what an error code looks like, or raise ``FormatError``.

    Codes that nobody has heard of pass: a newer peer may have more of them.
    """
    if len(code) > MAX_CODE_LENGTH or not _CODE.fullmatch(code):
        raise FormatError(
            f"error code: expected lower-case words with hyphens, found {code[:MAX_CODE_LENGTH]!a}"
        )


def _require_promise(text: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= MAX_PROMISE_SIZE:
        raise FormatError(f"promise: expected 1 to {MAX_PROMISE_SIZE} bytes, found {size}")


@dataclass(frozen=True, slots=True)
class TicketRequest:
    """The request to stamp a commitment.

    Attributes:
        commitment: What is to be stamped, 32 bytes.
        terms_hash: The version of the terms that the filer read.
        admission: Proof of who asks, in calls for registered filers.
    """

    commitment: bytes
    terms_hash: bytes
    admission: Admission | None = None

    @classmethod
    def read(cls, fields: codec.Reader) -> TicketRequest:
        """The request that an array describes, or ``FormatError``."""
        fields.constant(_VERSION)
        request = cls(
            commitment=fields.fixed(COMMITMENT_SIZE),
            terms_hash=fields.fixed(HASH_SIZE),
            admission=_read_admission(fields),
        )
        fields.end()
        return request

    def value(self) -> codec.Value:
        """The array that describes this request."""
        admission = None if self.admission is None else self.admission.value()
        return [_VERSION, self.commitment, self.terms_hash, admission]


def _read_admission(fields: codec.Reader) -> Admission | None:
    found = fields.optional_array()
    return None if found is None else Admission.read(codec.Reader("admission", found))


@dataclass(frozen=True, slots=True)
class TicketRequests:
    """The body of a request.

    Attributes:
        items: What is asked for.
        is_bulk: Whether the body is an array of items, and the answer will be one; a body of
            one bare item is not.

    Raises:
        FormatError: There are no items, too many, or not one in a body that is not bulk.
    """

    items: tuple[TicketRequest, ...]
    is_bulk: bool = False

    def __post_init__(self) -> None:
        """Refuse a number of items that the body cannot have."""
        _require_count("ticket requests", self.items, is_bulk=self.is_bulk)

    @classmethod
    def decode(cls, data: bytes) -> TicketRequests:
        """The requests that a body encodes, or ``FormatError``."""
        readers, is_bulk = _read_body("ticket request", data, MAX_REQUESTS_SIZE)
        return cls(tuple(map(TicketRequest.read, readers)), is_bulk)

    def encode(self) -> bytes:
        """The body."""
        return _encode_body([item.value() for item in self.items], is_bulk=self.is_bulk)


@dataclass(frozen=True, slots=True)
class Ticketed:
    """The commitment has a ticket.

    Attributes:
        ticket: A tlog-proof text, which the reader must verify.
    """

    ticket: str

    def __post_init__(self) -> None:
        """Refuse a text that is no ticket by its size alone."""
        _require_promise(self.ticket)

    def value(self) -> codec.Value:
        """The array that describes this answer."""
        return [_TICKETED, self.ticket]


@dataclass(frozen=True, slots=True)
class Refused:
    """The commitment was refused, and the refusal written down.

    Attributes:
        refusal: A tlog-proof text, which the reader must verify.
    """

    refusal: str

    def __post_init__(self) -> None:
        """Refuse a text that is no refusal by its size alone."""
        _require_promise(self.refusal)

    def value(self) -> codec.Value:
        """The array that describes this answer."""
        return [_REFUSED, self.refusal]


@dataclass(frozen=True, slots=True)
class Postponed:
    """Nothing was decided or written.

    Attributes:
        code: An error code of the catalogue, or one that is not known here.
        retry_ms: When asking again may help; 0 where it cannot without a change.
    """

    code: str
    retry_ms: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no code or no wait."""
        require_code(self.code)
        if not 0 <= self.retry_ms <= MAX_RETRY_MS:
            raise FormatError(f"retry_ms: expected 0 to {MAX_RETRY_MS}, found {self.retry_ms}")

    def value(self) -> codec.Value:
        """The array that describes this answer."""
        return [_POSTPONED, self.code, self.retry_ms]


TicketAnswer: TypeAlias = Ticketed | Refused | Postponed


def _read_answer(fields: codec.Reader) -> TicketAnswer:
    answer: TicketAnswer
    match fields.uint(_POSTPONED):
        case 0:
            answer = Ticketed(fields.text(MAX_PROMISE_SIZE))
        case 1:
            answer = Refused(fields.text(MAX_PROMISE_SIZE))
        case _:
            answer = Postponed(fields.text(MAX_CODE_LENGTH), fields.uint(MAX_RETRY_MS))
    fields.end()
    return answer


@dataclass(frozen=True, slots=True)
class TicketAnswers:
    """The answer to a body of ticket requests.

    Attributes:
        items: One for each request, in order.
        is_bulk: Whether the request was an array of items.
    """

    items: tuple[TicketAnswer, ...]
    is_bulk: bool = False

    def __post_init__(self) -> None:
        """Refuse a number of items that the body cannot have."""
        _require_count("ticket answers", self.items, is_bulk=self.is_bulk)

    @classmethod
    def decode(cls, data: bytes) -> TicketAnswers:
        """The answers that a body encodes, or ``FormatError``."""
        readers, is_bulk = _read_body("ticket answer", data, MAX_ANSWERS_SIZE)
        return cls(tuple(map(_read_answer, readers)), is_bulk)

    def encode(self) -> bytes:
        """The body."""
        return _encode_body([item.value() for item in self.items], is_bulk=self.is_bulk)


def _require_count(what: str, items: Sequence[object], *, is_bulk: bool) -> None:
    maximum = MAX_REQUESTS if is_bulk else 1
    if not 1 <= len(items) <= maximum:
        raise FormatError(f"{what}: expected 1 to {maximum} items, found {len(items)}")


def _read_body(kind: str, data: bytes, max_size: int) -> tuple[list[codec.Reader], bool]:
    """A reader for each item, and whether they stood in an array."""
    try:
        value = codec.decode(data, max_size)
    except FormatError as exc:
        raise FormatError(f"{kind}: {exc.message}") from exc
    # Bytes that encode a body are no body, though a reader would decode them.
    if not isinstance(value, list):
        raise FormatError(f"{kind}: expected array, found {codec.describe(value)}")
    if value and isinstance(value[0], int):
        return [codec.Reader(kind, value)], False
    return codec.Reader(kind, value).rest(kind), True


def _encode_body(values: list[codec.Value], *, is_bulk: bool) -> bytes:
    return codec.encode(values if is_bulk else values[0])
