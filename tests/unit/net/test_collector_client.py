"""The collector's client, over loopback: signed requests, and batches frame by frame."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web

from bistro.api import media, message_signatures, routes
from bistro.api.message_signatures import VerifiedRequest
from bistro.daemon.bodies import read_body
from bistro.daemon.web import Endpoint
from bistro.errors import BistroError, FormatError, UnavailableError
from bistro.instant import UnixMillis
from bistro.net.collector_client import CollectorClient, Frame
from bistro.net.session import Session
from bistro.wire.batches import (
    BatchItem,
    FrameHead,
    Release,
    Released,
    decode_batch_request,
    decode_releases,
    encode_release_answers,
)
from bistro.wire.staging import Failure, StagedRow, encode_staged
from tests.support.clocks import ManualClock
from tests.support.evidence import ORIGIN
from tests.support.serving import serving
from tests.support.strategies import note_key

KEY = note_key(ORIGIN.collect)
ITEMS = [BatchItem(bytes([n]) * 32, n, 10 * n) for n in range(3)]

Write = Callable[[bytes], object]


async def verified(request: web.Request) -> tuple[VerifiedRequest, bytes]:
    """Check the request's signature as a relay does."""
    body = await read_body(request, limit=10_000)
    found = message_signatures.verify_request(
        message_signatures.Request(request.method, request.host, request.raw_path, body),
        request.headers,
        keys_of=lambda key_id: [KEY.verifier] if key_id == KEY.verifier.key_id.hex() else [],
        now=ManualClock().now(),
    )
    return found, body


@contextlib.asynccontextmanager
async def client_of(*endpoints: Endpoint) -> AsyncIterator[CollectorClient]:
    async with serving(*endpoints) as base, Session() as session:
        yield CollectorClient(session, base, key=KEY, clock=ManualClock())


def sending(*parts: bytes, content_type: str = media.BATCH) -> Endpoint:
    """Answers a batch with ``parts``, each written by itself."""

    async def handler(request: web.Request) -> web.StreamResponse:
        _, body = await verified(request)
        assert decode_batch_request(body) == tuple(ITEMS)
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        return response

    return Endpoint(routes.BATCHES, handler, is_stream=True)


def frame(item: BatchItem, content: bytes) -> bytes:
    return FrameHead(item.commitment, item.index, item.offset, len(content)).encode() + content


async def read_all(client: CollectorClient) -> list[Frame]:
    async with client.fetch_batch(ITEMS, bytes_per_s=1_000) as frames:
        return [one async for one in frames]


async def test_staged_rows_are_asked_for_signed_and_with_a_wait() -> None:
    """Every request has a nonce of its own."""
    rows = (StagedRow(8, b"claim", UnixMillis(9)),)
    nonces: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        found, _ = await verified(request)
        nonces.append(found.nonce)
        assert dict(request.query) == {"after": "7", "limit": "1000", "wait_s": "2"}
        return web.Response(body=encode_staged(rows))

    async with client_of(Endpoint(routes.STAGED, handler, is_stream=True)) as client:
        for _ in range(2):
            assert await client.fetch_staged(after=7, wait_s=2) == rows
    assert len(set(nonces)) == 2


async def test_a_batch_is_read_head_by_head_with_its_bytes() -> None:
    """A fragment the relay does not have is a head with a code."""
    missing = FrameHead(ITEMS[1].commitment, 1, 10, code="unknown-object")
    stream = frame(ITEMS[0], b"abc") + missing.encode() + frame(ITEMS[2], b"")
    async with client_of(sending(stream[:5], stream[5:50], stream[50:])) as client:
        frames = await read_all(client)
    heads = [one for one in frames if isinstance(one, FrameHead)]
    assert [(head.index, head.length, head.code) for head in heads] == [
        (0, 3, None),
        (1, 0, "unknown-object"),
        (2, 0, None),
    ]
    assert b"".join(one for one in frames if isinstance(one, bytes)) == b"abc"


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([frame(ITEMS[1], b"abc")], id="another order"),
        pytest.param([frame(ITEMS[0], b"abc")], id="too few"),
        pytest.param([frame(item, b"") for item in (*ITEMS, ITEMS[0])], id="too many"),
        pytest.param([frame(ITEMS[0], b"abc")[:-1]], id="within a fragment"),
        pytest.param([b"\xff\xff\xff\xff"], id="no head"),
    ],
)
async def test_a_batch_that_was_not_asked_for_is_malformed(parts: list[bytes]) -> None:
    """A relay that answers nonsense is found out while reading."""
    async with client_of(sending(*parts)) as client:
        with pytest.raises(FormatError):
            await read_all(client)


async def test_another_kind_of_answer_is_malformed() -> None:
    """A page of a proxy is no batch."""
    async with client_of(sending(b"<html>", content_type="text/html")) as client:
        with pytest.raises(FormatError, match="content type"):
            await read_all(client)


async def test_a_batch_that_breaks_off_is_unavailable() -> None:
    """What was read before is good and is continued from its offset."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": media.BATCH})
        await response.prepare(request)
        await response.write(frame(ITEMS[0], b"abc")[:-1])
        raise UnavailableError("the disk is busy")

    async with client_of(Endpoint(routes.BATCHES, handler, is_stream=True)) as client:
        with pytest.raises(UnavailableError, match="broke"):
            await read_all(client)


async def test_leaving_a_batch_early_is_allowed() -> None:
    """The collector may be stopped at any time."""
    endpoint = sending(*(frame(item, b"abc") for item in ITEMS))
    async with client_of(endpoint) as client, client.fetch_batch(ITEMS) as frames:
        first = await anext(frames)
    assert isinstance(first, FrameHead)


async def test_releases_are_signed_with_their_body() -> None:
    """Signature and body are what a relay keeps as proof."""
    releases = [Release(ORIGIN, bytes(32), index, bytes(32)) for index in range(2)]
    answers = (Released(), Failure("conflict", "another hash"))

    async def handler(request: web.Request) -> web.Response:
        found, body = await verified(request)
        kept = message_signatures.Request("POST", str(request.url.authority), request.path, body)
        message_signatures.verify_kept(found.base, found.signature, kept, key=KEY.verifier)
        assert decode_releases(body) == tuple(releases)
        return web.Response(body=encode_release_answers(answers))

    async with client_of(Endpoint(routes.RELEASES, handler)) as client:
        assert await client.release(releases) == answers
        with pytest.raises(BistroError):
            await client.release(releases[:1])
