"""The extensions of tus 1.0 that a relay offers: each MUST by its name in docs/spec/tus.md."""

from __future__ import annotations

import base64
import hashlib
import re
from email.utils import parsedate_to_datetime

import pytest

from bistro.protocol.transfer import INCOMPLETE_MS
from tests.support.paper import SPRING, Sealed
from tests.support.relays import Reply, Site, metadata
from tests.support.ways import AskedRelay, Way

IMF_FIXDATE = re.compile(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT")


async def created(site: Site, sealed: Sealed) -> str:
    reply = await site.relay.create(site.call.claim(sealed))
    assert reply.status == 201
    return reply.path


def checksum(algorithm: str, data: bytes) -> str:
    return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"


def expires_at(reply: Reply) -> int:
    found = reply.headers["Upload-Expires"]
    assert IMF_FIXDATE.fullmatch(found)
    return int(parsedate_to_datetime(found).timestamp() * 1_000)


@pytest.mark.parametrize("value", ["1", "0", "5000", "x"])
@pytest.mark.parametrize("length", ["", "5000"])
async def test_a_deferred_length_is_refused_with_the_length_of_the_claim(
    site: Site, value: str, length: str
) -> None:
    """Clearly: what was found, and what to send instead; with and without bytes."""
    sealed = Sealed(1)
    claim = site.call.claim(sealed)
    for body in (None, sealed.fragment(0)):
        fields = {"Upload-Length": length, "Upload-Defer-Length": value}
        reply = await site.relay.create(claim, body=body, fields=fields)
        assert reply.status == 400
        assert b"Upload-Defer-Length" in reply.body
        assert f"Upload-Length: {claim.descriptor.size}".encode() in reply.body
    assert await site.relay.collector(site.call).fetch_staged() == ()


@pytest.mark.parametrize("value", ["partial", "final;/uploads/a /uploads/b", ""])
async def test_parts_of_uploads_are_refused(site: Site, value: str) -> None:
    """Concatenation is not offered, and never taken for an upload of its own."""
    sealed = Sealed(1)
    fields = {"Upload-Concat": value or " "}
    reply = await site.relay.create(site.call.claim(sealed), body=sealed.fragment(0), fields=fields)
    assert (reply.status, b"Upload-Concat" in reply.body) == (400, True)
    assert await site.relay.collector(site.call).fetch_staged() == ()


@pytest.mark.parametrize(
    "form",
    [
        "",
        "claim",
        "claim ",
        "claim !!!!",
        " {value}",
        "claim {value},claim {value}",
        "claim {value},filename d29ybGQ=",
        "filename d29ybGQ=,claim {value}",
        "claim  {value}",
        "Claim {value}",
        "claim {value}=====",
    ],
)
async def test_metadata_of_another_form_is_refused(site: Site, form: str) -> None:
    """One unique key with a value in base64; names of files never get here."""
    sealed = Sealed(1)
    claim = site.call.claim(sealed)
    wrong = form.format(value=metadata(claim).partition(" ")[2])
    for body in (None, sealed.fragment(0)):
        reply = await site.relay.create(claim, body=body, fields={"Upload-Metadata": wrong})
        assert reply.status == 400
        assert b"Upload-Metadata" in reply.body


async def test_creation_without_a_length_is_refused(site: Site) -> None:
    """With bytes and without."""
    sealed = Sealed(1)
    for body in (None, sealed.fragment(0)):
        reply = await site.relay.create(site.call.claim(sealed), body=body, Upload_Length="")
        assert (reply.status, b"Upload-Length" in reply.body) == (400, True)


async def test_a_length_never_changes(site: Site) -> None:
    """Another one with an append is refused with it; the same is no change."""
    sealed = Sealed(1)
    path, data = await created(site, sealed), sealed.fragment(0)
    for wrong in (len(data) - 1, len(data) + 1, 0, 10**15):
        reply = await site.relay.patch(path, data[:9], at=0, Upload_Length=str(wrong))
        assert (reply.status, b"Upload-Length" in reply.body) == (400, True)
    reply = await site.relay.patch(path, data[:9], at=0, Upload_Length=str(len(data)))
    assert (reply.status, reply.offset) == (204, 9)
    head = await site.relay.ask("HEAD", path)
    assert head.headers["Upload-Length"] == str(len(data))


async def test_head_tells_the_metadata_as_given(site: Site) -> None:
    """To the letter, before the last byte and after it."""
    sealed = Sealed(1)
    claim = site.call.claim(sealed)
    path, given = (await site.relay.create(claim)).path, metadata(claim)
    assert (await site.relay.ask("HEAD", path)).headers["Upload-Metadata"] == given
    await site.relay.patch(path, sealed.fragment(0), at=0)
    assert (await site.relay.ask("HEAD", path)).headers["Upload-Metadata"] == given


async def test_a_length_above_the_maximum_is_413(site: Site) -> None:
    """Said before anything else is looked at."""
    claim = site.call.claim(Sealed(1))
    too_long = str(site.relay.settings.limits.fragment_bytes + 1)
    assert (await site.relay.create(claim, Upload_Length=too_long)).status == 413
    reply = await site.relay.create(claim, body=b"abc", Upload_Length=too_long)
    assert reply.status == 413


async def test_creation_is_201_with_a_location_that_works(site: Site) -> None:
    """A whole URL below the relay's own, since some clients cannot join a relative one."""
    sealed = Sealed(1)
    empty = await site.relay.create(site.call.claim(sealed))
    whole = await site.relay.create(site.call.claim(Sealed(2)), body=Sealed(2).fragment(0))
    for reply in (empty, whole):
        assert reply.status == 201
        assert reply.headers["Location"].startswith(site.relay.url + "/uploads/")
        assert (await site.relay.ask("HEAD", reply.path)).offset == reply.offset
    assert (await site.relay.patch(empty.path, sealed.fragment(0), at=0)).receipt is not None


async def test_creation_with_another_content_type_is_refused(site: Site) -> None:
    """With 415, and nothing is created."""
    sealed = Sealed(1)
    claim = site.call.claim(sealed)
    for kind in ("application/octet-stream", "text/plain", ""):
        reply = await site.relay.create(claim, body=sealed.fragment(0), Content_Type=kind)
        assert reply.status == 415
    assert site.relay.services.room.used(SPRING.server) == 0


async def test_creation_with_upload_tells_the_offset_behind_its_bytes(site: Site) -> None:
    """All of a fragment, with its receipt; or the first bytes, and the rest goes on there."""
    sealed = Sealed(1)
    data = sealed.fragment(0)
    whole = await site.relay.create(site.call.claim(Sealed(2)), body=Sealed(2).fragment(0))
    assert (whole.status, whole.offset) == (201, len(Sealed(2).fragment(0)))
    assert whole.receipt is not None
    assert isinstance(site.relay, AskedRelay)
    is_front = next(iter(whole.headers)) == "Content-Length"
    assert is_front == (site.relay.way is Way.QUICK), "the way is the one it is called"
    first = await site.relay.create(site.call.claim(sealed), body=data[:100])
    assert (first.status, first.offset, first.receipt) == (201, 100, None)
    assert (await site.relay.patch(first.path, data[100:], at=100)).receipt is not None


async def test_expiry_is_told_at_creation_and_with_every_patch(site: Site) -> None:
    """As a date of RFC 9110, an hour ahead of the last progress; no more once it is complete."""
    sealed = Sealed(1)
    data, clock = sealed.fragment(0), site.relay.clock
    reply = await site.relay.create(site.call.claim(sealed))
    path = reply.path
    for at in (0, 10, 20):
        assert expires_at(reply) == clock.now() + INCOMPLETE_MS
        clock.advance(60_000)
        reply = await site.relay.patch(path, data[at : at + 10], at=at)
    clock.advance(INCOMPLETE_MS)
    last = await site.relay.patch(path, data[30:], at=30)
    assert (last.status, "Upload-Expires" in last.headers) == (204, False)
    late = await created(site, Sealed(2))
    clock.advance(INCOMPLETE_MS + 1)
    assert (await site.relay.ask("HEAD", late)).status == 410


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
async def test_a_checksum_is_verified(site: Site, algorithm: str) -> None:
    """Of an append and of a creation's bytes; the chunk counts if it fits."""
    sealed = Sealed(1)
    path, data = await created(site, sealed), sealed.fragment(0)
    fits, differs = checksum(algorithm, data[:500]), checksum(algorithm, b"else")
    assert (await site.relay.patch(path, data[:500], at=0, Upload_Checksum=differs)).status == 460
    reply = await site.relay.patch(path, data[:500], at=0, Upload_Checksum=fits)
    assert (reply.status, reply.offset) == (204, 500)
    other = Sealed(2)
    claim, body = site.call.claim(other), other.fragment(0)
    reply = await site.relay.create(claim, body=body, Upload_Checksum=differs)
    assert (reply.status, reply.receipt) == (460, None)
    reply = await site.relay.create(claim, body=body, Upload_Checksum=checksum(algorithm, body))
    assert (reply.status, reply.receipt is None) == (201, False)


async def test_a_chunk_that_fails_its_checksum_is_discarded(site: Site) -> None:
    """460 for a mismatch, 400 for an algorithm that is not offered; the offset stays."""
    sealed = Sealed(1)
    path, data = await created(site, sealed), sealed.fragment(0)
    await site.relay.patch(path, data[:500], at=0)
    wrong = checksum("sha256", b"else")
    assert (await site.relay.patch(path, data[500:], at=500, Upload_Checksum=wrong)).status == 460
    unknown = checksum("md5", data[500:])
    assert (await site.relay.patch(path, data[500:], at=500, Upload_Checksum=unknown)).status == 400
    assert (await site.relay.ask("HEAD", path)).offset == 500
    assert (await site.relay.patch(path, data[500:], at=500)).receipt is not None


async def test_checksum_algorithms_are_listed(site: Site) -> None:
    """In small letters and ASCII; sha1 is one of them."""
    reply = await site.relay.ask("OPTIONS", "/uploads")
    found = reply.headers["Tus-Checksum-Algorithm"].split(",")
    assert sorted(found) == ["sha1", "sha256"]


@pytest.mark.parametrize(
    "value", ["sha256", "sha256 ", "sha256 !!!!", "sha256 AAAA", "SHA1 AAAA", " AAAA", "sha1  AAAA"]
)
async def test_a_checksum_of_another_form_is_refused(site: Site, value: str) -> None:
    """With 400, of an append and of a creation, and nothing is taken."""
    sealed = Sealed(1)
    path, data = await created(site, sealed), sealed.fragment(0)
    assert (await site.relay.patch(path, data, at=0, Upload_Checksum=value)).status == 400
    claim = site.call.claim(Sealed(2))
    reply = await site.relay.create(claim, body=Sealed(2).fragment(0), Upload_Checksum=value)
    assert reply.status == 400
    assert (await site.relay.ask("HEAD", path)).offset == 0


async def test_delete_is_204_and_the_upload_is_gone(site: Site) -> None:
    """410 for every later request, and its room is free again."""
    path = await created(site, Sealed(1))
    assert site.relay.services.room.used(SPRING.server) == len(Sealed(1).fragment(0))
    assert (await site.relay.ask("DELETE", path)).status == 204
    assert (await site.relay.ask("HEAD", path)).status == 410
    assert (await site.relay.patch(path, b"abc", at=0)).status == 410
    assert (await site.relay.ask("DELETE", path)).status == 410
    assert site.relay.services.room.used(SPRING.server) == 0
