"""Noise at a real relay: bytes, fields and claims that were made up, of every kind.

Whatever comes, no answer says that it was our fault, nothing is held for it, an upload that
lives stays where it was, and the relay serves the next one.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.lines import Line, written
from tests.support.paper import SPRING, Sealed
from tests.support.relays import TUS, Site, relay_site
from tests.support.small_fragments import staging
from tests.support.strategies import corrupted

pytestmark = pytest.mark.timeout(120)

GOOD = Sealed(1)

SILENCE_S = 0.05
"""Who has not answered until then waits for more."""
LAST = b"GET /healthz HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n"
"""Ends a line on which all is well, unless what went before takes it for its body."""
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")

NAMES = (
    "Accept",
    "Bistro-Rate",
    "Connection",
    "Content-Digest",
    "Content-Encoding",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "Expect",
    "If-None-Match",
    "Origin",
    "Access-Control-Request-Method",
    "Range",
    "Signature",
    "Signature-Input",
    "Transfer-Encoding",
    "Tus-Resumable",
    "Upgrade",
    "Upload-Checksum",
    "Upload-Complete",
    "Upload-Concat",
    "Upload-Defer-Length",
    "Upload-Draft-Interop-Version",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
    "X-HTTP-Method-Override",
)
VALUES = (
    "",
    "0",
    "1",
    "5000",
    "5001",
    "18446744073709551616",
    "-1",
    "?1",
    "?0",
    "6",
    "1.0.0",
    "100-continue",
    "chunked",
    "gzip",
    "close",
    "DELETE",
    "PATCH",
    "partial",
    "application/offset+octet-stream",
    "application/partial-upload",
    "application/msgpack",
    "sha1 2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
    "claim AAAA",
    "websocket",
)
METHODS = ("POST", "PATCH", "HEAD", "DELETE", "OPTIONS", "GET", "PUT", "BREW")
PATHS = (
    "/uploads",
    "/uploads/{upload}",
    "/uploads/{upload}/receipt",
    "/uploads/{upload}/custody",
    "/uploads/00000000000000000000000000000000",
    "/staged?after=0&limit=9&wait_s=0",
    "/staged?after=%00&limit=-1",
    "/batches",
    "/releases",
    "/terms/permits.example/spring",
    "/service",
    "/service/2026-11",
    "/takedowns/" + "0" * 64,
    "/.well-known/bistro-relay.json",
    "/openapi.json",
    "/metrics",
    "*",
)
NOISE = st.text(st.characters(codec="latin-1", exclude_categories=["C"]), max_size=300)
LINES = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES) | NOISE),
    max_size=12,
)


class Place:
    """A relay with one upload that lives, for all examples of this module.

    Attributes:
        path: Of the upload.
        request: A good creation of another, whole; never sent before the last test.
        claim: That one's.
    """

    def __init__(self, site: Site, path: str) -> None:
        self.site = site
        self.path = path
        self.port = site.relay.settings.http.port
        self.request = staging(site.call, Sealed(7))
        (value,) = re.findall(rb"Upload-Metadata: claim (\S+)", self.request)
        self.claim = base64.b64decode(value)

    async def throw(self, data: bytes) -> list[int]:
        """Send bytes and hang up after a silence; the statuses of all answers until then."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        said = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            writer.write(data + LAST)
            while piece := await asyncio.wait_for(reader.read(65_536), SILENCE_S):
                said += piece
        writer.transport.abort()
        return [int(status) for status in STATUS.findall(said)]

    async def ask(self, request: bytes) -> int:
        """The status of the answer to a whole request."""
        async with await Line.to(self.port) as line:
            return (await line.ask(request)).status

    async def stands(self) -> None:
        """The upload is where it was, nothing is held, and the relay serves."""
        reply = await self.site.relay.ask("HEAD", self.path)
        assert (reply.status, reply.offset) == (200, 100)
        used = self.site.relay.services.room.used(SPRING.server)
        assert used == len(GOOD.fragment(0))
        assert not self.site.relay.task.done()


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as found:
        yield found


@pytest.fixture(scope="module")
def place(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    stack = contextlib.AsyncExitStack()

    async def begin() -> Place:
        root = tmp_path_factory.mktemp("fuzzed")
        protocols = {"resumable_upload_draft": True}
        site = await stack.enter_async_context(relay_site(root, protocols=protocols))
        path = (await site.relay.create(site.call.claim(GOOD))).path
        assert (await site.relay.patch(path, GOOD.fragment(0)[:100], at=0)).offset == 100
        return Place(site, path)

    yield runner.run(begin())
    runner.run(stack.aclose())


def assert_refused(statuses: list[int]) -> None:
    """Perhaps 100 before it; never an error of ours, and nothing that was taken."""
    for status in statuses:
        assert status == 100 or 200 <= status < 500, statuses


@settings(max_examples=100)
@given(st.binary(max_size=2_000))
def test_any_bytes_are_refused_or_no_request(
    runner: asyncio.Runner, place: Place, data: bytes
) -> None:
    """Noise on a connection."""
    assert_refused(runner.run(place.throw(data)))
    runner.run(place.stands())


@st.composite
def requests(draw: st.DrawFn) -> str:
    """Fields that mean something with values that mean something, in the wrong places."""
    start = f"{draw(st.sampled_from(METHODS))} {draw(st.sampled_from(PATHS))} HTTP/1.1"
    known = draw(st.sampled_from([[], [("Tus-Resumable", "1.0.0")]]))
    lines = [f"{name}: {value}" for name, value in (*known, *draw(LINES))]
    return "\r\n".join([start, "Host: relay", *lines, "", ""])


@settings(max_examples=200)
@given(requests(), st.binary(max_size=300))
def test_any_fields_on_any_address_leave_all_as_it_was(
    runner: asyncio.Runner, place: Place, head: str, body: bytes
) -> None:
    """An upload may be ended by who knows its name; nothing else happens, and no 5xx."""
    upload = place.path.rpartition("/")[2]
    data = head.replace("{upload}", upload).encode("latin-1") + body
    assert_refused(runner.run(place.throw(data)))
    runner.run(_restore(place))
    runner.run(place.stands())


async def _restore(place: Place) -> None:
    """Begin the upload again if a request of the example ended it, as it may: it knew its name."""
    reply = await place.site.relay.ask("HEAD", place.path)
    if reply.status == 200 and reply.offset == 100:
        return
    if reply.status == 200:
        assert reply.offset > 100, "an offset never goes down"
        await place.site.relay.ask("DELETE", place.path)
    place.path = (await place.site.relay.create(place.site.call.claim(GOOD))).path
    await place.site.relay.patch(place.path, GOOD.fragment(0)[:100], at=0)


@settings(max_examples=200)
@given(st.data())
def test_a_claim_that_was_changed_is_refused(
    runner: asyncio.Runner, place: Place, data: st.DataObject
) -> None:
    """One byte changed, put in or left out, with all bytes behind it: 400, 403, 404 or 422."""
    wrong = data.draw(corrupted(st.just(place.claim)))
    if wrong == place.claim:
        return
    request = place.request.replace(base64.b64encode(place.claim), base64.b64encode(wrong))
    assert runner.run(place.ask(request)) in {400, 403, 404, 422}


@settings(max_examples=100)
@given(NOISE)
def test_any_metadata_are_a_claim_or_malformed(
    runner: asyncio.Runner, place: Place, value: str
) -> None:
    """Here never a claim."""
    fields = {"Host": "relay", **TUS, "Upload-Length": "5", "Content-Length": "0"}
    head = written("POST /uploads", fields)[:-2].decode() + f"Upload-Metadata: {value}\r\n\r\n"
    assert runner.run(place.ask(head.encode("latin-1"))) == 400


def test_a_good_claim_is_taken_after_all_that(runner: asyncio.Runner, place: Place) -> None:
    """The one that the others are made from; and nothing else was ever held."""
    runner.run(place.stands())
    assert runner.run(place.ask(place.request)) == 201
