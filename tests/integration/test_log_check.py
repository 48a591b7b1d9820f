"""``bistro-server log check``: everything in the logs of calls, from disk, against their keys."""

import asyncio
from pathlib import Path

import pytest

from bistro.clock import SystemClock
from bistro.crypto.digest import sha256
from bistro.instant import UnixMillis
from bistro.ledger.record import RECORD_MAGIC
from bistro.ledger.tiles import decode_bundle
from bistro.wire.entry import TicketEntry
from bistro_server.services.calls import Call, CallRegistry
from bistro_server.services.folder import ServerFolder
from bistro_server.services.ledgers import CallLedgers, ticket_key
from tests.support.shell import Shell, create

COUNT = 2_000


@pytest.fixture
def root(root: Path, shell: Shell) -> Path:
    """A server's folder with two calls."""
    for call in ("spring", "autumn"):
        assert create(shell, root, call) == 0, shell.err
    return root


async def fill(call: Call, count: int = COUNT) -> None:
    """Tickets, published: the first ones are in bundles alone."""
    clock = SystemClock(50)
    ledgers = await CallLedgers.open(call, clock, error_limit_ms=100)
    try:
        while (begin := ledgers.log.size) < count:
            time = UnixMillis(max(clock.now(), ledgers.log.last_time))
            digests = [sha256(b"%d" % number) for number in range(begin, min(begin + 250, count))]
            origin = str(call.origin)
            entries = [
                TicketEntry(origin=origin, time=time, digest=one).encode() for one in digests
            ]
            await ledgers.log.append(list(map(ticket_key, digests)), entries, last_time=time)
        await ledgers.log.publish_checkpoint()
    finally:
        await ledgers.close()


@pytest.fixture
async def call(root: Path) -> Call:
    found = CallRegistry(ServerFolder(root)).load("spring")
    await fill(found)
    return found


async def in_thread(shell: Shell, *arguments: object) -> int:
    return await asyncio.to_thread(shell, *arguments)


async def test_good_logs_are_reported_one_by_one(root: Path, call: Call, shell: Shell) -> None:
    """All calls, or the one that is asked for; for people and for programs."""
    assert await in_thread(shell, "log", "check", "--dir", root) == 0, shell.err
    assert shell.out.count("all as they were signed") == 4
    assert f"permits.example/spring: {COUNT} entries, 17 tiles and bundles" in shell.out
    assert await in_thread(shell, "log", "check", "--dir", root, "--call", "spring", "--json") == 0
    first, second = shell.json["logs"]
    assert (first["origin"], first["size"]) == ("permits.example/spring", COUNT)
    assert (second["origin"], second["size"]) == ("permits.example/spring/refusals", 0)
    assert await in_thread(shell, "log", "check", "--dir", root, "--call", "winter") == 3


def change(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def state_of(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """All files but locks, and when each was written."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


async def test_a_ledger_that_is_served_is_checked_as_it_was_published(
    root: Path, call: Call, shell: Shell
) -> None:
    """What is newer is not looked at, and it says so; it is not repaired."""
    ledgers = await CallLedgers.open(call, SystemClock(50), error_limit_ms=100)
    try:
        log = ledgers.log
        digest = sha256(b"newer")
        entry = TicketEntry(origin=log.origin, time=log.last_time, digest=digest).encode()
        await log.append([ticket_key(digest)], [entry], last_time=log.last_time)
        check = ("log", "check", "--dir", root, "--call", "spring")
        assert await in_thread(shell, *check, "--json") == 0, shell.err
        first, second = shell.json["logs"]
        assert (first["size"], first["whole"]) == (COUNT, False)
        assert (second["size"], second["whole"]) == (0, False)
        assert await in_thread(shell, *check) == 0
        assert "serve runs: what it has not published yet was not looked at" in shell.out
        assert "spring/refusals: serve runs, and has published nothing of it yet" in shell.out
        assert await log.publish_checkpoint()
        assert await in_thread(shell, *check, "--json") == 0, shell.err
        assert shell.json["logs"][0]["size"] == COUNT + 1
        assert await in_thread(shell, *check, "--repair", "--json") == 5
        assert shell.json["error"]["code"] == "unavailable"
    finally:
        await ledgers.close()


async def test_a_check_changes_nothing(root: Path, call: Call, shell: Shell) -> None:
    """Not even what a start would: a record that was never completed, and what is left over."""
    wal = call.folder.log / "wal"
    last = max(wal.iterdir())
    data = bytearray(last.read_bytes())
    end = len(data.rstrip(b"\0"))
    data[end : end + 4] = RECORD_MAGIC[:4]
    last.write_bytes(data)
    (wal / ".segment.0.tmp").write_bytes(b"left over")
    (call.folder.log / "index" / ".left.0.tmp").write_bytes(b"left over")
    before = state_of(call.folder.root)
    assert await in_thread(shell, "log", "check", "--dir", root, "--json") == 0, shell.err
    assert all(one["whole"] for one in shell.json["logs"])
    assert state_of(call.folder.root) == before


async def test_what_is_derived_is_made_anew_when_told(root: Path, call: Call, shell: Shell) -> None:
    """A lost index is a fault, until it was repaired."""
    for path in (call.folder.log / "index").iterdir():
        path.unlink()
    for _ in range(2):
        assert await in_thread(shell, "log", "check", "--dir", root) == 1
        assert "index/mac-key: missing or damaged" in shell.err
    assert await in_thread(shell, "log", "check", "--dir", root, "--repair") == 0, shell.err
    assert await in_thread(shell, "log", "check", "--dir", root) == 0, shell.err
    newest = max((call.folder.log / "index").glob("0*"))
    newest.unlink()
    assert await in_thread(shell, "log", "check", "--dir", root) == 1
    assert "are published" in shell.err


async def test_a_log_shorter_than_it_was_published_is_found(
    root: Path, call: Call, shell: Shell
) -> None:
    """An old copy of everything but the published checkpoint."""
    old = state_of(call.folder.log)
    ledgers = await CallLedgers.open(call, SystemClock(50), error_limit_ms=100)
    log = ledgers.log
    digest = sha256(b"newer")
    entry = TicketEntry(origin=log.origin, time=log.last_time, digest=digest).encode()
    await log.append([ticket_key(digest)], [entry], last_time=log.last_time)
    await log.publish_checkpoint()
    await ledgers.close()
    for path, (_, data) in old.items():
        if path.name != "checkpoint":
            path.write_bytes(data)
    assert await in_thread(shell, "log", "check", "--dir", root) == 1
    assert f"it ends at entry {COUNT}, although {COUNT + 1} were durable" in shell.err


async def test_a_second_entry_of_a_commitment_is_found(
    root: Path, call: Call, shell: Shell
) -> None:
    """Two times for one filing: the one thing that a log must never say."""
    ledgers = await CallLedgers.open(call, SystemClock(50), error_limit_ms=100)
    try:
        bundle = (call.folder.log / "tile/entries/001").read_bytes()
        old = next(iter(decode_bundle(bundle)))
        digest = bytes.fromhex(old.split(b"sha256:")[1].decode())
        log = ledgers.log
        entry = TicketEntry(origin=log.origin, time=log.last_time, digest=digest).encode()
        await log.append([ticket_key(digest)], [entry], last_time=log.last_time)
    finally:
        await ledgers.close()
    assert await in_thread(shell, "log", "check", "--dir", root) == 1
    assert f"entries 256 and {COUNT} have the same key" in shell.err


def test_where_there_are_no_calls_it_says_so(tmp_path: Path, shell: Shell) -> None:
    """Silence would look like a check."""
    root = tmp_path / "empty"
    assert shell("init", root, "--name", "permits.example") == 0
    assert shell("log", "check", "--dir", root) == 0
    assert "no calls here" in shell.out
