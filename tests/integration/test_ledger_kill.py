"""A ledger's process is killed under load, again and again: no acknowledged entry is lost."""

import random  # noqa: TID251 - seeded
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bistro.crypto.signing import LocalSigner, SigningKey
from bistro.ledger.ledger import Ledger
from bistro.wire.proof import Proof
from tests.support.ledger_worker import commitment
from tests.support.tools import require_tool

ORIGIN = "tenders.example/roads"
ROUNDS = 6
PER_ROUND = 100_000

ACK = re.compile(r"ack (\d+) (\d+) (\d+)\n")


def command(directory: Path, key: SigningKey, *, first: int, count: int, width: int) -> list[str]:
    module = "tests.support.ledger_worker"
    numbers = [str(first), str(count), str(width)]
    return [sys.executable, "-m", module, str(directory), key.format(), *numbers]


def run_until_killed(arguments: list[str], *, after_acks: int) -> str:
    """Start the worker, ``kill -9`` it once it has acknowledged enough; all that it said."""
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        limit = threading.Timer(20, worker.kill)
        limit.start()
        said = "".join(worker.stdout.readline() for _ in range(after_acks))
        worker.kill()
        # What it had written to the pipe before it died counts as received.
        said += worker.stdout.read()
        limit.cancel()
    return said


async def require_kept(
    directory: Path, key: SigningKey, received: dict[int, tuple[int, int]]
) -> None:
    """Every acknowledged entry is at its index with its time; the ledger is whole."""
    ledger = await Ledger.open(directory, signer=LocalSigner(key), publish_after=256)
    try:
        await ledger.check()
        assert ledger.size >= len(received)
        for number, (index, time) in received.items():
            found = await ledger.find(commitment(number))
            assert found is not None
            assert (found.index, found.time) == (index, time)
            Proof.parse(found.proof).verify(key.verifier)
    finally:
        await ledger.close()


@pytest.mark.timeout(120)
async def test_every_acknowledged_entry_survives_kill_9_under_load(tmp_path: Path) -> None:
    """At its index and with its time; round after round in the same ledger."""
    key = SigningKey.generate(ORIGIN)
    chooser = random.Random(2026)
    received: dict[int, tuple[int, int]] = {}
    for number in range(ROUNDS):
        first = number * PER_ROUND
        arguments = command(tmp_path / "l", key, first=first, count=PER_ROUND, width=64)
        said = run_until_killed(arguments, after_acks=chooser.randrange(1, 1_500))
        acks = {int(at): (int(index), int(time)) for at, index, time in ACK.findall(said)}
        assert acks
        received |= acks
        await require_kept(tmp_path / "l", key, acks)
    await require_kept(tmp_path / "l", key, received)
    indexes = [index for index, _ in received.values()]
    assert len(set(indexes)) == len(indexes)


@pytest.mark.timeout(60)
def test_no_answer_leaves_before_its_fdatasync_has_returned(tmp_path: Path) -> None:
    """As the kernel saw it: at every answer, its write and sync had succeeded before."""
    trace = tmp_path / "trace"
    key = SigningKey.generate(ORIGIN)
    worker = command(tmp_path / "l", key, first=0, count=40, width=1)
    calls = "trace=openat,pwrite64,fdatasync,write"
    strace = [require_tool("strace"), "-f", "-s", "12", "-e", calls, "-o", str(trace)]
    done = subprocess.run([*strace, *worker], check=False, capture_output=True, text=True)
    if "ptrace" in done.stderr:
        pytest.skip("this machine does not allow tracing")
    assert done.returncode == 0, done.stderr
    wal, written, synced, answered = "", 0, 0, 0
    for line in completed_calls(trace.read_text()):
        opened = re.search(r'/wal/\d{16}", O_RDWR.*\) = (\d+)$', line)
        if opened:
            wal = opened[1]
        elif line.startswith(f'pwrite64({wal}, "Brec'):
            written += 1
        elif line.startswith(f"fdatasync({wal})"):
            assert line.endswith("= 0")
            synced = written
        elif line.startswith('write(1, "ack'):
            answered += 1
            assert answered <= synced
    assert answered == 40


def completed_calls(trace: str) -> list[str]:
    """The calls in the order in which they returned (an answer: in which it was begun)."""
    begun: dict[str, str] = {}
    calls: list[str] = []
    for line in trace.splitlines():
        pid, call = line.split(maxsplit=1)
        if call.startswith("write(1"):
            calls.append(call)
        elif call.endswith("<unfinished ...>"):
            begun[pid] = call.removesuffix("<unfinished ...>").rstrip()
        elif call.startswith("<... ") and pid in begun:
            calls.append(re.sub(r"\s+", " ", begun.pop(pid) + call.split("resumed>", 1)[1].strip()))
        else:
            calls.append(re.sub(r"\s+", " ", call))
    return calls
