"""A real destination in this process: its own folder, loopback, a clock that the test moves."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bistro.crypto.signing import LocalSigner, SigningKey
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.ledger.ledger import Ledger
from bistro.ledger.sequencer import Draft, Sequencer
from bistro.net.server_client import ServerClient
from bistro.net.session import Session
from bistro.storage.durable import Disk
from bistro.wire.claim import Claim
from bistro.wire.clauses import Relay, Spread
from bistro.wire.entry import ReceiptEntry
from bistro.wire.fragment import UNIT_SIZE, Cut, Descriptor, Layout
from bistro.wire.terms import Terms
from bistro.wire.ticketing import Ticketed, TicketRequest
from bistro_server.app import Server
from bistro_server.services.calls import Call, CallRegistry
from bistro_server.services.creating import Plan, create_call, init_server, load_terms_key
from bistro_server.services.folder import ServerFolder
from bistro_server.settings import ServerSettings, initial_settings
from tests.support.clocks import NOON, ManualClock
from tests.support.strategies import note_key

NAME = "permits.example"
SPRING = Origin(NAME, "spring")
RELAYS = tuple(
    Relay(
        name=f"{name}.example",
        operator=name,
        url=f"https://{name}.example",
        vkey=note_key(f"{name}.example").verifier,
        region="",
        weight=100,
    )
    for name in ("anna", "bert", "cora")
)
HOUR_MS = 3_600_000


def commitment(number: int) -> bytes:
    """The same 32 bytes for the same number."""
    return hashlib.sha256(f"commitment {number}".encode()).digest()


def make_server(
    root: Path, *, port: int = 0, **options: Any
) -> tuple[ServerFolder, ServerSettings]:
    """A new server's folder and its settings; ``options`` are sections of the settings."""
    folder = ServerFolder(root)
    url = f"http://127.0.0.1:{port}"
    text = initial_settings(name=NAME, host="127.0.0.1", port=port, base_url=url)
    init_server(folder, name=NAME, settings=text, now=UnixMillis(NOON - HOUR_MS))
    return folder, settings_for(port=port, **options)


def settings_for(*, port: int = 0, **options: Any) -> ServerSettings:
    """Settings with short pauses."""
    table: dict[str, Any] = {
        "name": NAME,
        "http": {"port": port, "base_url": f"http://127.0.0.1:{port}", "grace_s": 0.5},
        "calls": {"poll_ms": 10},
        "disk": {"min_free_bytes": 0},
        **options,
    }
    return ServerSettings.model_validate(table)


def plan(now: UnixMillis, **changes: Any) -> Plan:
    """A call that opens now, closes in 1 h, and wants data within 2 h and repairs within 3 h."""
    values: dict[str, Any] = {
        "origin": SPRING,
        "title": "Spring permits",
        "opens": now,
        "closes": UnixMillis(now + HOUR_MS),
        "grace_ms": 1_000,
        "stage_by": UnixMillis(now + 2 * HOUR_MS),
        "repair_by": UnixMillis(now + 3 * HOUR_MS),
        "sealed_until": "stage_by",
        "time_zone": "UTC",
        "envelope_limit": 1 << 30,
        "files_limit": 100,
        "spread": Spread(k=2, n=3),
        "relays": RELAYS,
    }
    return Plan(**{**values, **changes})


async def make_call(folder: ServerFolder, clock: ManualClock, **changes: Any) -> Call:
    """A call of ``plan``, made as ``call create`` makes it."""
    wanted = plan(clock.now(), **changes)
    await create_call(
        folder.call(wanted.origin.call),
        wanted,
        load_terms_key(folder, name=NAME),
        clock,
        recipient_kind="x25519",
        error_limit_ms=100,
    )
    return CallRegistry(folder).load(wanted.origin.call)


@dataclass
class Destination:
    """A running server with the call ``spring``."""

    folder: ServerFolder
    call: Call
    clock: ManualClock
    server: Server
    base_url: str
    session: Session
    api: ServerClient
    task: asyncio.Task[None] = field(repr=False)

    @property
    def terms(self) -> Terms:
        return self.call.terms

    def request(self, number: int) -> TicketRequest:
        """A well-formed request for a ticket."""
        return TicketRequest(commitment(number), self.terms.hash)


@contextlib.asynccontextmanager
async def serving_folder(
    folder: ServerFolder,
    settings: ServerSettings,
    clock: ManualClock,
    *,
    disk: Disk | None = None,
    ca_path: Path | None = None,
) -> AsyncIterator[tuple[Server, asyncio.Task[None]]]:
    """Run the server of a folder beside the body; the test looks at the task's error itself.

    With ``ca_path``, the authority of its certificate, it serves TLS as ``localhost``.
    """
    server = await Server.open(folder, settings, clock, disk=disk)
    stop = asyncio.Event()
    task = asyncio.ensure_future(server.run(stop))  # noqa: TID251 - awaited below
    try:
        # Answered once the parts run: stopping them before would leave sockets half made.
        origin = "http://127.0.0.1" if ca_path is None else "https://localhost"
        async with Session(ca_path=ca_path) as session:
            await session.ask("GET", f"{origin}:{server.http.port}/healthz", limit=100)
        yield server, task
    finally:
        stop.set()
        await asyncio.wait([task])
        await server.close()


@contextlib.asynccontextmanager
async def destination(
    root: Path, clock: ManualClock | None = None, **changes: Any
) -> AsyncIterator[Destination]:
    """A server with one call, serving; ``changes`` go to the call's plan."""
    clock = ManualClock() if clock is None else clock
    folder, settings = make_server(root)
    call = await make_call(folder, clock, **changes)
    async with serving_folder(folder, settings, clock) as (server, task), Session() as session:
        base_url = f"http://127.0.0.1:{server.http.port}"
        yield Destination(
            folder, call, clock, server, base_url, session, ServerClient(session, base_url), task
        )
        if task.done():
            task.result()


@dataclass(frozen=True)
class Envelope:
    """What a filer has of one submission: everything but the bytes."""

    cut: Cut
    header_leaf: bytes

    @classmethod
    def numbered(cls, number: int, *, k: int = 2, n: int = 3) -> Envelope:
        """The same for the same number: one full row of units."""
        digest = commitment(number)
        layout = Layout(digest, k * UNIT_SIZE, k, n)
        descriptors = tuple(
            Descriptor(index, UNIT_SIZE, hashlib.sha256(digest + bytes([index])).digest())
            for index in range(n)
        )
        return cls(Cut(layout, descriptors), hashlib.sha256(b"header" + digest).digest())

    @property
    def commitment(self) -> bytes:
        return self.cut.commitment(self.header_leaf)

    def claim(self, origin: Origin, ticket: str, index: int) -> Claim:
        return Claim(
            origin=origin,
            promise=ticket,
            layout=self.cut.layout,
            header_leaf=self.header_leaf,
            descriptor=self.cut.descriptors[index],
            path=self.cut.path(index),
        )


async def ticket_for(site: Destination, envelope: Envelope) -> str:
    """The ticket that the server gives for an envelope."""
    request = TicketRequest(envelope.commitment, site.terms.hash)
    answer = await site.api.request_ticket(site.call.id, request)
    assert isinstance(answer, Ticketed)
    return answer.ticket


async def receipt_of(
    directory: Path,
    clock: ManualClock,
    claim: Claim,
    relay: str = "anna.example",
    *,
    key: SigningKey | None = None,
    size: int | None = None,
) -> str:
    """A receipt from a real custody ledger of a relay, for the fragment of ``claim``."""
    origin = claim.origin.custody(relay)
    signer = LocalSigner((key or note_key(relay)).renamed(origin))
    ledger = await Ledger.open(directory / relay, signer=signer)
    sequencer = Sequencer(ledger, clock)
    descriptor = claim.descriptor

    def build(time: UnixMillis) -> bytes:
        return ReceiptEntry(
            origin=origin,
            time=time,
            digest=claim.commitment,
            index=descriptor.index,
            size=descriptor.size if size is None else size,
            fragment_hash=descriptor.fragment_hash,
            hold_until=UnixMillis(time + 30 * 24 * HOUR_MS),
        ).encode()

    task = asyncio.ensure_future(sequencer.run())  # noqa: TID251 - awaited below
    try:
        return (await sequencer.submit(Draft(None, clock.now(), build))).proof.decode()
    finally:
        task.cancel()
        await asyncio.wait([task])
        await ledger.close()
