"""The duplicate index is derived: it may be lost, and is then made anew."""

import random  # noqa: TID251 - seeded
import shutil
import threading
from array import array
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto.bulk import keyed_digests
from bistro.errors import StorageError
from bistro.ledger.fingerprints import Fingerprints
from bistro.ledger.index import DuplicateIndex
from bistro.ledger.merging import FAN_IN
from bistro.ledger.rows import ROW_SIZE, cut, make_rows
from bistro.ledger.runs import Run, RunPlace, merge_rows, write_run
from bistro.storage.durable import SYSTEM_DISK
from tests.support.disks import FaultyDisk, How, KilledError


def keys(begin: int, end: int) -> list[bytes]:
    return [b"key %d" % number for number in range(begin, end)]


def fill(index: DuplicateIndex, size: int, *, step: int = 256) -> None:
    for begin in range(index.reach, size, step):
        end = min(begin + step, size)
        index.add(keys(begin, end), end)


def wait_until_merged(index: DuplicateIndex, run_count: int) -> None:
    """Until the merging thread has nothing more to do."""
    tick = threading.Event()
    while len(index._runs) > run_count:
        tick.wait(0.001)


def require_keys(index: DuplicateIndex, size: int) -> None:
    """All keys below ``size`` are known, at their places; no others."""
    assert index.reach == size
    known = keys(0, size)
    assert index.suspects(known) == known
    assert index.find([*known, b"unknown"]) == {key: at for at, key in enumerate(known)}


def test_keys_are_known_at_once_and_after_reopening(tmp_path: Path) -> None:
    """Entries without a key take no room; an empty index knows nothing."""
    index = DuplicateIndex.open(tmp_path / "i")
    assert index.suspects([b"a"]) == []
    index.add([b"a", b"", b"c", b"d" * 254], 4)
    for _ in range(2):
        assert index.find([b"a", b"b", b"c", b"d" * 254]) == {b"a": 0, b"c": 2, b"d" * 254: 3}
        assert index.reach == 4
        index.close()
        index = DuplicateIndex.open(tmp_path / "i")
    index.add([b""] * 10, 14)
    index.close()
    index = DuplicateIndex.open(tmp_path / "i")
    assert (index.reach, index.find([b"c"])) == (14, {b"c": 2})
    index.close()


def test_runs_are_merged_sixteen_at_a_time(tmp_path: Path) -> None:
    """In the background; whatever is asked meanwhile is answered as before."""
    index = DuplicateIndex.open(tmp_path / "i")
    size = FAN_IN * FAN_IN * 256
    for begin in range(0, size, FAN_IN * 256):
        fill(index, begin + FAN_IN * 256)
        assert index.find(keys(begin, begin + 5)) == dict(
            zip(keys(begin, begin + 5), range(begin, begin + 5), strict=True)
        )
    wait_until_merged(index, 1)
    require_keys(index, size)
    index.close()
    assert len(list((tmp_path / "i").iterdir())) == 2
    index = DuplicateIndex.open(tmp_path / "i")
    require_keys(index, size)
    fill(index, size + 300)
    require_keys(index, size + 300)
    index.close()


def test_merging_that_fell_behind_catches_up(tmp_path: Path) -> None:
    """The oldest runs of a level go first, so that none is left between larger ones."""
    index = DuplicateIndex.open(tmp_path / "i")
    with index.held():
        fill(index, (2 * FAN_IN + 5) * 256)
    wait_until_merged(index, 2 + 5)
    require_keys(index, (2 * FAN_IN + 5) * 256)
    counts = [run.count for run in index._runs]
    assert counts == [FAN_IN * 256] * 2 + [256] * 5
    index.close()


def test_an_index_that_is_closed_while_it_merges_gives_up_the_merge(tmp_path: Path) -> None:
    """And merges when it is open again."""
    index = DuplicateIndex.open(tmp_path / "i")
    with index.held() as runs:
        fill(index, FAN_IN * 256)
        assert runs == []
        index._merger._is_stopped.set()
    index.close()
    index = DuplicateIndex.open(tmp_path / "i")
    require_keys(index, FAN_IN * 256)
    fill(index, (FAN_IN + 1) * 256)
    wait_until_merged(index, 2)
    require_keys(index, (FAN_IN + 1) * 256)
    index.close()


@pytest.mark.parametrize("how", ["not-stored", "stored", "full", "kill"])
def test_whatever_step_fails_the_index_holds_the_old_or_the_new(
    tmp_path: Path, how: How, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening, adding, merging: what it says that it reaches, it knows."""
    monkeypatch.setattr("bistro.ledger.merging.FAN_IN", 4)
    size = 4 * 16

    def history(directory: Path, disk: FaultyDisk) -> None:
        index = DuplicateIndex.open(directory, disk=disk)
        try:
            # Merging in this thread, so that its steps are counted with the others.
            monkeypatch.setattr(index._merger, "wake", lambda _: None)
            fill(index, size, step=16)
            assert index._merge_next(lambda: None)
            assert not index._merge_next(lambda: None)
        finally:
            disk.heal()
            index.close()

    counting = FaultyDisk()
    history(tmp_path / "count", counting)
    for step in range(len(counting.calls)):
        directory = tmp_path / f"i{step}"
        with pytest.raises((StorageError, KilledError, OSError)):
            history(directory, FaultyDisk(at=step, how=how))
        index = DuplicateIndex.open(directory)
        assert index.reach % 16 == 0
        fill(index, size, step=16)
        require_keys(index, size)
        index.close()
        index = DuplicateIndex.open(directory)
        require_keys(index, size)
        index.close()
        assert not list(directory.glob(".*"))
        shutil.rmtree(directory)


def test_a_merge_that_fails_is_heard_of_when_more_is_added(tmp_path: Path) -> None:
    """Else the number of files would grow for ever."""
    disk = FaultyDisk()
    index = DuplicateIndex.open(tmp_path / "i", disk=disk)
    with index.held():
        fill(index, FAN_IN * 256)
        disk.fail_at(0, "not-stored")
    assert index._merger._thread is not None
    index._merger._thread.join(20)
    with pytest.raises(StorageError, match="duplicate index: write"):
        index.add([b"more"], FAN_IN * 256 + 1)
    index.close()


def damage_file(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("at", [0, 20, -1, -30, -55, -80])
def test_a_damaged_run_and_what_follows_it_are_left_out(tmp_path: Path, at: int) -> None:
    """Wherever the damage is; the rest is made anew from the entries."""
    index = DuplicateIndex.open(tmp_path / "i")
    fill(index, 4 * 256)
    index.close()
    damage_file(sorted((tmp_path / "i").glob("0*"))[2], at)
    index = DuplicateIndex.open(tmp_path / "i")
    require_keys(index, 2 * 256)
    assert len(list((tmp_path / "i").glob("0*"))) == 2
    fill(index, 4 * 256)
    require_keys(index, 4 * 256)
    index.close()


@pytest.mark.parametrize("content", [None, b"", b"short", b"far too long to be a secret"])
def test_runs_without_their_secret_are_left_out(tmp_path: Path, content: bytes | None) -> None:
    """Under another secret they would say that nothing is known."""
    index = DuplicateIndex.open(tmp_path / "i")
    fill(index, 300)
    index.close()
    (tmp_path / "i" / "mac-key").unlink()
    if content is not None:
        (tmp_path / "i" / "mac-key").write_bytes(content)
    index = DuplicateIndex.open(tmp_path / "i")
    assert (index.reach, index.suspects(keys(0, 300))) == (0, [])
    fill(index, 300)
    require_keys(index, 300)
    index.close()


def test_runs_of_another_secret_are_left_out(tmp_path: Path) -> None:
    """For example restored from different copies."""
    for name in "ab":
        index = DuplicateIndex.open(tmp_path / name)
        fill(index, 300)
        index.close()
    (tmp_path / "a" / "mac-key").replace(tmp_path / "b" / "mac-key")
    index = DuplicateIndex.open(tmp_path / "b")
    assert index.reach == 0
    index.close()


def test_a_run_of_other_entries_is_left_out(tmp_path: Path) -> None:
    """Its name is no proof."""
    index = DuplicateIndex.open(tmp_path / "i")
    fill(index, 256)
    index.close()
    (run,) = (tmp_path / "i").glob("0*")
    run.rename(run.with_name(f"{0:016d}-{257:016d}"))
    index = DuplicateIndex.open(tmp_path / "i")
    assert index.reach == 0
    index.close()


def test_an_index_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """For example where a file has its name."""
    (tmp_path / "i").write_bytes(b"")
    with pytest.raises((StorageError, OSError)):
        DuplicateIndex.open(tmp_path / "i")


def place(directory: Path, start: int, end: int, check: bytes = bytes(8)) -> RunPlace:
    return RunPlace(directory, start, end, check, SYSTEM_DISK)


def rows_of(chunks: Iterable[bytes]) -> list[bytes]:
    return [row for rows in chunks for row in cut(rows, ROW_SIZE)]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 5_000])
def test_a_run_finds_each_of_its_digests(tmp_path: Path, count: int) -> None:
    """Also where the digest of another row stands across two rows."""
    chooser = random.Random(count)
    rows = list(cut(make_rows(chooser.randbytes(16 * count), array("Q", range(count))), ROW_SIZE))
    chunks = [b"".join(rows[at : at + 700]) for at in range(0, count, 700)]
    run = write_run(place(tmp_path, 0, count + 1), chunks, count=count)
    prints = Fingerprints()
    again = Run.open(place(tmp_path, 0, count + 1), prints=prints)
    for one in (run, again):
        assert rows_of(one.rows()) == rows
        for row in rows[:: max(count // 100, 1)]:
            assert one.find(row[:16]) == int.from_bytes(row[16:], "big")
            assert one.find(row[1:17]) is None
        assert one.find(chooser.randbytes(16)) is None
        one.close()
    digests = [row[:16] for row in rows]
    assert prints.suspects(digests, b"".join(digests)) == digests


def test_fingerprints_by_columns_are_those_of_the_digests() -> None:
    """A large run is read by columns, a small one row by row."""
    chooser = random.Random(1)
    digests = sorted(chooser.randbytes(16) for _ in range(3_000))
    bounds = [0]
    for bucket in range(1 << 18):
        bounds.append(bounds[-1])
        while bounds[-1] < 3_000 and int.from_bytes(digests[bounds[-1]][:3], "big") >> 6 == bucket:
            bounds[-1] += 1
    by_rows, by_columns = Fingerprints(), Fingerprints()
    rows = make_rows(b"".join(digests), array("Q", range(3_000)))
    by_rows.add(rows)
    by_columns.add_sorted(rows, bounds)
    assert by_rows._buckets == by_columns._buckets


@given(
    st.lists(st.lists(st.integers(0, 2_000), unique=True), min_size=1, max_size=5), st.integers()
)
def test_merging_is_sorting(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[list[int]], seed: int
) -> None:
    """Whatever the lengths of the runs."""
    directory = tmp_path_factory.mktemp("runs")
    secret = seed.to_bytes(20, "big", signed=True)[-16:]
    runs: list[Run] = []
    everything: list[bytes] = []
    for at, some in enumerate(numbers):
        digests = keyed_digests(secret, [b"%d" % number for number in some])
        rows = make_rows(digests, array("Q", [at] * len(some)))
        chunks = [rows] if rows else []
        runs.append(write_run(place(directory, at, at + 1), chunks, count=len(some)))
        everything += cut(rows, ROW_SIZE)
    assert rows_of(merge_rows(runs, lambda: None)) == sorted(everything)
    for run in runs:
        run.close()
