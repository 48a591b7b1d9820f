"""Hypothesis strategies for messages between parties, valid ones only."""

from __future__ import annotations

from typing import TypeVar

from hypothesis import strategies as st

from bistro.wire import batches, codec, staging, ticketing
from bistro.wire.admission import Admission
from bistro.wire.anchor import Anchor, StampedEntry, Timestamp
from bistro.wire.checkpoint import Checkpoint
from tests.support.strategies import (
    CODES,
    HASHES,
    INSTANTS,
    ORIGINS,
    PROMISES,
    SIGNATURES,
    SLOTS,
    UNICODE,
    note_key,
)

Row = TypeVar("Row", staging.StagedRow, staging.Repair)

ADMISSIONS = st.builds(Admission, HASHES, SLOTS, SIGNATURES)
TICKET_REQUEST_ITEMS = st.builds(ticketing.TicketRequest, HASHES, HASHES, st.none() | ADMISSIONS)
TICKET_REQUESTS = st.one_of(
    st.builds(ticketing.TicketRequests, st.tuples(TICKET_REQUEST_ITEMS), st.just(value=False)),
    st.builds(
        ticketing.TicketRequests,
        st.lists(TICKET_REQUEST_ITEMS, min_size=1, max_size=5).map(tuple),
        st.just(value=True),
    ),
)
TICKET_ANSWER_ITEMS: st.SearchStrategy[ticketing.TicketAnswer] = st.one_of(
    st.builds(ticketing.Ticketed, PROMISES),
    st.builds(ticketing.Refused, PROMISES),
    st.builds(ticketing.Postponed, CODES, st.integers(0, ticketing.MAX_RETRY_MS)),
)
TICKET_ANSWERS = st.one_of(
    st.builds(ticketing.TicketAnswers, st.tuples(TICKET_ANSWER_ITEMS), st.just(value=False)),
    st.builds(
        ticketing.TicketAnswers,
        st.lists(TICKET_ANSWER_ITEMS, min_size=1, max_size=5).map(tuple),
        st.just(value=True),
    ),
)
FAILURES = st.builds(staging.Failure, CODES, st.text(UNICODE, max_size=100))
PRESENTED = st.lists(
    st.builds(staging.PresentedReceipt, st.binary(min_size=1, max_size=200), PROMISES),
    min_size=1,
    max_size=4,
).map(tuple)
RECEIPT_ANSWERS = st.lists(
    FAILURES | st.builds(staging.ReceiptAccepted, st.integers(1, 255), st.booleans()),
    min_size=1,
    max_size=5,
).map(tuple)


def _by_cursor(rows: st.SearchStrategy[Row]) -> st.SearchStrategy[tuple[Row, ...]]:
    """Rows as they are listed: the cursor grows."""
    unique = st.lists(rows, max_size=5, unique_by=lambda row: row.cursor)
    return unique.map(lambda found: tuple(sorted(found, key=lambda row: row.cursor)))


_CURSORS = st.integers(1, codec.MAX_UINT)
_INDEXES = st.binary(min_size=1, max_size=9).map(
    lambda found: tuple(sorted({min(index, 254) for index in found}))
)
STAGED = _by_cursor(
    st.builds(staging.StagedRow, _CURSORS, st.binary(min_size=1, max_size=200), INSTANTS)
)
REPAIRS = _by_cursor(st.builds(staging.Repair, _CURSORS, HASHES, _INDEXES, INSTANTS))
BATCH_REQUESTS = st.lists(
    st.builds(batches.BatchItem, HASHES, st.integers(0, 254), st.integers(0, 2**40)),
    min_size=1,
    max_size=9,
).map(tuple)
FRAME_HEADS = st.one_of(
    st.builds(
        batches.FrameHead,
        HASHES,
        st.integers(0, 254),
        st.integers(0, 2**40),
        length=st.integers(0, 300),
    ),
    st.builds(batches.FrameHead, HASHES, st.integers(0, 254), st.integers(0, 2**40), code=CODES),
)
RELEASES = st.lists(
    st.builds(batches.Release, ORIGINS, HASHES, st.integers(0, 254), HASHES),
    min_size=1,
    max_size=5,
).map(tuple)
RELEASE_ANSWERS = st.lists(FAILURES | st.just(batches.Released()), min_size=1, max_size=5).map(
    tuple
)
SIGNED_REQUESTS = st.builds(
    batches.SignedRequest,
    signature_base=st.text(UNICODE, min_size=1, max_size=300),
    signature=SIGNATURES,
    body=st.binary(max_size=300),
)


def _checkpoint_note(size: int, root: bytes) -> bytes:
    key = note_key("permits.example/spring")
    checkpoint = Checkpoint(origin=key.verifier.name, size=size, root=root)
    return checkpoint.signed(key.verifier, key.sign(checkpoint.text()))


TIMESTAMPS = st.builds(
    Timestamp,
    st.binary(min_size=1, max_size=80),
    st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=8).map(tuple),
)
ANCHORS = st.builds(
    lambda size, root, timestamp: Anchor(_checkpoint_note(size, root), timestamp),
    st.integers(1, 1 << 50),
    st.binary(min_size=32, max_size=32),
    TIMESTAMPS,
)
STAMPED = st.builds(
    StampedEntry,
    st.text(alphabet="abc \n=", min_size=1, max_size=80),
    st.lists(TIMESTAMPS, min_size=1, max_size=16).map(tuple),
)
