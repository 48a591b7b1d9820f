"""tuspy and aiotus upload to a relay, unchanged, also while it is killed."""

from __future__ import annotations

import io
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiotus
import pytest

from tests.e2e.uploads.watched import KILL_AT, LARGE, SMALL, Bench, Client, Program, Work, new_bench

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

TUSPY = (sys.executable, str(Path(__file__).with_name("with_tuspy.py")))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with new_bench(tmp_path) as found:
        yield found


def with_tuspy(program: Program, *, stop_at: int | None = None) -> Client:
    """Uploads with a checksum for every chunk, and writes down where, beside the file."""

    async def upload(work: Work) -> None:
        storage = str(work.file.with_suffix(".urls"))
        arguments = (str(work.file), work.endpoint, work.metadata, storage)
        await program.run(work, *arguments, stop_at=stop_at)

    return upload


class Reading(io.FileIO):
    """A file that tells how far it was read, which is how far the server has come."""

    def __init__(self, work: Work) -> None:
        super().__init__(work.file)
        self._work = work

    def read(self, size: int | None = -1, /) -> bytes:
        self._work.taken = self.tell()
        return super().read(size) or b""


async def with_aiotus(work: Work) -> None:
    """Uploads, and reads back the metadata that it gave."""
    with Reading(work) as file:
        location = await aiotus.upload(
            work.endpoint,
            file,
            {"claim": work.claim},
            config=aiotus.RetryConfiguration(retry_attempts=100, max_retry_period_seconds=1),
            chunksize=1_000_000,
        )
    assert location is not None
    assert await aiotus.metadata(location) == {"claim": work.claim}


async def test_tuspy_uploads_and_sees_the_receipt(bench: Bench, tmp_path: Path) -> None:
    """The client as it comes: metadata, and a receipt in the last answer."""
    async with bench.command.serving():
        for sealed in SMALL:
            program = Program(TUSPY, tmp_path)
            await bench.upload(with_tuspy(program), sealed)
            bench.verify(program.receipt, sealed)


async def test_tuspy_goes_on_after_the_relay_was_killed(bench: Bench, tmp_path: Path) -> None:
    """By its own retries."""
    program = Program(TUSPY, tmp_path)
    await bench.upload_through_a_kill(with_tuspy(program), LARGE)
    bench.verify(program.receipt, LARGE)


async def test_tuspy_goes_on_after_both_were_killed(bench: Bench, tmp_path: Path) -> None:
    """From the address that it wrote down."""
    program, work = Program(TUSPY, tmp_path), bench.work(LARGE)
    async with bench.command.serving() as process:
        await with_tuspy(program, stop_at=KILL_AT)(work)
        process.kill()
        await process.wait()
    again = Program(TUSPY, tmp_path)
    async with bench.command.serving():
        await bench.upload(with_tuspy(again), LARGE)
    bench.verify(again.receipt, LARGE)


async def test_aiotus_uploads(bench: Bench) -> None:
    """The client as it comes."""
    async with bench.command.serving():
        for sealed in SMALL:
            await bench.upload(with_aiotus, sealed)


async def test_aiotus_goes_on_after_the_relay_was_killed(bench: Bench) -> None:
    """By its own retries."""
    await bench.upload_through_a_kill(with_aiotus, LARGE)
