"""A relay on a disk that is really full.

Needs the right to mount a file system in memory; skipped without.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bistro.wire.batches import Release
from tests.support.paper import SPRING, Sealed
from tests.support.relays import allowed_relay, serving_relay
from tests.support.small_fragments import fetched, line_to, receipt_of, staging

SIZE_MIB = 64
PIECE = 1_500_000


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own, gone after the block."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.timeout(240)
async def test_a_full_disk_is_507_and_what_was_promised_stays(tmp_path: Path) -> None:
    """Until nothing fits, by both ways; what is released makes room; a restart changes nothing."""
    with small_disk(tmp_path / "disk") as disk:
        async with allowed_relay(disk / "relay") as (settings, call):
            held: list[Sealed] = []
            status = 0
            async with serving_relay(settings) as relay:
                await relay.services.book.require(SPRING)
                line = await line_to(relay)
                for number in range(200):
                    one = Sealed(number, size=PIECE if number % 2 else 2 * PIECE)
                    status, fields, _ = await line.ask(staging(call, one))
                    if status == 507:
                        break
                    assert receipt_of(fields).commitment == one.commitment
                    held.append(one)
                assert status == 507
                assert len(held) > 10
                assert not relay.task.done(), "a full disk is no reason to stop"
                line.close()
            async with serving_relay(settings) as relay:
                assert await fetched(relay, call, held) == [one.fragment(0) for one in held]
                released = [
                    Release(SPRING, one.commitment, 0, one.cut.descriptors[0].fragment_hash)
                    for one in held[::2]
                ]
                await relay.collector(call).release(released)
                line = await line_to(relay)
                status, fields, _ = await line.ask(staging(call, Sealed(999, size=PIECE)))
                assert status == 201
                line.close()
                left = [*held[1::2], Sealed(999, size=PIECE)]
                assert await fetched(relay, call, left) == [one.fragment(0) for one in left]
