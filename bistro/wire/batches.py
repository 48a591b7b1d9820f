"""Pulling fragments from a relay in one stream, and releasing them.

A response is a sequence of frames: ``uint32be length ‖ [commitment, index, offset, length | code]
‖ bytes``. Whoever is cut off continues at any byte with another request.

Source: docs/spec/collection.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import starmap
from typing import Final, TypeAlias, cast

from bistro.crypto.digest import HASH_SIZE, sha256
from bistro.crypto.keys import SIGNATURE_SIZE
from bistro.errors import FormatError
from bistro.ids import COMMITMENT_SIZE, MAX_ORIGIN_LENGTH, Origin
from bistro.wire import codec
from bistro.wire.fragment import MAX_ENVELOPE_SIZE, MAX_FRAGMENTS
from bistro.wire.staging import MAX_MESSAGE_LENGTH, Failure, is_failure
from bistro.wire.ticketing import MAX_CODE_LENGTH, require_code

MAX_ITEMS: Final = 10_000
MAX_BATCH_REQUEST_SIZE: Final = MAX_ITEMS * 64
MAX_RELEASES_SIZE: Final = MAX_ITEMS * (MAX_ORIGIN_LENGTH + 96)
MAX_RELEASE_ANSWERS_SIZE: Final = MAX_ITEMS * (4 * MAX_MESSAGE_LENGTH + MAX_CODE_LENGTH + 16)
MAX_FRAME_HEAD_SIZE: Final = 128
_ALIKE: Final = 1_024
"""Kinds of heads that are remembered."""
MAX_SIGNATURE_BASE_SIZE: Final = 4_096
MAX_SIGNED_REQUEST_SIZE: Final = MAX_RELEASES_SIZE + MAX_SIGNATURE_BASE_SIZE + 128
_ITEM_FIELDS: Final = 3
_LENGTH_SIZE: Final = 4
_COMMITMENT_AT: Final = 3
"""In a head: behind the first byte of the array and the two of the commitment's own."""
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class BatchItem:
    """A fragment that is asked for, from ``offset`` to its end."""

    commitment: bytes
    index: int
    offset: int = 0


def encode_batch_request(items: Sequence[BatchItem]) -> bytes:
    """The body that asks for 1 to 10,000 fragments."""
    return codec.encode([[item.commitment, item.index, item.offset] for item in items])


def decode_batch_request(data: bytes) -> tuple[BatchItem, ...]:
    """What a body asks for, or ``FormatError``."""
    body = codec.Reader("batch request", data, max_size=MAX_BATCH_REQUEST_SIZE)
    _require_any("batch request", body)
    values = body.values()
    if all(map(_is_batch_item, values)):
        return tuple(starmap(BatchItem, cast("Sequence[tuple[bytes, int, int]]", values)))
    # One by one, which says which of them is wrong, and how.
    return tuple(map(_read_batch_item, body.rest("batch request item")))


def _is_batch_item(value: codec.Value) -> bool:
    """Whether the item is one as ``_read_batch_item`` takes it, said at a fifth of its cost."""
    if type(value) is not list or len(value) != _ITEM_FIELDS:
        return False
    commitment, index, offset = value
    return (
        type(commitment) is bytes
        and len(commitment) == COMMITMENT_SIZE
        and type(index) is int
        and index < MAX_FRAGMENTS
        and type(offset) is int
        and offset <= MAX_ENVELOPE_SIZE
    )


def _read_batch_item(fields: codec.Reader) -> BatchItem:
    item = BatchItem(
        commitment=fields.fixed(COMMITMENT_SIZE),
        index=fields.uint(MAX_FRAGMENTS - 1),
        offset=fields.uint(MAX_ENVELOPE_SIZE),
    )
    fields.end()
    return item


@dataclass(frozen=True, slots=True)
class FrameHead:
    """What stands before the bytes of one fragment in a response.

    Attributes:
        commitment: The submission.
        index: The fragment.
        offset: Where in the fragment the bytes begin.
        length: How many bytes follow; 0 where ``code`` is given.
        code: Why the fragment does not follow, an error code; ``None`` where it does.

    Raises:
        FormatError: There are both bytes and a code, or a number is outside its limits.
    """

    commitment: bytes
    index: int
    offset: int
    length: int = 0
    code: str | None = None

    def __post_init__(self) -> None:
        """Refuse a frame that both gives and refuses bytes."""
        if self.code is not None:
            require_code(self.code)
            if self.length:
                raise FormatError(f"frame: expected no bytes beside a code, found {self.length}")

    @classmethod
    def decode(cls, data: bytes) -> FrameHead:
        """The head that ``data``, without its length, encodes; or ``FormatError``."""
        fields = codec.Reader("frame", data, max_size=MAX_FRAME_HEAD_SIZE)
        commitment = fields.fixed(COMMITMENT_SIZE)
        index = fields.uint(MAX_FRAGMENTS - 1)
        offset = fields.uint(MAX_ENVELOPE_SIZE)
        if fields.is_text():
            head = cls(commitment, index, offset, code=fields.text(MAX_CODE_LENGTH))
        else:
            head = cls(commitment, index, offset, length=fields.uint(MAX_ENVELOPE_SIZE))
        fields.end()
        return head

    def encode(self) -> bytes:
        """The head with its length in front: everything before the bytes."""
        last = self.length if self.code is None else self.code
        head = codec.encode([self.commitment, self.index, self.offset, last])
        return len(head).to_bytes(_LENGTH_SIZE, "big") + head


@lru_cache(maxsize=_ALIKE)
def around_commitment(index: int, offset: int, length: int) -> tuple[bytes, bytes]:
    """What stands before and behind the commitment in ``FrameHead.encode``.

    Heads of a batch mostly differ in nothing but the commitment.
    """
    head = FrameHead(bytes(COMMITMENT_SIZE), index, offset, length).encode()
    begin = _LENGTH_SIZE + _COMMITMENT_AT
    return head[:begin], head[begin + COMMITMENT_SIZE :]


@lru_cache(maxsize=_ALIKE)
def _decode_around(before: bytes, after: bytes) -> FrameHead:
    """The head that ``before`` and ``after`` stand in, with a commitment of zeros."""
    return FrameHead.decode(before + bytes(COMMITMENT_SIZE) + after)


def _decode_head(data: bytes) -> FrameHead:
    """As ``FrameHead.decode``: nothing decodes there but what has its commitment here."""
    end = _COMMITMENT_AT + COMMITMENT_SIZE
    alike = _decode_around(data[:_COMMITMENT_AT], data[end:])
    commitment = data[_COMMITMENT_AT:end]
    return FrameHead(commitment, alike.index, alike.offset, alike.length, alike.code)


class FrameReader:
    """Splits a response into heads and the bytes that belong to them, in constant memory."""

    def __init__(self) -> None:
        self._pending = b""  # of a head, less than one
        self._left = 0

    def feed(self, chunk: bytes) -> list[FrameHead | bytes]:
        """What ``chunk`` brought: heads, each followed by its bytes in pieces of any size.

        Raises:
            FormatError: A head is malformed; the rest of the response is worth nothing.
        """
        if self._pending:
            chunk = self._pending + chunk
            self._pending = b""
        found: list[FrameHead | bytes] = []
        at, size = 0, len(chunk)
        while at < size:
            if self._left:
                piece = chunk[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                found.append(piece)
                continue
            begin = at + _LENGTH_SIZE
            end = begin + _head_size(chunk[at:begin])
            if end > size or begin > size:
                self._pending = chunk[at:]
                break
            head = _decode_head(chunk[begin:end])
            self._left = head.length
            found.append(head)
            at = end
        return found

    @property
    def is_between_frames(self) -> bool:
        """Whether everything that was begun has been read to its end."""
        return not (self._left or self._pending)

    def finish(self) -> None:
        """Refuse a response that ends within a frame.

        Raises:
            FormatError: It does; what was read of the last fragment can be continued.
        """
        if not self.is_between_frames:
            raise FormatError("batch: expected the end of a frame, found that of the response")


def _head_size(length: bytes) -> int:
    """Bytes of a head; of a length that is not there as a whole, 0."""
    size = int.from_bytes(length, "big")
    if len(length) < _LENGTH_SIZE:
        return 0
    if not 1 <= size <= MAX_FRAME_HEAD_SIZE:
        raise FormatError(f"frame: expected a head of 1 to {MAX_FRAME_HEAD_SIZE}, found {size}")
    return size


@dataclass(frozen=True, slots=True)
class Release:
    """A fragment that the destination has made durable and the relay may delete."""

    origin: Origin
    commitment: bytes
    index: int
    fragment_hash: bytes


def encode_releases(releases: Sequence[Release]) -> bytes:
    """The body that releases 1 to 10,000 fragments."""
    return codec.encode(
        [
            [str(release.origin), release.commitment, release.index, release.fragment_hash]
            for release in releases
        ]
    )


def decode_releases(data: bytes) -> tuple[Release, ...]:
    """What a body releases, or ``FormatError``."""
    body = codec.Reader("releases", data, max_size=MAX_RELEASES_SIZE)
    _require_any("releases", body)
    return tuple(map(_read_release, body.rest("release")))


def _read_release(fields: codec.Reader) -> Release:
    release = Release(
        origin=Origin.parse(fields.text(MAX_ORIGIN_LENGTH)),
        commitment=fields.fixed(COMMITMENT_SIZE),
        index=fields.uint(MAX_FRAGMENTS - 1),
        fragment_hash=fields.fixed(HASH_SIZE),
    )
    fields.end()
    return release


@dataclass(frozen=True, slots=True)
class Released:
    """The relay has recorded the release, now or earlier."""


ReleaseAnswer: TypeAlias = Released | Failure


def encode_release_answers(answers: Sequence[ReleaseAnswer]) -> bytes:
    """The body that answers releases, one by one in their order."""
    return codec.encode(
        [answer.value() if isinstance(answer, Failure) else [0] for answer in answers]
    )


def decode_release_answers(data: bytes) -> tuple[ReleaseAnswer, ...]:
    """The answers that a body holds, or ``FormatError``."""
    body = codec.Reader("release answers", data, max_size=MAX_RELEASE_ANSWERS_SIZE)
    _require_any("release answers", body)
    return tuple(map(_read_release_answer, body.rest("release answer")))


def _read_release_answer(fields: codec.Reader) -> ReleaseAnswer:
    answer = Failure.read(fields) if is_failure(fields) else Released()
    fields.end()
    return answer


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A collector's request as a relay keeps it: proof of who released what.

    Attributes:
        signature_base: The RFC 9421 signature base, which covers the body by its digest.
        signature: The collector's signature over the signature base.
        body: The request's body.
    """

    signature_base: str
    signature: bytes
    body: bytes

    @classmethod
    def decode(cls, data: bytes) -> SignedRequest:
        """The request that ``data`` encodes, or ``FormatError``; nothing is verified."""
        fields = codec.Reader("signed request", data, max_size=MAX_SIGNED_REQUEST_SIZE)
        fields.constant(_VERSION)
        request = cls(
            signature_base=fields.text(MAX_SIGNATURE_BASE_SIZE, minimum=1),
            signature=fields.fixed(SIGNATURE_SIZE),
            body=fields.blob(MAX_RELEASES_SIZE),
        )
        fields.end()
        return request

    def encode(self) -> bytes:
        """The one encoding of this request."""
        return codec.encode([_VERSION, self.signature_base, self.signature, self.body])

    @property
    def digest(self) -> bytes:
        """SHA-256 of the encoding, which ``released`` entries name."""
        return sha256(self.encode())


def _require_any(what: str, body: codec.Reader) -> None:
    if not 1 <= len(body) <= MAX_ITEMS:
        raise FormatError(f"{what}: expected 1 to {MAX_ITEMS} items, found {len(body)}")
