"""The disk on paper: what a power cut may leave, and what it may not."""

from __future__ import annotations

import random  # noqa: TID251 - seeded
import shutil
from pathlib import Path

import pytest

from tests.crash.cuts import LOSSES, Recording, draw_cuts
from tests.crash.medium import Folder
from tests.crash.replaying import Replay, UnexplainedError
from tests.crash.traces import Event, read_events

ROOT = Path("/srv/place")


def text(data: bytes | str) -> str:
    """As ``strace -xx`` writes a string."""
    raw = data.encode() if isinstance(data, str) else data
    return '"' + "".join(f"\\x{byte:02x}" for byte in raw) + '"'


def opened(name: str, fd: int, flags: str = "O_RDWR|O_CREAT") -> str:
    return f"7 openat(AT_FDCWD, {text(f'{ROOT}/{name}')}, {flags}, 0600) = {fd}"


def written(fd: int, data: bytes, offset: int) -> str:
    return f"7 pwrite64({fd}</x>, {text(data)}, {len(data)}, {offset}) = {len(data)}"


State = dict[str, bytes]


def states(lines: list[str], base: Path, target: Path, loss: str) -> list[State]:
    """What cuts at every moment leave, by several chances; the last moments come last."""
    events = read_events(lines)
    found: list[tuple[int, State]] = []
    for seed in range(20):
        where = target / f"{loss}-{seed}"
        where.mkdir(parents=True)
        wanted = [(at, loss) for at in range(len(events) + 1)]
        recording, chance = Recording(ROOT, base), random.Random(seed)
        for cut, folder in recording.cuts(events, wanted, target=where, chance=chance):
            found.append((cut.at, {one.name: one.read_bytes() for one in folder.iterdir()}))
    return [state for _, state in sorted(found, key=lambda one: one[0])]


def last_states(lines: list[str], base: Path, target: Path, loss: str) -> list[State]:
    """Those of the last moment."""
    return states(lines, base, target, loss)[-20:]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with one file of four sectors."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "old").write_bytes(b"o" * 2_048)
    return folder


SYNCED = [
    opened("new", 3),
    opened("", 4, "O_RDONLY|O_DIRECTORY"),
    written(3, b"a" * 1_024, 0),
    "7 fdatasync(3</x>) = 0",
    "7 fsync(4</x>) = 0",
]


def test_what_is_synced_with_its_name_is_never_lost(base: Path, tmp_path: Path) -> None:
    """After both syncs have returned, whatever is lost otherwise."""
    lines = [*SYNCED, written(3, b"b" * 1_024, 1_024)]
    for loss in LOSSES:
        for state in last_states(lines, base, tmp_path, loss):
            assert state["new"][:1_024] == b"a" * 1_024


def test_without_a_sync_everything_can_be_lost(base: Path, tmp_path: Path) -> None:
    """Name and content; and the content without the name, and the name without the content."""
    lines = [SYNCED[0], SYNCED[1], SYNCED[2]]
    (last, *_) = last_states(lines, base, tmp_path, "everything")
    assert last == {"old": b"o" * 2_048}
    contents = {state.get("new") for state in states(lines, base, tmp_path, "some")}
    assert {None, b"", b"a" * 1_024} <= contents


def test_sectors_are_lost_one_by_one(base: Path, tmp_path: Path) -> None:
    """Of a write over old content any sector may be the old one, and never half of one."""
    lines = [opened("old", 3, "O_RDWR"), written(3, b"n" * 1_500, 300)]
    seen = {state["old"] for state in states(lines, base, tmp_path, "some")}
    assert len(seen) > 4
    for content in seen:
        assert len(content) == 2_048
        assert content[:300] == b"o" * 300
        assert content[512:1_024] in {b"n" * 512, b"o" * 512}


def test_a_sync_covers_only_what_was_written_before_it_began(base: Path, tmp_path: Path) -> None:
    """A write of another thread that returns during the sync is not durable by it."""
    lines = [
        opened("old", 3, "O_RDWR"),
        "7 fdatasync(3</x> <unfinished ...>",
        f"8 pwrite64(3</x>, {text(b'n' * 512)}, 512, 0) = 512",
        "7 <... fdatasync resumed>) = 0",
    ]
    assert states(lines, base, tmp_path, "everything")[-1]["old"] == b"o" * 2_048
    again = [*lines, "7 fdatasync(3</x>) = 0"]
    assert states(again, base, tmp_path / "2", "everything")[-1]["old"][:512] == b"n" * 512


def test_a_sync_that_failed_makes_nothing_durable(base: Path, tmp_path: Path) -> None:
    """Neither does one that never returned."""
    begun = [opened("old", 3, "O_RDWR"), written(3, b"n" * 512, 0)]
    for end in (
        "fdatasync(3</x>) = -1 EIO (Input/output error) (INJECTED)",
        "fdatasync(3</x>) = ?",
    ):
        where = tmp_path / end[-3:]
        assert states([*begun, f"7 {end}"], base, where, "everything")[-1]["old"][:1] == b"o"


def test_a_rename_is_done_or_not_done(base: Path, tmp_path: Path) -> None:
    """Never is there a moment without the one content or the other."""
    lines = [
        *SYNCED,
        f"7 rename({text(f'{ROOT}/new')}, {text(f'{ROOT}/old')}) = 0",
    ]
    for loss in LOSSES:
        for state in states(lines, base, tmp_path, loss):
            assert state["old"] in {b"o" * 2_048, b"a" * 1_024}
    assert states([*lines, "7 fsync(4</x>) = 0"], base, tmp_path / "2", "everything")[-1] == {
        "old": b"a" * 1_024
    }


def test_lengths_change_and_reserved_space_is_zero(base: Path, tmp_path: Path) -> None:
    """Cutting, reserving and writing at the file's own position."""
    lines = [
        opened("old", 3, "O_RDWR|O_APPEND"),
        "7 ftruncate(3</x>, 100) = 0",
        f"7 write(3</x>, {text(b'end')}, 3) = 3",
        "7 fallocate(3</x>, 0, 0, 1000) = 0",
        "7 fdatasync(3</x>) = 0",
    ]
    last = states(lines, base, tmp_path, "everything")[-1]["old"]
    assert last == b"o" * 100 + b"end" + bytes(897)


def test_a_folder_that_a_trace_does_not_explain_is_noticed(base: Path, tmp_path: Path) -> None:
    """Content and names: otherwise the campaign would test a disk that nobody has."""
    real = tmp_path / "real"
    shutil.copytree(base, real)
    events = read_events(
        [
            f"7 openat(AT_FDCWD, {text(f'{real}/old')}, O_RDWR) = 3",
            written(3, b"n", 0),
        ]
    )
    with pytest.raises(UnexplainedError):
        replayed(events, base, real).settle()
    (real / "old").write_bytes(b"n" + b"o" * 2_047)
    replayed(events, base, real).settle()
    (real / "other").write_bytes(b"mapped")
    with pytest.raises(UnexplainedError):
        replayed(events, base, real).settle()


def replayed(events: list[Event], base: Path, path: Path) -> Recording:
    """A recording after one life without cuts."""
    recording = Recording(path, base)
    assert not list(recording.cuts(events, [], target=base, chance=random.Random(1)))
    return recording


def test_what_one_life_left_unsynced_is_not_durable_in_the_next(base: Path, tmp_path: Path) -> None:
    """A process that was killed leaves it to the next one to sync, or to write it again."""
    real = tmp_path / "real"
    shutil.copytree(base, real)
    (real / "old").write_bytes(b"n" * 512 + b"o" * 1_536)
    begin = f"7 openat(AT_FDCWD, {text(f'{real}/old')}, O_RDWR) = 3"
    failed = "7 fdatasync(3</x>) = -1 EIO (Input/output error)"
    for last, end, is_kept in (
        ([], ["7 fdatasync(3</x>) = 0"], True),
        ([], [], False),
        ([failed], ["7 fdatasync(3</x>) = 0"], False),
        ([failed], [written(3, b"n" * 512, 0), "7 fdatasync(3</x>) = 0"], True),
    ):
        first = read_events([begin, written(3, b"n" * 512, 0), *last])
        recording = replayed(first, base, real)
        recording.settle()
        second = read_events([begin, *end])
        where = tmp_path / f"{len(last)}{len(end)}{is_kept}"
        where.mkdir()
        wanted = [(len(second), "everything")]
        ((_, folder),) = recording.cuts(second, wanted, target=where, chance=random.Random(1))
        assert ((folder / "old").read_bytes()[:1] == b"n") == is_kept


def test_what_was_written_again_is_not_undone_by_what_was_doomed(
    base: Path, tmp_path: Path
) -> None:
    """Of a write whose sync failed only what nobody has written over may last or not."""
    lines = [
        opened("old", 3, "O_RDWR"),
        written(3, b"x" * 2_048, 0),
        "7 fdatasync(3</x>) = -1 EIO (Input/output error)",
        written(3, b"n" * 512, 512),
        "7 fdatasync(3</x>) = 0",
    ]
    contents = {state["old"] for state in last_states(lines, base, tmp_path, "some")}
    assert {content[512:1_024] for content in contents} == {b"n" * 512}
    assert {content[:1] for content in contents} == {b"o", b"x"}
    assert {content[1_024:1_025] for content in contents} == {b"o", b"x"}


def test_what_a_killed_call_has_done_is_taken_over(base: Path, tmp_path: Path) -> None:
    """Nobody knows how much of a write was done; the folder says it."""
    real = tmp_path / "real"
    shutil.copytree(base, real)
    (real / "old").write_bytes(b"n" * 100 + b"o" * 1_948)
    begin = f"7 openat(AT_FDCWD, {text(f'{real}/old')}, O_RDWR) = 3"
    killed = f"7 pwrite64(3</x>, {text(b'n' * 512)}, 512, 0) = ?"
    recording = replayed(read_events([begin, killed]), base, real)
    recording.settle()
    second = read_events([begin])
    ((_, folder),) = recording.cuts(
        second, [(2, "nothing")], target=tmp_path, chance=random.Random(1)
    )
    assert (folder / "old").read_bytes() == (real / "old").read_bytes()


def test_a_call_that_cannot_be_replayed_is_refused() -> None:
    """Rather than to leave it out."""
    begin, _ = read_events([f"7 link({text(f'{ROOT}/old')}, {text(f'{ROOT}/two')}) = 0"])
    with pytest.raises(UnexplainedError):
        Replay(ROOT, Folder()).take(begin)


def test_strings_that_were_cut_short_are_refused() -> None:
    """They would be replayed as if they were all."""
    (begin, _) = read_events(['7 pwrite64(3</x>, "\\x41"..., 500, 0) = 500'])
    with pytest.raises(ValueError, match="cut a string short"):
        begin.call.strings()


def test_a_call_that_strace_let_go_of_has_not_returned() -> None:
    """A process can die while strace holds it at the end of a call."""
    (begin,) = read_events(["7 fdatasync(3</x> <detached ...>"])
    assert begin.call.result is None
    assert begin.call.fd() == 3


def test_cuts_are_drawn_within_the_trace() -> None:
    """In order, each moment once."""
    events = read_events(SYNCED)
    for seed in range(50):
        cuts = draw_cuts(events, random.Random(seed), 5)
        assert [at for at, _ in cuts] == sorted({at for at, _ in cuts})
        assert all(0 < at <= len(events) for at, _ in cuts)
        assert cuts == draw_cuts(events, random.Random(seed), 5)
