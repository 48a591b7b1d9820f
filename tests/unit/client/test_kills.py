"""``kill -9`` of the client at every write of its journal, just before and just after."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import sys
from pathlib import Path

import pytest

from bistro.clock import SystemClock
from bistro.protocol.submission import Submission, SubmissionState
from bistro_client.home import Folder, Home
from bistro_client.journal import read_journal
from bistro_client.verifying import Trust, verify_file
from tests.unit.client.worlds import World, world

NEVER = -1
MOST_WRITES = 40


async def client(home: Home, w: World, folder: Path, *, at: int, when: str) -> int:
    """The exit code of a client in a process of its own; -9 if it killed itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.unit.client.killed_client",
        *(str(home.root), w.url, str(folder), str(at), when),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode in {0, -signal.SIGKILL}, errors.decode()
    return process.returncode


async def log_size(w: World) -> int:
    """Entries of the call's log."""
    note = await w.destination.api.fetch_checkpoint("spring")
    return int(note.text.split(b"\n")[1])


def spooled(folder: Folder) -> dict[str, str]:
    """The hash of every fragment on the client's disk."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.spool.glob("*"))
    }


def sealed_before(home: Home) -> tuple[Submission, dict[str, str]] | None:
    """What was sealed when the client was killed, if anything was."""
    folders = home.folders()
    if not folders:
        return None
    submission = read_journal(folders[0])
    return None if submission.sealed is None else (submission, spooled(folders[0]))


@pytest.mark.timeout(150)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_client_killed_at_any_write_goes_on_with_one_ticket(
    tmp_path: Path, when: str
) -> None:
    """Nothing is lost, nothing sealed twice, and the log has one ticket for one submission."""
    async with world(tmp_path, SystemClock(assumed_error_ms=10)) as w:
        # Two of three fragments take the way of large ones: created first, appended then.
        folder = w.files(2_300_000, 1_000)
        for at in range(MOST_WRITES):
            home = Home(tmp_path / f"home-{at}")
            size = await log_size(w)
            code = await client(home, w, folder, at=at, when=when)
            before = sealed_before(home)
            if code != 0:
                assert await client(home, w, folder, at=NEVER, when=when) == 0
            assert await log_size(w) == size + 1
            require_whole(w, home, before)
            if code == 0:
                break
        assert at > 8


def require_whole(w: World, home: Home, before: tuple[Submission, dict[str, str]] | None) -> None:
    """The submission is staged, verifies, and is the one that was sealed first."""
    (folder,) = home.folders()
    submission = read_journal(folder)
    assert submission.state is SubmissionState.STAGED
    assert submission.sealed is not None
    assert all(one.receipt and one.is_presented for one in submission.fragments)
    if before is not None:
        known, fragments = before
        assert known.sealed is not None
        assert submission.sealed.commitment == known.sealed.commitment
        assert spooled(folder) == fragments
        assert known.ticket in {None, submission.ticket}
    assert verify_file(folder.evidence, Trust(given=[w.destination.terms.keys.terms])).holds
    for index in range(3):
        assert (submission.sealed.commitment, index) in w.held
