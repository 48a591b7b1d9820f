"""Segment records: any prefix of a file scans to what was written of it."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import FormatError
from bistro.storage.segments import (
    END_SIZE,
    HEAD_SIZE,
    MAX_CLAIM_SIZE,
    Found,
    SegmentRecord,
    decode_head,
    encode_end,
    encode_head,
    scan,
)

RECORDS = st.lists(
    st.tuples(st.binary(min_size=1, max_size=40), st.binary(max_size=60)), max_size=4
)


GENERATION = 0x0123_4567_89AB_CDEF


def encode(claim: bytes, data: bytes, *, generation: int = GENERATION) -> bytes:
    return (
        encode_head(claim, len(data), generation=generation)
        + data
        + encode_end(zlib.crc32(data), generation=generation)
    )


def scan_bytes(data: bytes, *, check_data: bool = True) -> list[Found]:
    return list(
        scan(
            lambda offset, size: data[offset : offset + size],
            file_size=len(data),
            check_data=check_data,
        )
    )


@given(RECORDS, st.data())
def test_any_prefix_scans_to_whole_records_and_at_most_one_incomplete(
    records: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    """What a crash leaves of an append-only file is found as far as it goes."""
    encoded = [encode(claim, body) for claim, body in records]
    whole = b"".join(encoded)
    cut = data.draw(st.integers(0, len(whole)))
    found = scan_bytes(whole[:cut])
    complete = 0
    while sum(map(len, encoded[: complete + 1])) <= cut and complete < len(encoded):
        complete += 1
    assert [one.state for one in found[:complete]] == ["complete"] * complete
    assert len(found) <= complete + 1
    for one, (claim, body) in zip(found, records, strict=False):
        assert (one.record.claim, one.record.data_size) == (claim, len(body))
        at = one.record.data_offset
        assert whole[at : at + one.stored_size] == body[: one.stored_size]
    if len(found) > complete:
        assert found[-1].state == "incomplete"


def test_one_changed_bit_is_never_complete_data() -> None:
    """Whichever bit of a record it is: data, claim, head or end."""
    whole = encode(b"claim", b"data of a fragment")
    for position in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[position // 8] ^= 1 << position % 8
        assert "complete" not in [one.state for one in scan_bytes(bytes(changed))]


def test_damaged_data_is_told_only_where_it_is_read() -> None:
    """A quick scan trusts the end; a full one reads everything, and goes on behind damage."""
    first, second = encode(b"a", b"one" * 9), encode(b"b", b"two")
    changed = bytearray(first + second)
    changed[HEAD_SIZE + 1] ^= 1
    assert [one.state for one in scan_bytes(bytes(changed))] == ["damaged", "complete"]
    states = [one.state for one in scan_bytes(bytes(changed), check_data=False)]
    assert states == ["complete", "complete"]


def test_a_file_that_shrinks_while_it_is_read_is_damaged() -> None:
    """The scan ends, whatever the medium does."""
    whole = encode(b"a", b"x" * 100)

    def read(offset: int, size: int) -> bytes:
        return b"" if offset == HEAD_SIZE + 1 else whole[offset : offset + size]

    (found,) = scan(read, file_size=len(whole), check_data=True)
    assert found.state == "damaged"


def test_what_a_file_held_before_is_no_record_of_it() -> None:
    """A file that is used again has a new generation; old records end the scan."""
    whole = encode(b"new", b"data") + encode(b"old", b"old data", generation=GENERATION ^ 1)
    assert [one.record.claim for one in scan_bytes(whole)] == [b"new"]


def test_the_end_of_another_generation_ends_no_record() -> None:
    """Nor do bytes of a fragment that look like one."""
    data = b"data"
    head = encode_head(b"claim", len(data), generation=GENERATION)
    whole = head + data + encode_end(zlib.crc32(data), generation=GENERATION + 1)
    assert [one.state for one in scan_bytes(whole)] == ["incomplete"]


@pytest.mark.parametrize(
    ("claim", "size"), [(b"", 1), (b"x" * (MAX_CLAIM_SIZE + 1), 1), (b"x", -1)]
)
def test_impossible_records_are_refused(claim: bytes, size: int) -> None:
    """Nothing is written that could not be read."""
    with pytest.raises(FormatError):
        encode_head(claim, size, generation=GENERATION)


def test_a_head_of_another_version_is_refused() -> None:
    """A newer layout is not guessed at."""
    head = bytearray(encode_head(b"c", 3, generation=GENERATION))
    head[5] = 2
    head[32:36] = zlib.crc32(bytes(head[:32])).to_bytes(4, "big")
    with pytest.raises(FormatError, match="version 2"):
        decode_head(lambda offset, size: bytes(head[offset : offset + size]), 0)


def test_places_within_a_record_follow_from_its_sizes() -> None:
    """Head, claim, data, end."""
    record = SegmentRecord(offset=10, claim=b"abc", data_size=7, generation=GENERATION)
    assert record.data_offset == 10 + HEAD_SIZE + 3
    assert record.end == record.data_offset + 7 + END_SIZE
