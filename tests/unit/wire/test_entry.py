"""Ledger entries: one text for one value, whatever the kind."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto.digest import leaf_hash
from bistro.errors import BistroError, FormatError
from bistro.instant import MAX_INSTANT, UnixMillis
from bistro.wire.entry import (
    MAX_ENTRY_SIZE,
    REASONS,
    ClosedEntry,
    Entry,
    HeldEntry,
    OpeningEntry,
    PostmarkedEntry,
    PostmarkEntry,
    ReceiptEntry,
    RefusedEntry,
    ReleasedEntry,
    TermsEntry,
    TicketEntry,
    decode_entry,
)
from tests.support.strategies import HASHES, HOST_NAMES, INSTANTS, ORIGINS
from tests.support.vectors import Vector, each_vector

CALLS = ORIGINS.map(str)
SIZES = st.integers(0, 2**53 - 1)
INDEXES = st.integers(0, 254)
REFUSALS = CALLS.map(lambda call: f"{call}/refusals")
POSTMARKS = HOST_NAMES.map(lambda host: f"{host}/postmarks")
CUSTODY = st.tuples(HOST_NAMES, CALLS).map("/custody/".join)

ENTRIES: st.SearchStrategy[Entry] = st.one_of(
    *(
        st.builds(kind, origin=CALLS, time=INSTANTS, digest=HASHES)
        for kind in (TermsEntry, ClosedEntry, OpeningEntry)
    ),
    st.builds(
        TicketEntry, origin=CALLS, time=INSTANTS, digest=HASHES, admission=st.none() | HASHES
    ),
    st.builds(
        PostmarkedEntry, origin=CALLS, time=INSTANTS, digest=HASHES, at=INSTANTS, bundle=HASHES
    ),
    st.builds(
        RefusedEntry,
        origin=REFUSALS,
        time=INSTANTS,
        digest=HASHES,
        reason=st.sampled_from(sorted(REASONS)),
    ),
    st.builds(PostmarkEntry, origin=POSTMARKS, time=INSTANTS, digest=HASHES, call_origin=CALLS),
    st.builds(
        ReceiptEntry,
        origin=CUSTODY,
        time=INSTANTS,
        digest=HASHES,
        index=INDEXES,
        size=SIZES,
        fragment_hash=HASHES,
        hold_until=INSTANTS,
    ),
    st.builds(
        HeldEntry, origin=CUSTODY, time=INSTANTS, digest=HASHES, index=INDEXES, hold_until=INSTANTS
    ),
    st.builds(
        ReleasedEntry,
        origin=CUSTODY,
        time=INSTANTS,
        digest=HASHES,
        index=INDEXES,
        request=st.none() | HASHES,
    ),
    st.builds(
        ReleasedEntry,
        origin=CUSTODY,
        time=INSTANTS,
        digest=HASHES,
        index=INDEXES,
        request=st.none(),
        takedown=HASHES,
    ),
)

TICKET = TicketEntry(origin="a.example/b", time=UnixMillis(7), digest=bytes(32))
RECEIPT = ReceiptEntry(
    origin="relay.example/custody/a.example/b",
    time=UnixMillis(7),
    digest=bytes(32),
    index=3,
    size=9,
    fragment_hash=bytes(32),
    hold_until=UnixMillis(8),
)


@each_vector("entry", "valid")
def test_a_valid_entry_decodes_to_its_fields(vector: Vector) -> None:
    """Every kind has an example whose leaf hash is written down."""
    entry = decode_entry(vector.data)
    assert (entry.KIND, entry.origin, entry.time) == (
        vector["entry"],
        vector["origin"],
        vector["time"],
    )
    assert entry.digest == vector.hex("digest")
    assert entry.encode() == vector.data
    assert leaf_hash(entry.encode()) == vector.hex("leaf")


@each_vector("entry", "invalid")
def test_an_invalid_entry_is_refused_with_its_code(vector: Vector) -> None:
    """Nothing but the one encoding is an entry."""
    with pytest.raises(BistroError) as caught:
        decode_entry(vector.data)
    assert caught.value.code == vector.code


@given(entry=ENTRIES)
def test_decoding_undoes_encoding(entry: Entry) -> None:
    """What was written reads back as the same value, of the same kind."""
    data = entry.encode()
    assert len(data) <= MAX_ENTRY_SIZE
    assert decode_entry(data) == entry


@given(first=ENTRIES, second=ENTRIES)
def test_equal_entries_have_equal_bytes(first: Entry, second: Entry) -> None:
    """Bytes are equal exactly where values are."""
    assert (first == second) == (first.encode() == second.encode())


@given(data=st.binary(max_size=300))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    """There is no third way out, whatever arrives."""
    _decode_or_refuse(data)


@given(entry=ENTRIES, data=st.data())
def test_a_damaged_entry_decodes_to_itself_or_is_refused(entry: Entry, data: st.DataObject) -> None:
    """What decodes after a change encodes to exactly the changed bytes."""
    encoded = bytearray(entry.encode())
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    _decode_or_refuse(bytes(encoded))


def _decode_or_refuse(data: bytes) -> None:
    try:
        entry = decode_entry(data)
    except FormatError:
        return
    assert entry.encode() == data


@pytest.mark.parametrize(
    "wrong",
    [
        {"time": -1},
        {"time": True},
        {"time": MAX_INSTANT + 1},
        {"digest": bytes(31)},
        {"digest": "0" * 32},
        {"origin": "a.example"},
        {"origin": "a.example/b\nx"},
        {"admission": bytes(31)},
    ],
)
def test_an_entry_that_could_not_be_read_cannot_be_made(wrong: dict[str, object]) -> None:
    """A ledger never signs what its readers refuse."""
    with pytest.raises(FormatError):
        replace(TICKET, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"index": 255}, {"index": True}, {"size": -1}, {"size": 2**53}, {"hold_until": 2**60}]
)
def test_a_receipt_has_limits(wrong: dict[str, object]) -> None:
    """Numbers stay within what every reader holds exactly."""
    with pytest.raises(FormatError):
        replace(RECEIPT, **wrong)  # type: ignore[arg-type]


def test_a_custody_entry_names_relay_and_call() -> None:
    """Both are read from the ledger's origin."""
    assert RECEIPT.relay == "relay.example"
    assert RECEIPT.call_origin == "a.example/b"
