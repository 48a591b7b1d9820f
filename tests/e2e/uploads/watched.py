"""An upload by a foreign client while its relay is killed and started again.

The client says how far it is; when it is far enough the relay gets SIGKILL, and is started
again. What the client does about it is its own business: it is used as it comes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bistro.clock import SystemClock
from bistro.net.collector_client import CollectorClient
from bistro.net.session import Session
from bistro.wire.batches import BatchItem
from bistro.wire.receipt import Receipt
from tests.support.paper import SPRING, PaperCall, Sealed
from tests.support.relay_processes import Command, key_of, new_relay

LARGE = Sealed(1, size=24_000_000)
SMALL = (Sealed(2, size=300_000), Sealed(3, size=2), Sealed(4, size=2_200_000))
KILL_AT = 3_000_000
"""Of the 12,000,000 bytes of a large fragment."""

DRAFT = {"PROTOCOLS__RESUMABLE_UPLOAD_DRAFT": "true"}

Client = Callable[["Work"], Awaitable[None]]
"""Uploads one fragment; returns once it believes that all of it was taken."""


@dataclass
class Work:
    """What a client needs, and nothing of ours.

    Attributes:
        file: The fragment.
        endpoint: Where uploads are created.
        metadata: The value of ``Upload-Metadata``.
        claim: The same as bytes, for clients that encode metadata themselves.
        taken: Bytes that the client says were taken; it sets this as it learns of them.
    """

    file: Path
    endpoint: str
    metadata: str
    claim: bytes
    taken: int = 0


@dataclass
class Program:
    """A program that uploads and says so, line by line: taken N, receipt TEXT, done.

    Attributes:
        command: How it is started; arguments follow.
        folder: Where.
        receipt: The last ``Bistro-Receipt`` that it was shown.
    """

    command: Sequence[str]
    folder: Path
    receipt: bytes = b""

    async def run(self, work: Work, *arguments: str, stop_at: int | None = None) -> None:
        """Run it to its end, which must be a good one; or kill it once so much was taken."""
        process = await asyncio.create_subprocess_exec(
            *self.command,
            *arguments,
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1_048_576,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        is_done = False
        try:
            async for line in process.stdout:
                word, _, value = line.strip().partition(b" ")
                if word == b"taken":
                    work.taken = int(value)
                elif word == b"receipt":
                    self.receipt = value
                is_done = is_done or word == b"done"
                if stop_at is not None and work.taken >= stop_at:
                    return
            errors = (await process.stderr.read()).decode()
            assert await process.wait() == 0, errors
            assert is_done, errors
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@dataclass
class Bench:
    """A relay's command, a call, and a fragment on disk."""

    command: Command
    call: PaperCall
    folder: Path

    def work(self, sealed: Sealed) -> Work:
        """What a client needs to upload fragment 0."""
        file = self.folder / f"{sealed.number}.fragment"
        file.write_bytes(sealed.fragment(0))
        claim = self.call.claim(sealed).encode()
        metadata = f"claim {base64.b64encode(claim).decode()}"
        return Work(file, f"{self.command.url}/uploads", metadata, claim)

    async def upload(self, client: Client, sealed: Sealed) -> None:
        """Upload to a relay that serves, and that nothing happens to."""
        work = self.work(sealed)
        await client(work)
        await self._check(sealed, work)

    async def upload_through_a_kill(self, client: Client, sealed: Sealed) -> None:
        """Upload while the relay is killed in the middle, and started again."""
        work = self.work(sealed)
        async with asyncio.TaskGroup() as group, contextlib.AsyncExitStack() as stack:
            process = await stack.enter_async_context(self.command.serving())
            uploading = group.create_task(_run(client, work))
            while work.taken < KILL_AT:
                assert not uploading.done(), "the client gave up, or was too fast"
                await asyncio.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            await process.wait()
            assert not uploading.done(), "the relay was killed too late"
            await stack.enter_async_context(self.command.serving())
            await uploading
            await self._check(sealed, work)

    async def _check(self, sealed: Sealed, work: Work) -> None:
        """The relay has promised the fragment, and hands out its bytes."""
        async with Session() as session:
            key, clock = self.call.collect_key, SystemClock()
            collector = CollectorClient(session, self.command.url, key=key, clock=clock)
            digest = hashlib.sha256()
            async with collector.fetch_batch([BatchItem(sealed.commitment, 0, 0)]) as frames:
                async for frame in frames:
                    digest.update(frame if isinstance(frame, bytes) else b"")
        assert digest.digest() == hashlib.sha256(work.file.read_bytes()).digest()
        lines = [line for line in self.command.log().splitlines() if "upload_created" in line]
        created = [line for line in lines if sealed.commitment.hex() in line]
        assert len(created) <= 1, "it went on where it was, instead of beginning anew"

    def verify(self, receipt: bytes, sealed: Sealed) -> None:
        """Check what a client found in the header ``Bistro-Receipt``."""
        found = Receipt.parse(base64.b64decode(receipt).decode())
        found.verify(key_of(self.command), SPRING, sealed.commitment)


async def _run(client: Client, work: Work) -> None:
    await client(work)


@contextlib.asynccontextmanager
async def new_bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A relay that speaks all it can."""
    async with new_relay(tmp_path, DRAFT) as (command, call, _):
        yield Bench(command, call, tmp_path)
