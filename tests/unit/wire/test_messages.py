"""Ticket requests, receipts presented, staged rows, repairs, batches and releases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import ConflictError, FormatError
from bistro.wire import batches, codec, staging
from bistro.wire.batches import BatchItem, FrameHead, FrameReader, SignedRequest
from bistro.wire.staging import Failure, ReceiptAccepted
from bistro.wire.ticketing import (
    MAX_REQUESTS,
    Postponed,
    Refused,
    TicketAnswers,
    Ticketed,
    TicketRequest,
    TicketRequests,
)
from tests.support import messages

REQUEST = TicketRequest(bytes(32), bytes(32))


def test_one_item_and_an_array_of_one_are_told_apart() -> None:
    """The answer has the shape of the request."""
    alone, listed = TicketRequests((REQUEST,)), TicketRequests((REQUEST,), is_bulk=True)
    assert alone.encode() != listed.encode()
    assert not TicketRequests.decode(alone.encode()).is_bulk
    assert TicketRequests.decode(listed.encode()).is_bulk


def test_a_body_holds_at_most_a_thousand_requests() -> None:
    """Bulk requests and their answers have one limit."""
    full = TicketRequests((REQUEST,) * MAX_REQUESTS, is_bulk=True)
    assert TicketRequests.decode(full.encode()) == full
    with pytest.raises(FormatError, match="expected 1 to 1000 items, found 1001"):
        TicketRequests((REQUEST,) * (MAX_REQUESTS + 1), is_bulk=True)
    with pytest.raises(FormatError, match="expected 1 to 1 items, found 2"):
        TicketRequests((REQUEST,) * 2)
    answers = TicketAnswers((Ticketed("x" * 4_096),) * MAX_REQUESTS, is_bulk=True)
    assert TicketAnswers.decode(answers.encode()) == answers
    with pytest.raises(FormatError, match="found 0"):
        TicketAnswers((), is_bulk=True)


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (Ticketed, [""]),
        (Refused, ["é" * 2_049]),
        (Postponed, ["Code"]),
        (Postponed, ["a" * 65]),
        (Postponed, ["overloaded", -1]),
        (Postponed, ["overloaded", 86_400_001]),
        (ReceiptAccepted, [0, False]),
        (ReceiptAccepted, [256, False]),
        (Failure, ["conflict", "x" * 513]),
        (Failure, ["", "x"]),
        (FrameHead, [bytes(32), 0, 0, 1, "storage"]),
        (FrameHead, [bytes(32), 0, 0, 0, "-"]),
    ],
)
def test_an_answer_that_no_reader_takes_is_not_made(
    make: Callable[..., Any], fields: list[Any]
) -> None:
    """Mistakes are found where they are made."""
    with pytest.raises(FormatError, match="expected"):
        make(*fields)


def test_a_failure_tells_of_an_error_in_few_words() -> None:
    """A long message is cut rather than refused by the peer."""
    failure = Failure.of(ConflictError("x" * 600))
    assert (failure.code, len(failure.message)) == ("conflict", 512)


@pytest.mark.parametrize(
    "values", [[], [[1, 2, True]], [[3, "a", "b"]], [[0, 0, True]], [[0, 1, 1]], [[0, 256, True]],
               [[2, "a"]], [[2, "A", "b"]], [[2, "a", "x" * 513]], [[0, 1, True, None]], [[]],
               [[False, 1, True]]],
)  # fmt: skip
def test_bad_receipt_answers_are_malformed(values: codec.Value) -> None:
    """Answers are as strict as requests."""
    with pytest.raises(FormatError, match="expected"):
        staging.decode_receipt_answers(codec.encode(values))


@pytest.mark.parametrize(
    "values", [[], [[1]], [[0, 0]], [[2]], [[2, "a"]], [[2, "a", "b", "c"]], [0], [[True]]]
)
def test_bad_release_answers_are_malformed(values: codec.Value) -> None:
    """Answers are as strict as requests."""
    with pytest.raises(FormatError, match="expected"):
        batches.decode_release_answers(codec.encode(values))


@pytest.mark.parametrize(
    "values",
    [
        [2, "base", bytes(64), b""],
        [1, "", bytes(64), b""],
        [1, "x" * 4_097, bytes(64), b""],
        [1, "base", bytes(63), b""],
        [1, "base", bytes(64), "body"],
        [1, "base", bytes(64)],
        [1, "base", bytes(64), b"", None],
        [1, b"base", bytes(64), b""],
    ],
)
def test_bad_signed_requests_are_malformed(values: codec.Value) -> None:
    """What a relay keeps as proof has one form."""
    with pytest.raises(FormatError, match="expected"):
        SignedRequest.decode(codec.encode(values))


def test_the_digest_of_a_signed_request_binds_all_of_it() -> None:
    """The released entry names exactly one request."""
    request = SignedRequest("base", bytes(64), b"body")
    others = [
        SignedRequest("Base", bytes(64), b"body"),
        SignedRequest("base", b"\x01" + bytes(63), b"body"),
        SignedRequest("base", bytes(64), b"bodY"),
    ]
    assert len({one.digest for one in [request, *others]}) == 4


def test_lists_have_their_limits() -> None:
    """The longest list decodes; one more is refused by its count."""
    item = BatchItem(bytes(32), 0)
    assert (
        len(batches.decode_batch_request(batches.encode_batch_request([item] * 10_000))) == 10_000
    )
    with pytest.raises(FormatError, match="at most 10000 items"):
        batches.encode_batch_request([item] * 10_001)


STAGED_VALUES: list[codec.Value] = [[at, b"x", 1] for at in range(1, 1_002)]
REPAIR_VALUES: list[codec.Value] = [[at, bytes(32), [1], 1] for at in range(1, 1_002)]


@pytest.mark.parametrize(
    ("decode", "rows"),
    [(staging.decode_staged, STAGED_VALUES), (staging.decode_repairs, REPAIR_VALUES)],
    ids=["staged", "repairs"],
)
def test_a_page_has_at_most_a_thousand_rows(
    decode: Callable[[bytes], tuple[object, ...]], rows: list[codec.Value]
) -> None:
    """A longer list is read page by page."""
    assert len(decode(codec.encode(rows[:-1]))) == 1_000
    with pytest.raises(FormatError, match="expected 0 to 1000 items, found 1001"):
        decode(codec.encode(rows))


@given(
    st.lists(st.tuples(messages.FRAME_HEADS, st.binary(max_size=50)), max_size=5),
    st.lists(st.integers(1, 60)),
)
def test_a_stream_of_frames_reads_the_same_however_it_is_cut(
    drawn: list[tuple[FrameHead, bytes]], cuts: list[int]
) -> None:
    """The network may deliver any pieces."""
    frames = [
        (head if head.code else FrameHead(head.commitment, head.index, head.offset, len(body)),
         b"" if head.code else body)
        for head, body in drawn
    ]  # fmt: skip
    stream = b"".join(head.encode() + body for head, body in frames)
    reader = FrameReader()
    found: list[tuple[FrameHead, bytes]] = []
    for size in [*cuts, len(stream) or 1]:
        piece, stream = stream[:size], stream[size:]
        for part in reader.feed(piece):
            if isinstance(part, FrameHead):
                found.append((part, b""))
            else:
                found[-1] = (found[-1][0], found[-1][1] + part)
    assert found == frames
    assert reader.is_between_frames
    reader.finish()


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 20, 44, 45])
def test_a_stream_that_ends_within_a_frame_is_not_taken_for_whole(cut: int) -> None:
    """A relay that dies is noticed, not believed."""
    stream = FrameHead(bytes(32), 0, 0, length=3).encode() + b"abc"
    reader = FrameReader()
    reader.feed(stream[: min(cut, len(stream) - 1)])
    assert not reader.is_between_frames
    with pytest.raises(FormatError, match="expected the end of a frame"):
        reader.finish()


def test_a_frame_reader_keeps_no_more_than_a_head() -> None:
    """Memory does not grow with the fragment."""
    reader = FrameReader()
    reader.feed(FrameHead(bytes(32), 0, 0, length=2**40).encode())
    for _ in range(3):
        (part,) = reader.feed(bytes(65_536))
        assert part == bytes(65_536)
    assert not reader._pending
