"""The core protocol of tus 1.0: each MUST by its name in docs/spec/tus.md."""

from __future__ import annotations

import itertools

import pytest

from bistro.api import media
from tests.support.paper import Sealed
from tests.support.relays import Site


async def created(site: Site, sealed: Sealed) -> str:
    reply = await site.relay.create(site.call.claim(sealed))
    assert reply.status == 201
    return reply.path


async def offset_of(site: Site, path: str) -> int:
    reply = await site.relay.ask("HEAD", path)
    assert reply.status == 200
    return reply.offset


@pytest.mark.parametrize("text", ["", "-1", "+1", "01", "x", "1.0", "1 ", "9" * 20])
async def test_offset_and_length_are_non_negative_integers(site: Site, text: str) -> None:
    """What we write is one; what is sent and is none is refused, and nothing is taken."""
    claim = site.call.claim(Sealed(1))
    assert (await site.relay.create(claim, Upload_Length=text)).status == 400
    path = await created(site, Sealed(1))
    reply = await site.relay.patch(path, b"abc", at=0, Upload_Offset=text)
    assert reply.status == (409 if text == "1 " else 400), "white space around a value is none"
    head = await site.relay.ask("HEAD", path)
    assert head.headers["Upload-Offset"] == "0"
    assert head.headers["Upload-Length"] == str(claim.descriptor.size)


async def test_tus_version_is_a_list_with_the_preferred_first(site: Site) -> None:
    """One version is spoken, so it is the list."""
    reply = await site.relay.ask("OPTIONS", "/uploads")
    assert reply.headers["Tus-Version"].split(",") == ["1.0.0"]


async def test_tus_resumable_is_in_every_response(site: Site) -> None:
    """Refusals, unknown addresses and wrong methods included."""
    sealed = Sealed(1)
    path = await created(site, sealed)
    small = await site.relay.create(site.call.claim(Sealed(2)), body=Sealed(2).fragment(0))
    replies = [
        small,
        await site.relay.ask("HEAD", path),
        await site.relay.patch(path, b"x", at=0),
        await site.relay.patch(path, b"x", at=7),
        await site.relay.patch(path, b"x", at=1, Content_Type="text/plain"),
        await site.relay.patch(path, b"x", at=1, Tus_Resumable="0.2.2"),
        await site.relay.ask("HEAD", "/uploads/unknown"),
        await site.relay.ask("PUT", path),
        await site.relay.ask("GET", "/uploads"),
        await site.relay.ask("POST", "/uploads"),
        await site.relay.ask("DELETE", path),
        await site.relay.ask("DELETE", path),
        await site.relay.ask("HEAD", path),
    ]
    assert [reply.headers.get("Tus-Resumable") for reply in replies] == ["1.0.0"] * len(replies)


@pytest.mark.parametrize("version", ["", "0.2.2", "1.0.1", "1.0", "nonsense"])
async def test_an_unsupported_version_is_412_and_not_processed(site: Site, version: str) -> None:
    """Neither a creation with all its bytes, nor an append, nor a termination."""
    sealed = Sealed(1)
    path = await created(site, sealed)
    whole = site.call.claim(Sealed(2))
    replies = [
        await site.relay.create(whole, body=Sealed(2).fragment(0), Tus_Resumable=version),
        await site.relay.patch(path, b"abc", at=0, Tus_Resumable=version),
        await site.relay.ask("DELETE", path, Tus_Resumable=version),
        await site.relay.ask("HEAD", path, Tus_Resumable=version),
    ]
    assert {reply.status for reply in replies} == {412}
    assert {reply.headers["Tus-Version"] for reply in replies} == {"1.0.0"}
    assert await offset_of(site, path) == 0
    assert await site.relay.collector(site.call).fetch_staged() == ()


async def test_tus_extension_lists_exactly_what_is_offered(site: Site) -> None:
    """Creation, creation-with-upload, expiration, termination, checksum; nothing else."""
    reply = await site.relay.ask("OPTIONS", "/uploads")
    assert sorted(reply.headers["Tus-Extension"].split(",")) == [
        "checksum",
        "creation",
        "creation-with-upload",
        "expiration",
        "termination",
    ]


async def test_tus_max_size_is_the_largest_upload(site: Site) -> None:
    """In bytes, as the operator set it."""
    reply = await site.relay.ask("OPTIONS", "/uploads")
    found = reply.headers["Tus-Max-Size"]
    assert found == str(site.relay.settings.limits.fragment_bytes)


@pytest.mark.parametrize("actual", ["POST", "PUT", "GET", "DELETE", "HEAD"])
async def test_the_override_is_the_method_whatever_the_actual_one(site: Site, actual: str) -> None:
    """Appends and terminates for those who cannot say so; another word is no method here."""
    sealed = Sealed(1)
    path, data = await created(site, sealed), sealed.fragment(0)
    fields = {"Content-Type": media.TUS_BYTES, "Upload-Offset": "0"}
    patch = {**fields, "X-HTTP-Method-Override": "PATCH"}
    reply = await site.relay.ask(actual, path, body=data[:9], fields=patch)
    assert (reply.status, reply.offset) == (204, 9)
    assert (await site.relay.ask(actual, path, X_HTTP_Method_Override="BREW")).status == 405
    assert (await site.relay.ask(actual, path, X_HTTP_Method_Override="DELETE")).status == 204
    assert (await site.relay.ask("HEAD", path)).status == 410


async def test_head_always_tells_the_offset(site: Site) -> None:
    """Zero, some, and all; none of an upload that is not there."""
    sealed = Sealed(1)
    path, data = await created(site, sealed), sealed.fragment(0)
    assert await offset_of(site, path) == 0
    await site.relay.patch(path, data[:100], at=0)
    assert await offset_of(site, path) == 100
    await site.relay.patch(path, data[100:], at=100)
    assert await offset_of(site, path) == len(data)
    for name in ("unknown", "0" * 32, "..%2f..%2fetc%2fpasswd", "%00", "a" * 300):
        reply = await site.relay.ask("HEAD", f"/uploads/{name}")
        assert reply.status == 404
        assert "Upload-Offset" not in reply.headers


async def test_head_tells_the_length(site: Site) -> None:
    """It is known from the first moment: the claim says it."""
    sealed = Sealed(1)
    reply = await site.relay.ask("HEAD", await created(site, sealed))
    assert reply.headers["Upload-Length"] == str(len(sealed.fragment(0)))
    assert "Upload-Defer-Length" not in reply.headers


async def test_head_is_not_cached(site: Site) -> None:
    """Neither by a proxy nor by the client."""
    reply = await site.relay.ask("HEAD", await created(site, Sealed(1)))
    assert reply.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", ""])
async def test_patch_of_another_content_type_is_refused(site: Site, kind: str) -> None:
    """With 415, and no byte of it is taken."""
    path = await created(site, Sealed(1))
    assert (await site.relay.patch(path, b"abc", at=0, Content_Type=kind)).status == 415
    assert await offset_of(site, path) == 0


async def test_patch_at_another_offset_is_409_and_changes_nothing(site: Site) -> None:
    """Ahead of the offset, and behind it when the same bytes come again."""
    path = await created(site, Sealed(1))
    assert (await site.relay.patch(path, b"abc", at=1)).status == 409
    assert await offset_of(site, path) == 0
    assert (await site.relay.patch(path, b"abc", at=0)).status == 204
    assert (await site.relay.patch(path, b"abc", at=0)).status == 409
    assert await offset_of(site, path) == 3


async def test_patch_is_204_with_the_sum_as_offset(site: Site) -> None:
    """Again and again, to the end; also when a request brings nothing."""
    sealed = Sealed(1)
    path, data = await created(site, sealed), sealed.fragment(0)
    ends = (1, 1, 1_000, 1_001, len(data))
    for at, end in itertools.pairwise((0, *ends)):
        reply = await site.relay.patch(path, data[at:end], at=at)
        assert (reply.status, reply.offset) == (204, end)
        assert (reply.receipt is None) == (end < len(data))


@pytest.mark.parametrize("version", ["", "1.0.0", "0.2.2", "nonsense"])
async def test_options_tells_the_version_and_ignores_the_clients(site: Site, version: str) -> None:
    """Whoever asks what is spoken cannot know it yet."""
    reply = await site.relay.ask("OPTIONS", "/uploads", Tus_Resumable=version)
    assert reply.status == 204
    assert reply.headers["Tus-Version"] == "1.0.0"
