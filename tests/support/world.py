"""A whole world in this process: a real destination, real relays, filers; one clock for all.

Everything speaks HTTP on loopback with the programs' own code. Nothing happens by itself but
what the daemons' parts do: time passes when the test moves the clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bistro.crypto.keyfile import encode_note_key
from bistro.crypto.sealing import Sealer, parse_recipient
from bistro.crypto.signing import sign_message
from bistro.net.relay_client import Piece, RelayClient, Upload
from bistro.net.server_client import ServerClient
from bistro.net.session import Session
from bistro.protocol.archive import ArchiveWriter
from bistro.storage.disk import SYSTEM_DISK, Disk
from bistro.wire.claim import Claim
from bistro.wire.clauses import Relay
from bistro.wire.fragment import Cut
from bistro.wire.header import SIGNATURE_PREFIX, Header, Kind, SignedHeader
from bistro.wire.manifest import File, Manifest
from bistro.wire.staging import PresentedReceipt, ReceiptAnswer
from bistro.wire.ticketing import Ticketed, TicketRequest
from bistro_relay.settings import Settings as RelaySettings
from bistro_relay.store.destinations import Destination as Allowed
from bistro_relay.store.destinations import DestinationFiles
from bistro_server.services.collecting_rounds import Collected, Rounds
from bistro_server.services.opening import CallOpening, Opened
from tests.support.clocks import ManualClock
from tests.support.destinations import Destination, make_call, make_server, serving_folder
from tests.support.fragments import cut_up
from tests.support.relays import RunningRelay, free_port, pieces, serving_relay
from tests.support.strategies import note_key, private_key

RELAY_NAMES = ("anna.example", "bert.example", "cora.example")
SMALL_FILES: Mapping[str, bytes] = {"form.xml": b"<form/>", "scans/page 1.png": b"\x89PNG" * 2_000}


@dataclass(frozen=True)
class Filing:
    """What a filer has of one submission.

    Attributes:
        ticket: Its proof text; empty before ``World.ticket``.
    """

    signed: SignedHeader
    manifest: Manifest
    envelope: bytes
    cut: Cut
    fragments: tuple[bytes, ...] = field(repr=False)
    header_leaf: bytes
    ticket: str = ""

    @property
    def commitment(self) -> bytes:
        return self.cut.commitment(self.header_leaf)

    def claim(self, call: Any, index: int) -> Claim:
        return Claim(
            origin=call.origin,
            promise=self.ticket,
            layout=self.cut.layout,
            header_leaf=self.header_leaf,
            descriptor=self.cut.descriptors[index],
            path=self.cut.path(index),
        )


@dataclass
class World:
    """A destination and its relays.

    Attributes:
        site: The running destination, with the call ``spring``.
        relays: The running relays, by name.
    """

    root: Path
    clock: ManualClock
    site: Destination
    relay_settings: Mapping[str, RelaySettings]
    relays: dict[str, RunningRelay] = field(default_factory=dict)
    _stacks: dict[str, contextlib.AsyncExitStack] = field(default_factory=dict)

    async def start(self, name: str, *, disk: Disk = SYSTEM_DISK) -> None:
        """Start a relay, where it was or anew."""
        stack = contextlib.AsyncExitStack()
        settings = self.relay_settings[name]
        self.relays[name] = await stack.enter_async_context(
            serving_relay(settings, self.clock, disk=disk)
        )
        self._stacks[name] = stack

    async def stop(self, name: str) -> None:
        """Stop a relay; its folder stays."""
        del self.relays[name]
        await self._stacks.pop(name).aclose()

    async def stop_all(self) -> None:
        for name in list(self.relays):
            await self.stop(name)

    def seal(  # noqa: PLR0913 - whatever a test wants to be wrong
        self,
        files: Mapping[str, bytes] = SMALL_FILES,
        *,
        filer: str = "ada",
        slot: str = "main",
        kind: Kind = "submit",
        previous: bytes | None = None,
        nonce: str = "",
        archive: bytes | None = None,
        envelope: bytes | None = None,
        **changes: Any,
    ) -> Filing:
        """Seal files as a client does; ``changes`` are fields of the header, to be wrong.

        ``archive`` is sealed instead of the archive, ``envelope`` cut instead of an envelope;
        ``signature`` and ``header_leaf`` replace the filer's and the commitment's.
        """
        terms = self.site.terms
        manifest = Manifest(
            tuple(
                File(path, len(data), "application/octet-stream", hashlib.sha256(data).digest())
                for path, data in sorted(files.items(), key=lambda item: item[0].encode())
            )
        )
        key = private_key(filer)
        fields: dict[str, Any] = {
            "terms_hash": self.site.call.latest.hash,
            "manifest_sha256": manifest.digest,
            "filer_key": key.public_key().public_bytes_raw(),
            "slot": slot,
            "kind": kind,
            "previous": previous,
            "nonce": hashlib.sha256(f"{filer} {slot} {nonce}".encode()).digest(),
        }
        signature = changes.pop("signature", None)
        header_leaf = changes.pop("header_leaf", None)
        header = Header(**{**fields, **changes})
        signed = SignedHeader(
            header, signature or sign_message(key, SIGNATURE_PREFIX, header.encode())
        )
        if archive is None:
            archive = archive_of(signed, manifest, files)
        if envelope is None:
            sealer = Sealer([parse_recipient(text) for text in terms.recipients])
            envelope = sealer.header() + sealer.update(archive) + sealer.finish()
        cut, fragments = cut_up(envelope, k=terms.spread.k, n=terms.spread.n)
        return Filing(signed, manifest, envelope, cut, tuple(fragments), header_leaf or header.leaf)

    async def ticket(self, filing: Filing) -> Filing:
        """The same filing, with its ticket."""
        request = TicketRequest(filing.commitment, self.site.call.latest.hash)
        answer = await self.site.api.request_ticket(self.site.call.id, request)
        assert isinstance(answer, Ticketed), answer
        return with_ticket(filing, answer.ticket)

    async def stage(self, filing: Filing, index: int, relay: str | None = None) -> Upload:
        """Upload one fragment to a relay, by default the one of its number."""
        name = RELAY_NAMES[index] if relay is None else relay
        running = self.relays[name]
        data = filing.fragments[index]
        claim = filing.claim(self.site.call, index)
        client = RelayClient(running.session, running.url)
        return await client.create_upload(
            claim.encode(), size=len(data), first=Piece(pieces(data), len(data))
        )

    async def present(
        self, filing: Filing, uploads: Mapping[int, Upload]
    ) -> Sequence[ReceiptAnswer]:
        """Show the receipts of uploads, by fragment index, to the destination."""
        items = tuple(
            PresentedReceipt(filing.claim(self.site.call, index).encode(), upload.receipt.text())
            for index, upload in uploads.items()
            if upload.receipt is not None
        )
        return await self.site.api.present_receipts(self.site.call.id, items)

    async def submit(
        self,
        files: Mapping[str, bytes] = SMALL_FILES,
        *,
        indexes: Sequence[int] = (0, 1, 2),
        is_presented: bool = True,
        **options: Any,
    ) -> Filing:
        """Seal, ticket, stage and present, as a client does."""
        filing = await self.ticket(self.seal(files, **options))
        return await self.staged(filing, indexes, is_presented=is_presented)

    async def staged(
        self, filing: Filing, indexes: Sequence[int] = (0, 1, 2), *, is_presented: bool = True
    ) -> Filing:
        """Stage and present a filing with a ticket."""
        uploads = {index: await self.stage(filing, index) for index in indexes}
        if is_presented:
            await self.present(filing, uploads)
        return filing

    def rounds(self, **changes: Any) -> Rounds:
        """What ``collect`` runs."""
        return Rounds(folder=self.site.folder, clock=self.clock, error_limit_ms=100, **changes)

    async def collect(self, **changes: Any) -> Collected:
        """Collect the call until nothing moves."""
        (found,) = await self.rounds(**changes).run([self.site.call.id])
        return found

    def opening(self, **changes: Any) -> CallOpening:
        """What ``open`` runs."""
        return CallOpening(folder=self.site.folder, clock=self.clock, error_limit_ms=100, **changes)

    async def open(self, *, identity: Path | None = None, **changes: Any) -> Opened:
        """Open the call."""
        return await self.opening(**changes).run(self.site.call.id, identity=identity)

    async def collect_and_open(self) -> None:
        """Everything that a destination does after ``closes``, once."""
        await self.collect()
        self.pass_stage_by()
        await self.open()

    def pass_stage_by(self) -> None:
        """Let time pass until the call may be opened if everything is collected."""
        self.clock.advance(self.site.terms.stage_by - self.clock.now() + 1)

    def pass_repair_by(self) -> None:
        """Let time pass until the call may be opened whatever is missing."""
        self.clock.advance(self.site.terms.repair_by - self.clock.now() + 1)

    @property
    def inbox(self) -> Path:
        return self.site.call.folder.inbox

    def index(self) -> list[dict[str, Any]]:
        """What ``index.jsonl`` says."""
        text = (self.inbox / "index.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def outcome(self, filing: Filing) -> tuple[str, list[str]]:
        """Outcome and reason codes of a filing in the index."""
        (line,) = [one for one in self.index() if one["commitment"] == filing.commitment.hex()]
        return line["outcome"], [reason["code"] for reason in line["reasons"]]


def with_ticket(filing: Filing, ticket: str) -> Filing:
    """``filing`` with the ticket it was given."""
    return Filing(
        filing.signed,
        filing.manifest,
        filing.envelope,
        filing.cut,
        filing.fragments,
        filing.header_leaf,
        ticket,
    )


def archive_of(signed: SignedHeader, manifest: Manifest, files: Mapping[str, bytes]) -> bytes:
    """The archive that a client makes."""
    writer = ArchiveWriter(signed, manifest, padding="none")
    parts = []
    for file in manifest.files:
        parts.append(writer.begin_file())
        writer.write(files[file.path])
        parts += [files[file.path], writer.end_file()]
    parts += writer.finish()
    return b"".join([writer.head(signed), *parts])


def _relay_settings(root: Path, name: str) -> RelaySettings:
    port = free_port()
    key_path = root / name / "relay.key"
    key_path.parent.mkdir(parents=True)
    key_path.write_bytes(encode_note_key(note_key(name)))
    return RelaySettings.model_validate(
        {
            "relay": {
                "name": name,
                "operator": name.partition(".")[0],
                "key_path": str(key_path),
                "data_path": str(root / name / "data"),
            },
            "http": {"port": port, "base_url": f"http://127.0.0.1:{port}", "grace_s": 0.5},
            "limits": {"reserve_bytes": 0},
            "terms": {"refresh_s": 0},
        }
    )


@contextlib.asynccontextmanager
async def _destination(
    root: Path, clock: ManualClock, **changes: Any
) -> AsyncIterator[Destination]:
    """A destination that says truly where it is, since relays go by what it says."""
    folder, settings = make_server(root, port=free_port())
    call = await make_call(folder, clock, **changes)
    async with serving_folder(folder, settings, clock) as (server, task), Session() as session:
        base_url = settings.http.base_url
        api = ServerClient(session, base_url)
        yield Destination(folder, call, clock, server, base_url, session, api, task)
        if task.done():
            task.result()


@contextlib.asynccontextmanager
async def world(
    root: Path,
    *,
    names: Sequence[str] = RELAY_NAMES,
    clock: ManualClock | None = None,
    **changes: Any,
) -> AsyncIterator[World]:
    """A destination with the call ``spring`` and the relays it names, all running.

    ``changes`` are those of the call's plan: see ``tests.support.destinations.plan``.
    """
    settings = {name: _relay_settings(root, name) for name in names}
    relays = tuple(
        Relay(
            name=name,
            operator=one.relay.operator,
            url=one.http.base_url,
            vkey=note_key(name).verifier,
            region="",
            weight=100,
        )
        for name, one in settings.items()
    )
    clock = ManualClock() if clock is None else clock
    async with _destination(root / "server", clock, relays=relays, **changes) as site:
        for one in settings.values():
            key = site.terms.keys.terms
            allowed = Allowed(key.name, site.base_url, key, None, clock.now())
            await asyncio.to_thread(DestinationFiles(one.relay.data_path).save, allowed)
        found = World(root, clock, site, settings)
        try:
            for name in names:
                await found.start(name)
            yield found
        finally:
            await found.stop_all()
