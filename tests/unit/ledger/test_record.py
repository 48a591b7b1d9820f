"""The write-ahead file's bytes: one encoding a value, and no accident goes unseen."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import FormatError
from bistro.instant import UnixMillis
from bistro.ledger.record import (
    HEAD_SIZE,
    MAX_BODY_SIZE,
    MAX_NOTE_SIZE,
    FileHead,
    Record,
    RecordHead,
    encode_record,
    time_of,
)

ITEMS = st.tuples(st.binary(max_size=254), st.binary(min_size=1, max_size=300))


def make_record(start: int, time: int, note: bytes, items: list[tuple[bytes, bytes]]) -> Record:
    return Record(
        start, UnixMillis(time), note, [key for key, _ in items], [entry for _, entry in items]
    )


RECORDS = st.builds(
    make_record,
    st.integers(0, 2**53),
    st.integers(0, 2**53),
    st.binary(max_size=200),
    st.lists(ITEMS, min_size=1, max_size=5),
)


def encode(record: Record) -> bytes:
    return encode_record(
        record.start, record.last_time, record.note, list(record.keys), list(record.entries)
    )


def decode(data: bytes) -> Record:
    return Record.decode(RecordHead.decode(data[:HEAD_SIZE]), data[HEAD_SIZE:])


@given(RECORDS)
def test_decoding_undoes_encoding(record: Record) -> None:
    """And the head says how long the record is."""
    data = encode(record)
    assert decode(data) == record
    assert RecordHead.decode(data[:HEAD_SIZE]).record_size == len(data)


@given(RECORDS, st.data())
def test_a_changed_or_missing_byte_is_found(record: Record, data: st.DataObject) -> None:
    """Any single one; a CRC finds every burst of up to 32 bits."""
    encoded = bytearray(encode(record))
    at = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(FormatError):
        decode(bytes(encoded[:at] + encoded[at + 1 :]))
    encoded[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FormatError):
        decode(bytes(encoded))


@given(st.binary(max_size=300))
def test_any_bytes_decode_or_are_malformed(data: bytes) -> None:
    """Nothing else is raised, whatever a disk holds; also where all CRCs are right."""
    for attempt in (lambda: decode(data), lambda: FileHead.decode(data)):
        with pytest.raises(FormatError):
            attempt()
    head = RecordHead(0, len(data), 3, 0, UnixMillis(0))
    tail = struct.pack(">I4s", zlib.crc32(data), b"Bend")
    try:
        record = Record.decode(head, data + tail)
    except FormatError:
        return
    assert Record.decode(head, data + tail) == record


@pytest.mark.parametrize(
    ("size", "value"), [(2, b"\x00\x03"), (2, b"\x00\x01"), (4, b"\xff\xff\xff\xff"), (4, bytes(4))]
)
def test_impossible_heads_are_refused_also_with_a_right_crc(size: int, value: bytes) -> None:
    """Another version, flags, a length beyond all limits, no entries."""
    at = {
        b"\x00\x03": 4,
        b"\x00\x01": 6,
        b"\xff\xff\xff\xff": 12,
        bytes(4): 16,
    }[value]
    head = bytearray(RecordHead(3, 10, 1, 0, UnixMillis(0)).encode()[:-4])
    head[at : at + size] = value
    with pytest.raises(FormatError, match="record head"):
        RecordHead.decode(bytes(head) + zlib.crc32(head).to_bytes(4, "big"))


@pytest.mark.parametrize(
    ("keys", "entries", "note_size"),
    [
        ([], [], 0),
        ([b"k"], [b"e"], MAX_NOTE_SIZE + 1),
        ([b"k"], [b"e", b"f"], 0),
        ([b"k"], [b""], 0),
        ([b"k" * 255], [b"e"], 0),
        ([b"k"], [b"e" * 65_536], 0),
    ],
)
def test_what_could_not_be_read_is_not_written(
    keys: list[bytes], entries: list[bytes], note_size: int
) -> None:
    """No entries, an empty one, columns of different lengths, sizes above their limits."""
    with pytest.raises(FormatError, match="record"):
        encode_record(0, UnixMillis(0), bytes(note_size), keys, entries)


def test_a_record_has_no_sector_of_zeros() -> None:
    """Else a damaged one could be taken for one that was never completed, and cut."""
    data = encode_record(0, UnixMillis(0), b"", [b""] * 2_000, [b"e"] * 2_000)
    assert bytes(512) not in data


def test_a_batch_above_the_limit_is_not_written() -> None:
    """It would be taken for damage when read."""
    entries = [bytes(60_000)] * (MAX_BODY_SIZE // 60_000 + 1)
    with pytest.raises(FormatError, match="at most"):
        encode_record(0, UnixMillis(0), b"", [b""] * len(entries), entries)


def test_a_file_head_says_whose_file_it_is() -> None:
    """And nothing else is taken for one."""
    head = FileHead("a.example/b", 7)
    data = head.encode()
    assert FileHead.decode(data + b"more") == (head, len(data))
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(FormatError, match="file head"):
            FileHead.decode(bytes(changed))


def test_the_time_stands_in_the_third_line() -> None:
    """Of every kind of entry."""
    assert time_of(b"kind\norigin\n123\nsha256:00\n") == 123
    for bad in (b"", b"a\nb\n1", b"a\nb\nx\nc\n", b"a\nb\n\nc\n"):
        with pytest.raises(FormatError):
            time_of(bad)
