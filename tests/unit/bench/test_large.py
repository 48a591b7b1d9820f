"""A log that is filled for benchmarks is one as any other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bistro.wire.entry import TicketEntry, decode_entry
from bistro_server.services.ledgers import CallLedgers, ticket_key
from tests.bench import filling
from tests.bench.cases import large
from tests.bench.filling import fill, spell_entries
from tests.bench.proc import parse_peak
from tests.support.clocks import NOON, ManualClock
from tests.support.destinations import make_call, make_server

ORIGIN = "permits.example/spring"


def test_entries_are_spelled_as_the_specification_has_them() -> None:
    """For any number of commitments."""
    commitments = [os.urandom(32) for _ in range(5)]
    assert spell_entries(ORIGIN, NOON, commitments) == [
        TicketEntry(origin=ORIGIN, time=NOON, digest=one).encode() for one in commitments
    ]


async def test_a_filled_log_is_whole_and_knows_its_commitments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many entries as were wanted, all published, and each is found by its key."""
    monkeypatch.setattr(filling, "BATCH", 1_000)
    folder, _ = make_server(tmp_path / "d")
    clock = ManualClock()
    call = await make_call(folder, clock)
    ledgers = await CallLedgers.open(call, clock, error_limit_ms=100)
    try:
        await fill(ledgers, clock, 5_300)
        log = ledgers.log
        assert log.size == 5_300
        entries = list(log.entries(1))
        assert len({decode_entry(entry).digest for entry in entries}) == 5_299
        for index in (1, 2_000, 5_299):
            key = ticket_key(decode_entry(entries[index - 1]).digest)
            assert await log.lookup([key]) == {key: index}
        await log.check()
    finally:
        await ledgers.close()


def test_the_large_log_is_kept_for_the_code_that_wrote_it() -> None:
    """Another number of entries is another log; the same is found again."""
    first = large.kept_home(1_000)
    assert first == large.kept_home(1_000)
    assert first != large.kept_home(2_000)
    assert Path(__file__).parents[3] not in first.parents


def test_forgetting_files_changes_nothing_of_them(tmp_path: Path) -> None:
    """Only what the system holds in memory goes."""
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "b"
    file.write_bytes(b"data" * 10_000)
    large.evict(tmp_path)
    assert file.read_bytes() == b"data" * 10_000


def test_the_peak_of_memory_is_read_in_bytes() -> None:
    """The kernel says kB and means 1,024 bytes."""
    assert (
        parse_peak("Name:\tx\nVmPeak:\t  900 kB\nVmHWM:\t   250 kB\nVmRSS:\t 100 kB\n") == 256_000
    )
