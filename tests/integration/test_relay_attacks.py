"""Requests made to be read in two ways: the front, the ordinary server, and whoever is between."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bistro.api.message_signatures import Request, sign_request
from bistro.wire.batches import BatchItem, encode_batch_request
from tests.support.lines import written
from tests.support.paper import SPRING, Sealed
from tests.support.relays import Site, relay_site
from tests.support.small_fragments import line_to, staging

Lines = list[bytes]
SIZE = len(Sealed(1).fragment(0))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with relay_site(tmp_path) as found:
        # Its terms are known from here on, as the front wants it.
        await found.relay.stage(found.call, Sealed(99))
        yield found


async def status_of(site: Site, data: bytes) -> int | None:
    """Of the first answer that is one, or None where the connection was closed without."""
    line = await line_to(site.relay)
    try:
        answer = await line.ask(data)
        while answer.status == 100:
            answer = await line.answer()
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    finally:
        line.break_off()
    return answer.status


def more(*lines: bytes) -> Callable[[Lines], Lines]:
    """The usual head with these lines behind it."""
    return lambda found: [*found, *lines]


def instead(name: bytes, *lines: bytes) -> Callable[[Lines], Lines]:
    """The usual head with other lines for one field."""
    return lambda found: [
        *(one for one in found if not one.lower().startswith(name.lower() + b":")),
        *lines,
    ]


def starting(old: bytes, new: bytes) -> Callable[[Lines], Lines]:
    """The usual head with another start line."""
    return lambda found: [found[0].replace(old, new), *found[1:]]


LENGTH, TUS = b"Content-Length", b"Tus-Resumable"
ODD: dict[str, tuple[Callable[[Lines], Lines], bool]] = {
    "length with a sign": (instead(LENGTH, b"Content-Length: +%d" % SIZE), False),
    "length in hexadecimal": (instead(LENGTH, b"Content-Length: 0x1f4"), False),
    "length with a line below": (instead(LENGTH, b"Content-Length: 5_00"), False),
    "length with zeros": (instead(LENGTH, b"Content-Length: 000%d" % SIZE), True),
    "length twice": (more(b"Content-Length: %d" % SIZE), False),
    "two lengths": (more(b"Content-Length: %d" % (SIZE + 1)), False),
    "list of lengths": (instead(LENGTH, b"Content-Length: %d, %d" % (SIZE, SIZE)), False),
    "length before a blank": (instead(LENGTH, b"Content-Length : %d" % SIZE), False),
    "length and chunks": (more(b"Transfer-Encoding: chunked"), False),
    "length and unknown coding": (more(b"Transfer-Encoding: xchunked"), False),
    "length and chunks before a blank": (more(b"Transfer-Encoding : chunked"), False),
    "folded line": (more(b"X: a\r\n Transfer-Encoding: chunked"), False),
    "bare line feed": (more(b"X: a\nTransfer-Encoding: chunked"), False),
    "bare return": (more(b"X: a\rb"), False),
    "zero byte": (more(b"X: a\0b"), False),
    "no colon": (more(b"nonsense"), False),
    "no name": (more(b": x"), False),
    "blank in a name": (more(b"X Y: x"), False),
    "no host": (instead(b"Host"), False),
    "two hosts": (more(b"Host: other"), False),
    "older version": (starting(b"1.1", b"1.0"), True),
    "small letters": (starting(b"HTTP", b"http"), False),
    "query": (starting(b"/uploads", b"/uploads?a=b"), True),
    "encoded path": (starting(b"/uploads", b"/upload%73"), True),
    "path with a slash": (starting(b"/uploads", b"/uploads/"), False),
    "empty lines before": (starting(b"POST", b"\r\nPOST"), True),
    "other method": (more(b"X-HTTP-Method-Override: DELETE"), False),
    "two upload lengths": (more(b"Upload-Length: 5"), False),
    "upload length twice": (more(b"Upload-Length: %d" % SIZE), False),
    "other upload length": (instead(b"Upload-Length", b"Upload-Length: 501"), False),
    "version twice": (more(b"Tus-Resumable: 1.0.0"), False),
    "two versions": (instead(TUS, b"Tus-Resumable: 1.0.0, 2.0.0"), False),
    "no version": (instead(TUS), False),
    "type twice": (more(b"Content-Type: text/plain"), False),
    "two claims": (more(b"Upload-Metadata: claim AAAA"), False),
    "expectation": (more(b"Expect: 100-continue"), True),
    "upgrade": (more(b"Connection: Upgrade", b"Upgrade: h2c"), True),
    "too many fields": (more(*(b"X-%d: x" % number for number in range(80))), False),
    "too long a field": (more(b"X: " + b"x" * 17_000), False),
}
"""What is done to the usual request, and whether it is good all the same."""


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_request_is_read_alike_by_front_and_ordinary_server(
    site: Site, name: str
) -> None:
    """What is refused is refused by both, and nothing is held for it."""
    change, is_good = ODD[name]
    held = site.relay.services.room.used(SPRING.server)
    statuses = []
    for number in range(2):
        head, _, body = staging(site.call, Sealed(number)).partition(b"\r\n\r\n")
        lines = change(head.split(b"\r\n"))
        # The front leaves a field that is not ASCII to the ordinary server.
        odd = [b"X-Odd: \xe9"] * number
        statuses.append(
            await status_of(site, b"\r\n".join([lines[0], *odd, *lines[1:], b"", body]))
        )
    front, ordinary = statuses
    assert front == ordinary
    assert (front == 201) == is_good, front
    assert (site.relay.services.room.used(SPRING.server) == held) != is_good
    assert not site.relay.task.done()


def signed(site: Site, body: bytes, target: str = "/batches") -> dict[str, str]:
    """The fields of a good request of the destination."""
    authority = site.relay.url.removeprefix("http://")
    request = Request(method="POST", authority=authority, target=target, body=body)
    nonce = secrets.token_urlsafe(16)
    return sign_request(request, site.call.collect_key, now=site.relay.clock.now(), nonce=nonce)


def asking(fields: dict[str, str], body: bytes, *twice: str, target: str = "/batches") -> bytes:
    """That request written out, some fields twice."""
    usual = {
        "Host": "relay",
        "Content-Type": "application/msgpack",
        "Content-Length": str(len(body)),
    }
    again = "".join(f"{name}: {fields[name]}\r\n" for name in twice)
    head, _, rest = written(f"POST {target}", usual | fields, body).partition(b"\r\n")
    return head + b"\r\n" + again.encode() + rest


def batch(sealed: Sealed) -> bytes:
    return encode_batch_request([BatchItem(sealed.commitment, 0, 0)])


@pytest.mark.parametrize("name", ["Signature", "Signature-Input", "Content-Digest"])
async def test_a_signed_request_says_everything_once(site: Site, name: str) -> None:
    """Two signatures, or one twice, are no request of the one profile."""
    body = batch(Sealed(99))
    fields = signed(site, body)
    assert await status_of(site, asking(fields, body, name)) == 400
    assert await status_of(site, asking(fields, body)) == 200


async def test_no_part_of_a_signed_request_can_be_exchanged(site: Site) -> None:
    """Body, digest or address of another one, all of them good by themselves."""
    await site.relay.stage(site.call, Sealed(1))
    one, other = batch(Sealed(99)), batch(Sealed(1))
    fields, others = signed(site, one), signed(site, other)
    digest = {"Content-Digest": others["Content-Digest"]}
    assert await status_of(site, asking(fields, other)) == 422
    assert await status_of(site, asking(fields | digest, other)) == 422
    assert await status_of(site, asking(fields, one, target="/releases")) == 422
    assert await status_of(site, asking(fields, one, target="/batches?a=b")) == 422
    assert await status_of(site, asking(fields, one)) == 200


async def test_of_many_equal_requests_at_once_one_is_served(site: Site) -> None:
    """Whoever copies a request on its way gains nothing by being as fast."""
    body = batch(Sealed(99))
    data = asking(signed(site, body), body)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(status_of(site, data)) for _ in range(8)]
    assert sorted(task.result() or 0 for task in tasks) == [200] + [409] * 7
