"""The client of a relay, over loopback: tus as it is spoken, answers read strictly."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from bistro.api import media, routes
from bistro.daemon.bodies import stream_body
from bistro.daemon.web import Endpoint
from bistro.errors import (
    ChecksumMismatchError,
    ConflictError,
    FormatError,
    RelayFullError,
    UnknownObjectError,
)
from bistro.instant import UnixMillis
from bistro.net.relay_client import Piece, RelayClient
from bistro.net.session import Session
from bistro.wire.discovery import RelayDiscovery
from bistro.wire.entry import ReceiptEntry, TermsEntry
from bistro.wire.receipt import Receipt
from bistro.wire.served_terms import ServedTerms
from bistro.wire.terms import build
from bistro.wire.ticket import TermsInForce
from tests.support.evidence import ORIGIN, first_terms
from tests.support.promises import MemoryLedger
from tests.support.serving import serving
from tests.support.strategies import note_key

RELAY = "relay-0.example"
CLAIM = b"an encoded claim"
CONTENT = b"0123456789"


def receipt_text() -> str:
    custody = MemoryLedger(note_key(ORIGIN.custody(RELAY)))
    return custody.promise(
        ReceiptEntry(
            origin=custody.origin,
            time=UnixMillis(1),
            digest=bytes(32),
            index=1,
            size=len(CONTENT),
            fragment_hash=bytes(32),
            hold_until=UnixMillis(2),
        )
    )


@dataclass
class TinyRelay:
    """Speaks the part of tus that a filer's client does, over one upload in memory."""

    content: bytearray = field(default_factory=bytearray)
    exists: bool = False
    location: str = "/uploads/abc_1"

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(routes.UPLOAD_CREATION, self.create, is_stream=True),
            Endpoint(routes.UPLOAD_OFFSET, self.tell),
            Endpoint(routes.UPLOAD_BYTES, self.take, is_stream=True),
            Endpoint(routes.UPLOAD_TERMINATION, self.end),
            Endpoint(routes.UPLOAD_RECEIPT, self.give_receipt),
        ]

    async def create(self, request: web.Request) -> web.Response:
        assert request.headers[routes.TUS_RESUMABLE] == "1.0.0"
        assert request.headers[routes.LENGTH] == str(len(CONTENT))
        name, claim = request.headers[routes.METADATA].split(" ")
        assert (name, base64.b64decode(claim)) == ("claim", CLAIM)
        if request.can_read_body:
            media.require_media_type(request.content_type, media.TUS_BYTES)
            await self._append(request)
        self.exists = True
        return web.Response(status=201, headers={"Location": self.location, **self._fields()})

    async def tell(self, _: web.Request) -> web.Response:
        self._require()
        return web.Response(headers=self._fields())

    async def take(self, request: web.Request) -> web.Response:
        self._require()
        if int(request.headers[routes.OFFSET]) != len(self.content):
            raise ConflictError(f"offset: expected {len(self.content)}")
        await self._append(request)
        return web.Response(status=204, headers=self._fields())

    async def end(self, _: web.Request) -> web.Response:
        self._require()
        self.exists = False
        return web.Response(status=204)

    async def give_receipt(self, _: web.Request) -> web.Response:
        self._require()
        return web.Response(text=receipt_text())

    async def _append(self, request: web.Request) -> None:
        async for piece in stream_body(request, limit=len(CONTENT)):
            self.content += piece
        if len(self.content) == len(CONTENT) and self.content != CONTENT:
            raise ChecksumMismatchError("fragment: expected other bytes")

    def _require(self) -> None:
        if not self.exists:
            raise UnknownObjectError("upload: there is none of this id")

    def _fields(self) -> dict[str, str]:
        told = {routes.OFFSET: str(len(self.content))}
        if self.content == CONTENT:
            told[routes.RECEIPT] = base64.b64encode(receipt_text().encode()).decode()
        return told


@contextlib.asynccontextmanager
async def client_of(*endpoints: Endpoint) -> AsyncIterator[RelayClient]:
    async with serving(*endpoints) as base, Session() as session:
        yield RelayClient(session, base)


async def test_a_small_fragment_needs_one_request() -> None:
    """Creation with all bytes answers with the receipt."""
    async with client_of(*TinyRelay().endpoints()) as client:
        first = Piece(CONTENT, len(CONTENT))
        upload = await client.create_upload(CLAIM, size=len(CONTENT), first=first)
        assert (upload.id, upload.offset) == ("abc_1", len(CONTENT))
        assert upload.receipt == Receipt.parse(receipt_text())
        assert await client.fetch_receipt(upload.id) == upload.receipt


async def test_an_upload_goes_on_from_the_offset_the_relay_tells() -> None:
    """Pieces come from an iterable and are announced with their length."""

    async def rest(offset: int) -> AsyncIterator[bytes]:
        for at in range(offset, len(CONTENT), 2):
            yield CONTENT[at : at + 2]

    async with client_of(*TinyRelay().endpoints()) as client:
        upload = await client.create_upload(CLAIM, size=len(CONTENT))
        assert (upload.offset, upload.receipt) == (0, None)
        await client.append(upload.id, Piece(CONTENT[:4], 4), offset=0)
        with pytest.raises(ConflictError, match="expected 4"):
            await client.append(upload.id, Piece(b"x", 1), offset=0)
        upload = await client.fetch_offset(upload.id)
        assert (upload.offset, upload.receipt) == (4, None)
        done = await client.append(upload.id, Piece(rest(4), 6), offset=4)
        assert done.receipt is not None


async def test_bytes_that_are_not_those_of_the_claim_are_told() -> None:
    """The sender learns that the fragment has to be sent anew."""
    async with client_of(*TinyRelay().endpoints()) as client:
        with pytest.raises(ChecksumMismatchError):
            await client.create_upload(CLAIM, size=10, first=Piece(b"x" * 10, 10))


async def test_an_upload_that_was_given_up_is_unknown() -> None:
    """Also to HEAD, whose answer has no body."""
    async with client_of(*TinyRelay().endpoints()) as client:
        upload = await client.create_upload(CLAIM, size=len(CONTENT))
        await client.terminate(upload.id)
        with pytest.raises(UnknownObjectError):
            await client.fetch_offset(upload.id)
        with pytest.raises(UnknownObjectError):
            await client.append(upload.id, Piece(b"", 0), offset=0)


async def test_a_relay_without_room_says_so_before_bytes_flow() -> None:
    """The client tries another one."""

    async def full(_: web.Request) -> web.Response:
        raise RelayFullError("no room for 10 bytes")

    async with client_of(Endpoint(routes.UPLOAD_CREATION, full)) as client:
        with pytest.raises(RelayFullError, match="no room"):
            await client.create_upload(CLAIM, size=10, first=Piece(CONTENT, 10))


@pytest.mark.parametrize(
    "location", ["", "/elsewhere/abc", "/uploads/", "/uploads/a/b", "/uploads/é"]
)
async def test_a_location_without_an_upload_id_is_malformed(location: str) -> None:
    """Where an upload lies is never a place of the relay's choosing."""
    async with client_of(*TinyRelay(location=location).endpoints()) as client:
        with pytest.raises(FormatError, match="Location"):
            await client.create_upload(CLAIM, size=len(CONTENT))


async def test_an_absolute_location_gives_its_id_only() -> None:
    """The next request goes to the relay that was asked, whatever host stands there."""
    relay = TinyRelay(location="https://elsewhere.example/x/uploads/abc_1")
    async with client_of(*relay.endpoints()) as client:
        upload = await client.create_upload(CLAIM, size=len(CONTENT))
        assert (await client.fetch_offset(upload.id)).offset == 0


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {routes.OFFSET: "-1"},
        {routes.OFFSET: "10", routes.RECEIPT: "!"},
        {routes.OFFSET: "10", routes.RECEIPT: "bm8gcmVjZWlwdA=="},
    ],
)
async def test_nonsense_in_header_fields_is_malformed(fields: dict[str, str]) -> None:
    """No offset, no receipt: the relay is not believed."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(headers=fields)

    async with client_of(Endpoint(routes.UPLOAD_OFFSET, handler)) as client:
        with pytest.raises(FormatError):
            await client.fetch_offset("abc")


async def test_discovery_and_terms_are_fetched() -> None:
    """A filer can seal while the destination is down."""
    discovery = RelayDiscovery(
        name=RELAY,
        operator="City",
        region="",
        vkey=note_key(RELAY).verifier,
        base_url=f"https://{RELAY}",
        destinations=(),
        free_bytes=1,
        load=0,
        accepting=True,
    )
    terms = build(first_terms(), note_key(ORIGIN.server))
    entry = TermsEntry(origin=str(ORIGIN), time=UnixMillis(1), digest=terms.hash)
    proof = MemoryLedger(note_key(str(ORIGIN))).promise(entry)
    served = ServedTerms(terms, TermsInForce.parse(proof))

    async def describe(_: web.Request) -> web.Response:
        return web.Response(body=discovery.encode())

    async def show(request: web.Request) -> web.Response:
        assert request.path == f"/terms/{ORIGIN.server}/{ORIGIN.call}"
        return web.Response(body=served.encode())

    async with client_of(
        Endpoint(routes.RELAY_DISCOVERY, describe), Endpoint(routes.RELAY_TERMS, show)
    ) as client:
        assert await client.fetch_discovery() == discovery
        assert await client.fetch_terms(ORIGIN) == served
