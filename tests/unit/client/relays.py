"""A relay in memory that keeps its promises, or breaks them in one chosen way.

The real relay is tested beside the client in ``tests/integration``; this one lies on demand.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from bistro.api import routes
from bistro.api.problems import encode_problem, problem_headers
from bistro.clock import Clock
from bistro.crypto.treehash import tree_hash
from bistro.errors import (
    BistroError,
    ChecksumMismatchError,
    ConflictError,
    RefusedError,
    RelayFullError,
    UnavailableError,
    UnknownObjectError,
)
from bistro.instant import UnixMillis
from bistro.wire.claim import Claim
from bistro.wire.clauses import Relay
from bistro.wire.discovery import RelayDiscovery, ServedDestination
from bistro.wire.entry import ReceiptEntry
from tests.support.promises import MemoryLedger
from tests.support.strategies import note_key

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
HOLD_MS = 30 * 86_400_000


@dataclass
class Held:
    """An upload, complete or not."""

    claim: Claim
    data: bytearray = field(default_factory=bytearray)
    receipt: str | None = None


@dataclass
class FakeRelay:
    """One relay; ``how`` says how it behaves from now on, ``room`` how many uploads it takes.

    | how | behaviour |
    |---|---|
    | good | as specified |
    | nonsense | answers everything with text that means nothing |
    | full | refuses new uploads with 507 |
    | silent | closes every connection without an answer |
    | breaks | takes 70,000 bytes of an upload and closes the connection, then is as ``then`` |
    | forged | signs receipts with another key |
    | short | promises to hold for a minute only |
    | blames | says once that the bytes are not what the claim says |
    | busy | refuses the next upload with 503 and ``retry_after_s``, then is good |
    | deaf | takes the next upload's connection and never reads from it |
    | gone | forgets the upload that is asked for next, then is good |
    | pauses | answers the next bytes of an upload with 503 and ``retry_after_s``, then is good |
    | trickles | takes bytes slowly, to the end |
    | stalls | takes 70,000 bytes of an upload and then no more |
    | cast | takes the first of ``roles``, which relays may share, at the next creation |
    """

    name: str
    clock: Clock
    server: str = "permits.example"
    how: str = "good"
    then: str = "good"
    url: str = ""
    room: int | None = None
    uploads: dict[str, Held] = field(default_factory=dict)
    creations: int = 0
    probes: int = 0
    received_size: int = 0
    retry_after_s: int = 0
    waited_ms: int = 0
    roles: list[str] = field(default_factory=list)
    sisters: str = ""
    ended: list[str] = field(default_factory=list)
    _busy_at: int = 0

    @property
    def in_terms(self) -> Relay:
        """The relay as terms name it."""
        return Relay(
            name=self.name,
            operator=self.name.partition(".")[0],
            url=self.url,
            vkey=note_key(self.name).verifier,
            region="",
            weight=100,
        )

    @property
    def held(self) -> dict[tuple[bytes, int], bytes]:
        """Fragments with receipts, by commitment and index."""
        return {
            (one.claim.commitment, one.claim.descriptor.index): bytes(one.data)
            for one in self.uploads.values()
            if one.receipt is not None
        }

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._behave], client_max_size=2**30)
        app.router.add_get(routes.RELAY_DISCOVERY.template, self._discovery)
        app.router.add_post(routes.UPLOAD_CREATION.template, self._create)
        app.router.add_route("HEAD", routes.UPLOAD_OFFSET.template, self._offset)
        app.router.add_patch(routes.UPLOAD_BYTES.template, self._append)
        app.router.add_delete(routes.UPLOAD_TERMINATION.template, self._terminate)
        app.router.add_get(routes.UPLOAD_RECEIPT.template, self._receipt)
        return app

    @web.middleware
    async def _behave(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self.how == "silent":
            hang_up(request)
            raise asyncio.CancelledError
        if self.how == "nonsense":
            return web.Response(text="<html>It works!</html>", content_type="text/html")
        try:
            return await handler(request)
        except BistroError as exc:
            headers = problem_headers(exc)
            if self.sisters and isinstance(exc, UnavailableError):
                headers[routes.SISTERS] = self.sisters
            return web.Response(body=encode_problem(exc), status=exc.http_status, headers=headers)

    async def _discovery(self, request: web.Request) -> web.Response:
        self.probes += 1
        found = RelayDiscovery(
            name=self.name,
            operator=self.name,
            region="",
            vkey=note_key(self.name).verifier,
            base_url=self.url,
            destinations=(ServedDestination(server=self.server, calls=("spring",)),),
            free_bytes=2**40,
            load=0,
            accepting=True,
        )
        return web.Response(body=found.encode(), content_type="application/json")

    async def _create(self, request: web.Request) -> web.Response:
        self.creations += 1
        if self.how == "cast":
            self.how = self.roles.pop(0)
        if self.how == "full" or (self.room is not None and len(self.uploads) >= self.room):
            raise RelayFullError(f"{self.name}: full")
        now = self.clock.now()
        if self.how == "busy":
            self.how, self._busy_at = "good", now
            raise UnavailableError(f"{self.name}: busy", retry_after_s=self.retry_after_s)
        if self._busy_at:
            self.waited_ms, self._busy_at = now - self._busy_at, 0
        if self.how == "deaf":
            await asyncio.Event().wait()
        key, _, value = request.headers[routes.METADATA].partition(" ")
        assert key == routes.CLAIM_KEY
        claim = Claim.decode(base64.b64decode(value))
        for upload, one in self.uploads.items():
            is_same = one.claim.commitment == claim.commitment
            if one.receipt is not None and is_same and one.claim.descriptor == claim.descriptor:
                return self._answer(upload, 201)
        upload = secrets.token_urlsafe(12)
        self.uploads[upload] = Held(claim)
        await self._take(request, upload)
        return self._answer(upload, 201)

    async def _offset(self, request: web.Request) -> web.Response:
        return self._answer(self._known(request), 200)

    async def _append(self, request: web.Request) -> web.Response:
        upload = self._known(request)
        if self.how == "pauses":
            self.how = "good"
            raise UnavailableError(f"{self.name}: busy", retry_after_s=self.retry_after_s)
        if routes.parse_offset(request.headers) != len(self.uploads[upload].data):
            raise ConflictError("another offset")
        await self._take(request, upload)
        return self._answer(upload, 204)

    async def _receipt(self, request: web.Request) -> web.Response:
        receipt = self.uploads[self._known(request)].receipt
        if receipt is None:
            raise UnknownObjectError("no receipt yet")
        return web.Response(text=receipt)

    async def _terminate(self, request: web.Request) -> web.Response:
        upload = self._known(request)
        if self.uploads[upload].receipt is not None:
            raise RefusedError("there is a receipt")
        self.ended.append(upload)
        del self.uploads[upload]
        return web.Response(status=204)

    def _known(self, request: web.Request) -> str:
        upload = request.match_info["upload"]
        if self.how == "gone" or upload not in self.uploads:
            self.uploads.pop(upload, None)
            self.how = "good"
            raise UnknownObjectError("no such upload")
        return upload

    async def _take(self, request: web.Request, upload: str) -> None:
        if self.how == "blames":
            self.how = "good"
            raise ChecksumMismatchError("expected another hash")
        held = self.uploads[upload]
        async for chunk in request.content.iter_chunked(65_536):
            held.data += chunk
            self.received_size += len(chunk)
            if self.how == "trickles":
                await asyncio.sleep(0.1)
            if self.how == "stalls" and len(held.data) >= 70_000:
                await asyncio.Event().wait()
            if self.how == "breaks" and len(held.data) >= 70_000:
                self.how = self.then
                hang_up(request)
                raise asyncio.CancelledError
        descriptor = held.claim.descriptor
        if len(held.data) == descriptor.size:
            assert tree_hash(held.data) == descriptor.fragment_hash
            held.receipt = self._promise(held.claim)

    def _promise(self, claim: Claim) -> str:
        seed = "forged" if self.how == "forged" else ""
        key = note_key(self.name, seed=seed).renamed(claim.origin.custody(self.name))
        now = self.clock.now()
        hold_ms = 60_000 if self.how == "short" else HOLD_MS
        return MemoryLedger(key).promise(
            ReceiptEntry(
                origin=claim.origin.custody(self.name),
                time=now,
                digest=claim.commitment,
                index=claim.descriptor.index,
                size=claim.descriptor.size,
                fragment_hash=claim.descriptor.fragment_hash,
                hold_until=UnixMillis(now + hold_ms),
            )
        )

    def _answer(self, upload: str, status: int) -> web.Response:
        held = self.uploads[upload]
        headers = {
            "Location": f"/uploads/{upload}",
            routes.OFFSET: str(len(held.data)),
            routes.LENGTH: str(held.claim.descriptor.size),
            routes.TUS_RESUMABLE: routes.TUS_VERSION,
        }
        if held.receipt is not None:
            headers[routes.RECEIPT] = base64.b64encode(held.receipt.encode()).decode()
        return web.Response(status=status, headers=headers)


def hang_up(request: web.Request) -> None:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.close()


@contextlib.asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    """The URL under which an app answers on loopback."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        listening = socket.socket()
        # As over a distance: what is not read does not vanish in the system's buffers.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        listening.bind(("127.0.0.1", 0))
        await web.SockSite(runner, listening).start()
        port = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
