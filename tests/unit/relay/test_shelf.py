"""The shelf: batches, segments that are used again, and nothing lost whatever the disk does."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bistro.errors import StorageError
from bistro_relay.store.segments import is_full
from bistro_relay.store.shared import SEGMENT_SIZE, Place, Record, SharedFiles, Wanted
from bistro_relay.store.shelf import MAX_SPARE, Shelf
from tests.support.disks import FaultyDisk, How, KilledError

BIG = 1_000_000
ROOM = 1 << 40


class Bench:
    """A shelf, its disk, and what it should hold."""

    def __init__(self, root: Path) -> None:
        self.disk = FaultyDisk()
        self.files = SharedFiles(root, disk=self.disk)
        self.free = ROOM
        self.shelf = Shelf(self.files, lambda: self.free)
        self.live: dict[Place, bytes] = {}
        self.number = 0

    def record(self, size: int = 100) -> Record:
        self.number += 1
        return Record.of(b"claim %d" % self.number, self.number.to_bytes(4, "big") * (size // 4))

    def put(self, *sizes: int) -> list[Wanted]:
        """Write one batch, with rows; what can be looked for."""
        records = [self.record(size) for size in sizes]
        places = self.shelf.write(records)
        for place, record in zip(places, records, strict=True):
            self.shelf.keep(place)
            self.live[place] = bytes(record.data)
        return [
            Wanted(place, record.claim, len(record.data))
            for place, record in zip(places, records, strict=True)
        ]

    def drop(self, wanted: Wanted) -> None:
        self.shelf.give_up(wanted)
        del self.live[wanted.place]

    def tend(self) -> None:
        self.shelf.recycle(self.shelf.list_empty())

    def names(self) -> list[int]:
        return self.files.numbers()


def read_all(bench: Bench, wanted: list[Wanted]) -> list[bytes]:
    """What is read, where nothing may be missing."""
    found: list[bytes] = []
    for one in bench.shelf.read(wanted):
        assert not isinstance(one, StorageError)
        found.append(bytes(one))
    return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    found = Bench(tmp_path)
    yield found
    found.shelf.close()


def test_a_batch_is_one_write_and_one_sync(bench: Bench) -> None:
    """Whatever the number of fragments, and no name is made for any of them."""
    bench.put(100)
    before = len(bench.disk.calls)
    bench.put(*[100] * 50)
    assert bench.disk.calls[before:] == ["write", "sync"]


def test_what_was_written_is_read_in_any_order(bench: Bench) -> None:
    """Also from several segments at once."""
    wanted = [one for _ in range(5) for one in bench.put(*[BIG] * 8)]
    assert len(bench.names()) > 1
    for order in (wanted, wanted[::-1], wanted[::3]):
        assert read_all(bench, order) == [bench.live[one.place] for one in order]


def test_giving_up_touches_no_file(bench: Bench) -> None:
    """Deletion is a matter of the books; a segment without life is used again as it is."""
    wanted = bench.put(*[BIG] * 40)
    names, before = bench.names(), len(bench.disk.calls)
    for one in wanted:
        bench.drop(one)
    assert bench.disk.calls[before:] == []
    bench.tend()
    bench.put(*[BIG] * 40)
    assert bench.names() == names, "no file was made, none went"


def test_a_spare_segment_has_nothing_to_scan(bench: Bench) -> None:
    """A start does not read what is dead since long."""
    wanted = bench.put(*[BIG] * 17)
    for one in wanted:
        bench.drop(one)
    bench.tend()
    assert list(bench.files.scan(wanted[0].place.segment)) == []


def test_an_open_segment_is_not_used_again(bench: Bench) -> None:
    """What is written into it later would be lost."""
    (one,) = bench.put(100)
    bench.drop(one)
    assert bench.shelf.list_empty() == []


def test_a_segment_with_waiting_records_is_left_alone(bench: Bench) -> None:
    """Between the record and its row nobody may take it for dead."""
    (place,) = bench.shelf.write([bench.record(BIG)])
    bench.put(*[BIG] * 16)
    assert place.segment not in bench.shelf.list_settleable()
    assert place.segment not in bench.shelf.list_empty()
    bench.shelf.keep(place)
    assert place.segment in bench.shelf.list_settleable()
    bench.shelf.settled([place.segment])
    assert place.segment not in bench.shelf.list_settleable()


def test_not_more_than_so_many_spare_segments_are_kept(bench: Bench) -> None:
    """The disk is for others too."""
    wanted = bench.put(*[BIG] * (16 * (MAX_SPARE + 4)))
    for one in wanted:
        bench.drop(one)
    bench.tend()
    assert len(bench.names()) == MAX_SPARE + 1


def test_a_record_that_gave_way_to_another_is_not_handed_out(bench: Bench) -> None:
    """A reader that is late finds another generation's record at the place, and says so."""
    wanted = bench.put(*[BIG] * 17)
    for one in wanted:
        bench.drop(one)
    bench.tend()
    bench.put(*[BIG] * 32)
    (found,) = bench.shelf.read(wanted[:1])
    assert isinstance(found, StorageError)
    assert "another record" in found.message


@pytest.mark.parametrize("at", [0, 40, 50, 5_000, -1])
def test_a_changed_bit_is_found_and_spoils_no_neighbour(bench: Bench, at: int) -> None:
    """Head, claim, data or end."""
    first, second, third = bench.put(10_000, 10_000, 10_000)
    path = bench.files._path(second.place.segment)
    data = bytearray(path.read_bytes())
    data[second.place.offset + at if at >= 0 else second.end + at] ^= 1
    path.write_bytes(data)
    found = bench.shelf.read([first, second, third])
    assert [isinstance(one, StorageError) for one in found] == [False, True, False]


def test_a_missing_segment_is_said_for_each_of_its_records(bench: Bench) -> None:
    """And others are read."""
    gone, there = bench.put(100), bench.put(*[BIG] * 17)
    bench.files._path(gone[0].place.segment).unlink()
    found = bench.shelf.read([*gone, *there[-1:]])
    assert isinstance(found[0], StorageError)
    assert not isinstance(found[1], StorageError)
    assert bytes(found[1]) == bench.live[there[-1].place]


def test_without_room_no_segment_is_begun(bench: Bench) -> None:
    """Not even for a moment: who writes a ledger in that moment would stop."""
    bench.free = SEGMENT_SIZE - 1
    with pytest.raises(StorageError) as refused:
        bench.put(100)
    assert is_full(refused.value)
    assert bench.disk.calls.count("write") == 0
    bench.free = ROOM
    bench.put(100)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_segment_that_cannot_be_made_leaves_no_file(bench: Bench, code: int) -> None:
    """Full, read-only or failing: the error says which, and the next attempt may succeed."""
    write = bench.disk.write

    def fail(fd: int, data: bytes | memoryview, *, offset: int) -> int:
        raise OSError(code, "injected")

    bench.disk.write = fail  # type: ignore[method-assign]
    with pytest.raises(StorageError) as refused:
        bench.put(100)
    assert is_full(refused.value) == (code == errno.ENOSPC)
    assert bench.names() == []
    bench.disk.write = write  # type: ignore[method-assign]
    bench.put(100)


@pytest.mark.parametrize("how", ["not-stored", "stored", "full"])
def test_each_step_may_fail_and_what_was_acknowledged_stays(bench: Bench, how: How) -> None:
    """A failed segment takes no more records; the next batch goes into another."""
    acknowledged = bench.put(1_000, 1_000)
    for at in range(2):
        bench.disk.fail_at(at, how)
        with pytest.raises(StorageError):
            bench.put(1_000, 1_000)
        bench.disk.heal()
        acknowledged += bench.put(1_000)
        assert read_all(bench, acknowledged) == [bench.live[one.place] for one in acknowledged]


def test_a_kill_leaves_whole_records_and_one_torn_end(tmp_path: Path) -> None:
    """Scanning finds every record that was acknowledged, whatever the batch behind it left."""
    for at in range(2):
        bench = Bench(tmp_path / str(at))
        wanted = [*bench.put(1_000), *bench.put(2_000, 3_000)]
        bench.disk.fail_at(at, "kill")
        with pytest.raises(KilledError):
            bench.put(4_000)
        bench.disk.heal()
        found = list(bench.files.scan(0))
        complete = [one.record.offset for one in found if one.state == "complete"]
        assert complete[:3] == [one.place.offset for one in wanted]


def test_a_torn_batch_ends_the_scan(bench: Bench) -> None:
    """Its first record is not there, its second is: nothing of it was promised."""
    wanted = bench.put(1_000)
    torn = bench.put(2_000, 3_000)
    path = bench.files._path(0)
    data = bytearray(path.read_bytes())
    begin = torn[0].place.offset
    data[begin : begin + 512] = bytes(512)
    path.write_bytes(data)
    assert [one.record.offset for one in bench.files.scan(0)] == [wanted[0].place.offset]


def test_a_file_that_never_got_its_size_is_thrown_away(bench: Bench) -> None:
    """A crash while it was made: it holds nothing."""
    bench.files._path(7).write_bytes(bytes(100))
    bench.shelf.begin()
    bench.tend()
    assert bench.names() == []
    assert bench.shelf._next == 8, "no number comes twice"


def test_sparse_segments_are_found_once_moving_them_frees_one(bench: Bench) -> None:
    """The emptiest first; one alone is not worth it, nor is a segment that is a quarter full."""
    first = bench.put(*[BIG] * 16)
    second = bench.put(*[BIG] * 16)
    bench.put(*[BIG] * 16)
    for one in first[2:]:
        bench.drop(one)
    assert bench.shelf.find_sparse() is None
    for one in second[1:]:
        bench.drop(one)
    assert bench.shelf.find_sparse() == second[0].place.segment


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(st.sampled_from([40, 9_000, BIG]), max_size=12)),
        st.tuples(st.just("drop"), st.integers(0, 1 << 20)),
        st.tuples(st.just("tend"), st.none()),
        st.tuples(st.just("fail"), st.sampled_from(["not-stored", "stored", "full"])),
    ),
    max_size=25,
)


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_what_lives_is_always_there(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, object]]
) -> None:
    """In any order of batches, deletions, failures and recycling."""
    bench = Bench(tmp_path_factory.mktemp("shelf"))
    held: list[Wanted] = []
    for name, what in steps:
        match name, what:
            case "put", [_, *_]:
                held += bench.put(*cast("list[int]", what))
            case "drop", int() if held:
                bench.drop(held.pop(what % len(held)))
            case "tend", _:
                bench.tend()
            case "fail", str():
                bench.disk.fail_at(0, cast("How", what))
                with pytest.raises(StorageError):
                    bench.put(40)
                bench.disk.heal()
            case _:
                pass
    assert read_all(bench, held) == [bench.live[one.place] for one in held]
    bench.shelf.close()
