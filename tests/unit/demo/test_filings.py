"""The generated filings: seeded, of the sizes asked for, marked everywhere, in time."""

from __future__ import annotations

from pathlib import Path

import pytest

from bistro.ids import require_file_path, require_slot
from tests.e2e.demo.filings import (
    FILERS,
    LARGEST,
    NAME_MARK,
    SMALLEST,
    TEXT_MARK,
    Shape,
    digests,
    plan,
    write,
)

SEEDS = range(20)


def test_a_seed_gives_the_same_filings_and_another_seed_others() -> None:
    """A failure can be repeated by its seed."""
    assert plan(1, Shape()) == plan(1, Shape())
    assert plan(1, Shape()) != plan(2, Shape())


@pytest.mark.parametrize("seed", SEEDS)
def test_forty_filings_span_one_kilobyte_to_twenty_megabytes(seed: int) -> None:
    """Both ends are there exactly, and the whole is neither trifling nor too much."""
    filings = plan(seed, Shape())
    sizes = [filing.size for filing in filings]
    assert (len(sizes), min(sizes), max(sizes)) == (40, SMALLEST, LARGEST)
    assert 60_000_000 < sum(sizes) < 110_000_000


@pytest.mark.parametrize("seed", SEEDS)
def test_only_the_last_one_is_planned_after_the_rush(seed: int) -> None:
    """Arrivals ascend, lie within the rush, and thicken towards its end."""
    *on_time, late = plan(seed, Shape())
    times = [filing.arrives_s for filing in on_time]
    assert late.is_late
    assert not any(filing.is_late for filing in on_time)
    assert times == sorted(times)
    assert times[-1] <= Shape().rush_s
    assert sum(time > Shape().rush_s / 2 for time in times) > len(times) / 2


@pytest.mark.parametrize("seed", SEEDS)
def test_large_filings_come_all_the_time(seed: int) -> None:
    """There is always one to interrupt: heavy ones come early, midway and late."""
    heavy = [filing.arrives_s for filing in plan(seed, Shape()) if filing.size > 4_000_000]
    assert len(heavy) >= 6
    assert sum(6 < at < 14 for at in heavy) >= 2


def test_some_filings_have_many_files_in_folders() -> None:
    """Every eighth has dozens of files; all paths are distinct and may be filed."""
    many = 0
    for filing in plan(1, Shape()):
        paths = [file.path for file in filing.files]
        assert len(set(paths)) == len(paths)
        for path in paths:
            require_file_path(path)
            assert all(NAME_MARK in part for part in path.split("/"))
        many += len(paths) >= 40
    assert many >= 3


def test_each_filing_has_a_slot_of_its_own_for_its_filer() -> None:
    """No filing replaces another one of the same filer."""
    filings = plan(1, Shape())
    slots = {filing.slot for filing in filings}
    assert len(slots) == len(filings)
    for filing in filings:
        require_slot(filing.slot)
        assert FILERS[filing.filer] in filing.slot


def test_one_filing_of_each_filer_and_the_late_one_go_by_command() -> None:
    """Both ways in are used: the command, and the library in a client that stays."""
    filings = plan(1, Shape())
    by_command = [filing.filer for filing in filings if filing.by_command]
    assert sorted(by_command) == list(range(len(FILERS)))
    assert filings[-1].by_command


def test_written_files_are_those_planned_and_carry_the_mark(tmp_path: Path) -> None:
    """The bytes depend on the seed alone, and no 4 KiB of them are unmarked."""
    filing = max(plan(1, Shape(count=10)), key=lambda one: len(one.files))
    write(filing, tmp_path / "a", seed=1)
    write(filing, tmp_path / "b", seed=1)
    write(filing, tmp_path / "c", seed=2)
    found = digests(tmp_path / "a")
    assert found == digests(tmp_path / "b")
    assert found != digests(tmp_path / "c")
    assert set(found) == {file.path for file in filing.files}
    for file in filing.files:
        data = (tmp_path / "a" / file.path).read_bytes()
        assert len(data) == file.size
        assert data[: len(TEXT_MARK)] == TEXT_MARK[: len(data)]
        blocks = [data[at : at + 4_096] for at in range(0, len(data) - 15, 4_096)]
        assert all(block.startswith(TEXT_MARK) for block in blocks)
