"""A real relay in this process: its own folder, loopback, a clock that the test moves."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from bistro.api import media, routes
from bistro.crypto.keyfile import encode_note_key
from bistro.daemon import supervise
from bistro.net.collector_client import CollectorClient
from bistro.net.relay_client import Piece, RelayClient, Upload
from bistro.net.session import Session
from bistro.storage.durable import SYSTEM_DISK, Disk
from bistro.wire.claim import Claim
from bistro.wire.receipt import Receipt
from bistro_relay.app.composition import Services, Surroundings
from bistro_relay.app.serving import Relay, open_services
from bistro_relay.settings import Settings
from bistro_relay.store.destinations import Destination, DestinationFiles
from tests.support.clocks import ManualClock
from tests.support.paper import RELAY, PaperCall, PaperServer, Sealed, publishing
from tests.support.strategies import note_key

TUS = {"Tus-Resumable": "1.0.0"}
NO_FIELDS: Mapping[str, str] = {}


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def relay_settings(root: Path, **sections: Mapping[str, object]) -> Settings:
    """Settings of the relay ``relay.example`` in ``root``, with its key in place."""
    port = free_port()
    key_path = root / "relay.key"
    if not key_path.exists():
        root.mkdir(parents=True, exist_ok=True)
        key_path.write_bytes(encode_note_key(note_key(RELAY)))
    table: dict[str, Any] = {
        "relay": {
            "name": RELAY,
            "operator": "Example Net",
            "key_path": str(key_path),
            "data_path": str(root / "data"),
        },
        "http": {"port": port, "base_url": f"http://127.0.0.1:{port}", "grace_s": 0.5},
        "limits": {"reserve_bytes": 0},
        "terms": {"refresh_s": 0},
    }
    for name, section in sections.items():
        table[name] = {**table.get(name, {}), **section}
    return Settings.model_validate(table)


def allow(settings: Settings, server: PaperServer, *, quota_bytes: int | None = None) -> None:
    """Let a paper destination use the relay, as the command ``allow`` does."""
    destination = Destination(
        server.key.name, server.url, server.key, quota_bytes, ManualClock().now()
    )
    DestinationFiles(settings.relay.data_path).save(destination)


@dataclass
class RunningRelay:
    """A relay that serves, and what a test needs to talk to it."""

    settings: Settings
    services: Services
    clock: ManualClock
    session: Session
    http: aiohttp.ClientSession
    task: asyncio.Task[None] = field(repr=False)

    @property
    def url(self) -> str:
        return self.settings.http.base_url

    @property
    def api(self) -> RelayClient:
        return RelayClient(self.session, self.url)

    def collector(self, call: PaperCall) -> CollectorClient:
        return CollectorClient(self.session, self.url, key=call.collect_key, clock=self.clock)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        fields: Mapping[str, str] = NO_FIELDS,
        **headers: str,
    ) -> Reply:
        """One raw tus request; underscores in names of ``headers`` stand for hyphens."""
        fields = {**TUS, **fields, **hyphened(headers)}
        fields = {name: value for name, value in fields.items() if value}
        async with self.http.request(
            method, self.url + path, data=_sent(body), headers=fields
        ) as response:
            return Reply(response.status, response.headers, await response.read())

    async def create(
        self,
        claim: Claim,
        *,
        body: bytes | None = None,
        fields: Mapping[str, str] = NO_FIELDS,
        **headers: str,
    ) -> Reply:
        """A raw creation with a claim."""
        usual = {"Upload-Length": str(claim.descriptor.size), "Upload-Metadata": metadata(claim)}
        if body is not None:
            usual["Content-Type"] = media.TUS_BYTES
        changed = {**usual, **fields, **hyphened(headers)}
        return await self.ask("POST", "/uploads", body=body, fields=changed)

    async def patch(self, path: str, body: bytes, *, at: int, **headers: str) -> Reply:
        """A raw append."""
        usual = {"Content-Type": media.TUS_BYTES, "Upload-Offset": str(at)}
        changed = {**usual, **hyphened(headers)}
        return await self.ask("PATCH", path, body=body, fields=changed)

    async def stage(self, call: PaperCall, sealed: Sealed, index: int = 0) -> Upload:
        """Upload one fragment in one request, and check its receipt."""
        claim, data = call.claim(sealed, index), sealed.fragment(index)
        upload = await self.api.create_upload(
            claim.encode(), size=len(data), first=Piece(pieces(data), len(data))
        )
        assert upload.receipt is not None
        upload.receipt.verify(note_key(RELAY).verifier, call.origin, sealed.commitment)
        return upload


@dataclass(frozen=True)
class Reply:
    """A raw answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def receipt(self) -> Receipt | None:
        found = self.headers.get(routes.RECEIPT)
        return None if found is None else Receipt.parse(base64.b64decode(found))

    @property
    def offset(self) -> int:
        return int(self.headers["Upload-Offset"])

    @property
    def path(self) -> str:
        return urlsplit(self.headers["Location"]).path


def _sent(body: bytes | None) -> io.BytesIO | None:
    """A body that a client library takes at any size without a warning."""
    return None if body is None else io.BytesIO(body)


async def pieces(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    """``data`` as a body that is sent piece by piece."""
    for at in range(0, len(data), size):
        yield data[at : at + size]


def damage(settings: Settings, data: bytes) -> None:
    """Change one bit of a fragment where it lies."""
    for path in (settings.relay.data_path / "segments").rglob("*.segment"):
        found = path.read_bytes()
        if (at := found.find(data)) >= 0:
            path.write_bytes(found[:at] + bytes([found[at] ^ 1]) + found[at + 1 :])


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what a running part does by itself; the test's time limit bounds it."""
    while not condition():  # noqa: ASYNC110 - the part knows nothing of tests
        await asyncio.sleep(0.02)


def hyphened(headers: Mapping[str, str]) -> dict[str, str]:
    """Names of header fields from names of arguments."""
    return {name.replace("_", "-"): value for name, value in headers.items()}


def metadata(claim: Claim) -> str:
    """The ``Upload-Metadata`` of a claim."""
    return f"claim {base64.b64encode(claim.encode()).decode()}"


@contextlib.asynccontextmanager
async def serving_relay(
    settings: Settings,
    clock: ManualClock | None = None,
    *,
    disk: Disk = SYSTEM_DISK,
    free_disk: Callable[[], int] | None = None,
) -> AsyncIterator[RunningRelay]:
    """Run the relay of a folder beside the body; the test looks at the task's error itself."""
    clock = ManualClock() if clock is None else clock
    around = Surroundings(clock, disk, free_disk)
    async with contextlib.AsyncExitStack() as stack:
        services = await stack.enter_async_context(open_services(settings, around))
        relay = Relay.bind(services)
        stop = asyncio.Event()
        task = asyncio.ensure_future(  # noqa: TID251 - awaited below
            supervise.run(relay.parts, stop=stop)
        )
        session = await stack.enter_async_context(Session())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        recovered = asyncio.ensure_future(  # noqa: TID251 - cancelled below
            services.keeper.recovered.wait()
        )
        await asyncio.wait({task, recovered}, return_when=asyncio.FIRST_COMPLETED)
        recovered.cancel()
        try:
            yield RunningRelay(settings, services, clock, session, http, task)
        finally:
            stop.set()
            await asyncio.wait({task})
    task.cancelled() or task.exception()


@dataclass
class Site:
    """A relay that serves one paper destination."""

    relay: RunningRelay
    call: PaperCall
    server: PaperServer


@contextlib.asynccontextmanager
async def allowed_relay(
    root: Path, **sections: Mapping[str, object]
) -> AsyncIterator[tuple[Settings, PaperCall]]:
    """A relay's folder and a served destination that may use it; the test runs the relay."""
    call = PaperCall()
    async with publishing(call) as server:
        settings = relay_settings(root, **sections)
        allow(settings, server)
        yield settings, call


@contextlib.asynccontextmanager
async def relay_site(
    root: Path,
    clock: ManualClock | None = None,
    *,
    free_disk: Callable[[], int] | None = None,
    **sections: Mapping[str, object],
) -> AsyncIterator[Site]:
    """A relay and a destination that it serves, both on loopback."""
    call = PaperCall()
    async with publishing(call) as server:
        settings = relay_settings(root, **sections)
        allow(settings, server)
        async with serving_relay(settings, clock, free_disk=free_disk) as relay:
            yield Site(relay, call, server)
            if relay.task.done():
                relay.task.result()
