"""The real command ``bistro-relay serve``, killed and started again; and what it leaves lying."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import aiohttp
import pytest

from bistro.clock import SystemClock
from bistro.crypto.sealing import Sealer, parse_recipient
from bistro.crypto.treehash import TreeHash, tree_hash
from bistro.errors import BistroError, RelayFullError, UnavailableError
from bistro.net.collector_client import CollectorClient
from bistro.net.relay_client import Piece, RelayClient
from bistro.net.session import Session
from bistro.wire.batches import BatchItem
from bistro.wire.clauses import Spread
from bistro.wire.fragment import Layout
from bistro.wire.receipt import Receipt
from tests.support.paper import SPRING, PaperCall, Sealed
from tests.support.relay_processes import Command, answers, key_of, new_relay
from tests.support.relays import pieces
from tests.support.strategies import X25519_RECIPIENTS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SECRETS = (b"Ada Lovelace", b"tender-for-the-bridge.pdf", b"our price is 1,234,567 euros")


@dataclass(frozen=True)
class Secret(Sealed):
    """A real envelope of one filing, in copies: every byte of it lies on the relay."""

    k: int = 1
    n: int = 2

    @cached_property
    def envelope(self) -> bytes:
        sealer = Sealer([parse_recipient(X25519_RECIPIENTS[0])])
        plain = b"\n".join(SECRETS) * 1_000
        return sealer.header() + sealer.update(plain) + sealer.finish()

    @property
    def layout(self) -> Layout:
        digest = tree_hash(self.envelope)
        return Layout(digest, len(self.envelope), self.k, self.n)

    def fragment(self, index: int) -> bytes:
        return self.envelope


async def send_until_killed(
    client: RelayClient, upload: str, rest: bytes, process: asyncio.subprocess.Process, at: int
) -> None:
    """Send from offset ``at`` on, and kill the relay when 25 MB have left."""

    async def body() -> AsyncIterator[bytes]:
        sent = 0
        async for piece in pieces(rest, 500_000):
            yield piece
            sent += len(piece)
            if sent > 25_000_000:
                process.send_signal(signal.SIGKILL)
                await process.wait()

    with pytest.raises(UnavailableError):
        await client.append(upload, Piece(body(), len(rest)), offset=at)


async def test_an_upload_survives_kill_9_again_and_again(tmp_path: Path) -> None:
    """Killed in the middle of a request, a relay goes on where it acknowledged, and holds."""
    sealed = Sealed(1, size=160_000_000)
    data = sealed.fragment(0)
    async with new_relay(tmp_path) as (command, call, _), Session() as session:
        client = RelayClient(session, command.url)
        claim = call.claim(sealed).encode()
        async with command.serving() as process:
            upload = (await client.create_upload(claim, size=len(data))).id
            await send_until_killed(client, upload, data, process, 0)
        async with command.serving() as process:
            first = (await client.fetch_offset(upload)).offset
            assert first >= 8_388_608, "what was made durable on the way is not sent again"
            await send_until_killed(client, upload, data[first:], process, first)
        async with command.serving():
            second = (await client.fetch_offset(upload)).offset
            assert second >= first
            rest = data[second:]
            done = await client.append(upload, Piece(pieces(rest), len(rest)), offset=second)
            assert done.receipt is not None
            done.receipt.verify(key_of(command), SPRING, sealed.commitment)
        async with command.serving() as process:
            again = await client.create_upload(claim, size=len(data))
            assert again.receipt is not None
            assert again.receipt.entry == done.receipt.entry
            clock = SystemClock()
            collector = CollectorClient(session, command.url, key=call.collect_key, clock=clock)
            digest = TreeHash()
            async with collector.fetch_batch([BatchItem(sealed.commitment, 0, 0)]) as frames:
                async for frame in frames:
                    digest.update(frame if isinstance(frame, bytes) else b"")
            assert digest.digest() == sealed.cut.descriptors[0].fragment_hash
            process.terminate()
            assert await process.wait() == 0


async def stage_until_killed(
    command: Command,
    call: PaperCall,
    sealed: Sequence[Sealed],
    process: asyncio.subprocess.Process,
    *,
    kill_after: int,
) -> dict[Sealed, Receipt]:
    """Stage over eight connections, and kill the relay when so many receipts have come."""
    told: dict[Sealed, Receipt] = {}
    left = iter(sealed)

    async def stage(client: RelayClient) -> None:
        for one in left:
            data = one.fragment(0)
            done = await client.create_upload(
                call.claim(one).encode(), size=len(data), first=Piece(data, len(data))
            )
            assert done.receipt is not None
            told[one] = done.receipt
            if len(told) == kill_after:
                process.send_signal(signal.SIGKILL)

    async def stage_some() -> None:
        async with Session() as session:
            with contextlib.suppress(UnavailableError):
                await stage(RelayClient(session, command.url))

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(stage_some())
    await process.wait()
    return told


async def test_every_receipt_of_a_small_fragment_survives_kill_9(tmp_path: Path) -> None:
    """Killed amid batches, once with its database lost, a relay holds what it signed for."""
    told: dict[Sealed, Receipt] = {}
    sizes = (2, 20_000, 131_072, 1_900_000)
    async with new_relay(tmp_path) as (command, call, _), Session() as session:
        client = RelayClient(session, command.url)
        for run in range(4):
            sealed = [Sealed(run * 100 + n, size=sizes[n % 4]) for n in range(60)]
            async with command.serving() as process:
                told |= await stage_until_killed(
                    command, call, sealed, process, kill_after=7 + 9 * run
                )
            if run == 2:
                for path in command.folder.glob("relay.sqlite3*"):
                    path.unlink()
        async with command.serving():
            for one, receipt in told.items():
                receipt.verify(key_of(command), SPRING, one.commitment)
                again = await client.create_upload(
                    call.claim(one).encode(), size=len(one.fragment(0))
                )
                assert again.receipt is not None
                assert again.receipt.entry == receipt.entry
            clock = SystemClock()
            collector = CollectorClient(session, command.url, key=call.collect_key, clock=clock)
            items = [BatchItem(one.commitment, 0, 0) for one in told]
            found: list[bytes] = []
            async with collector.fetch_batch(items) as frames:
                async for frame in frames:
                    if isinstance(frame, bytes):
                        found[-1] += frame
                    else:
                        found.append(b"")
            assert found == [one.fragment(0) for one in told]


def assert_unreadable(folder: Path) -> None:
    """Nothing of the filing is in any file below ``folder``."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        found = path.read_bytes()
        for word in SECRETS:
            assert word not in found, path
            assert word.decode().encode("utf-16-le") not in found, path


async def test_nothing_readable_lies_on_a_relay(tmp_path: Path) -> None:
    """No file name, no filer, no plaintext in data, ledgers, database and logs; no address."""
    secret = Secret(1)
    async with new_relay(tmp_path) as (command, call, _), Session() as session:
        call.publish(replace(call.terms, spread=Spread(1, 2)))
        call.versions[:] = call.versions[-1:]
        async with command.serving() as process:
            client = RelayClient(session, command.url)
            claim = call.claim(secret).encode()
            data = secret.fragment(0)
            done = await client.create_upload(
                claim, size=len(data), first=Piece(pieces(data), len(data))
            )
            assert done.receipt is not None
            second = call.claim(secret, 1).encode()
            half = len(data) // 2
            await client.create_upload(
                second, size=len(data), first=Piece(pieces(data[:half]), half)
            )
            process.terminate()
            assert await process.wait() == 0
    assert_unreadable(tmp_path)
    for line in map(json.loads, command.log().splitlines()):
        if line["event"] not in {"listening_started", "relay_started", "terms_fetch_failed"}:
            assert "127.0.0.1" not in json.dumps(line), line
        assert "fields_refused" not in line, line


async def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    """On a small file system of its own: 507, the offset stays, the relay stays up."""
    async with new_relay(tmp_path) as (command, call, _), Session() as session:
        script = 'mount -t tmpfs -o size=12m tmpfs "$0" && cp -r "$1/." "$0" && exec "${@:2}"'
        mount = tmp_path / "small"
        mount.mkdir()
        probe = await asyncio.create_subprocess_exec("unshare", "-Urm", "true")
        if await probe.wait() != 0:
            pytest.skip("no user namespaces on this machine")
        process = await asyncio.create_subprocess_exec(
            *("unshare", "-Urm", "bash", "-c", script, str(mount), str(command.folder)),
            *(sys.executable, "-c", "from bistro_relay.cli import main; main()"),
            *("serve", "--dir", str(mount)),
            env=command.environ,
        )
        try:
            async with aiohttp.ClientSession() as probe_session:
                while not await answers(probe_session, command.url):
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
            client = RelayClient(session, command.url)
            # Terms are learned and written before the room is measured.
            probe_upload = await client.create_upload(
                call.claim(Sealed(9)).encode(), size=Sealed(9).layout.fragment_size
            )
            await client.terminate(probe_upload.id)
            free = (await client.fetch_discovery()).free_bytes
            huge = Sealed(1, size=2 * free + 200_000)
            claim = call.claim(huge).encode()
            with pytest.raises(BistroError) as refused:
                await client.create_upload(claim, size=huge.layout.fragment_size)
            assert refused.value.code == "relay-full"
            # As much as there is room for: head, end and database make it too much.
            tight = Sealed(2, size=2 * free)
            data = tight.fragment(0)
            try:
                upload = await client.create_upload(call.claim(tight).encode(), size=len(data))
            except RelayFullError:
                pass  # The database has grown since: now it is known before bytes flow.
            else:
                with pytest.raises(RelayFullError):
                    await client.append(upload.id, Piece(pieces(data), len(data)), offset=0)
                offset = (await client.fetch_offset(upload.id)).offset
                assert offset < len(data)
                await client.terminate(upload.id)
            small = Sealed(3)
            first = small.fragment(0)
            done = await client.create_upload(
                call.claim(small).encode(), size=len(first), first=Piece(first, len(first))
            )
            assert done.receipt is not None
            assert process.returncode is None
            process.terminate()
            assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
