"""Uploads at a real relay, beyond what tus demands: receipts, custody, expiry, pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bistro.api import media
from tests.support.paper import RELAY, Sealed
from tests.support.relays import Site, relay_site
from tests.support.strategies import note_key


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with relay_site(tmp_path) as found:
        yield found


async def created(site: Site, sealed: Sealed, index: int = 0) -> str:
    reply = await site.relay.create(site.call.claim(sealed, index))
    assert reply.status == 201
    return reply.path


async def test_patches_build_the_fragment_and_the_last_gives_the_receipt(site: Site) -> None:
    """tus: 204 with the new Upload-Offset; the receipt comes with the last byte, no sooner."""
    sealed = Sealed(1)
    data, path = sealed.fragment(0), await created(site, sealed)
    first = await site.relay.patch(path, data[:1_234], at=0)
    assert (first.status, first.offset, first.receipt) == (204, 1_234, None)
    assert "Upload-Expires" in first.headers
    assert (await site.relay.ask("GET", path + "/receipt")).status == 404
    last = await site.relay.patch(path, data[1_234:], at=1_234)
    assert (last.status, last.offset) == (204, len(data))
    assert last.receipt is not None
    last.receipt.verify(note_key(RELAY).verifier, site.call.origin, sealed.commitment)
    text = await site.relay.ask("GET", path + "/receipt", Tus_Resumable="")
    assert text.status == 200
    assert text.headers["Content-Type"] == media.TEXT
    assert text.body.decode() == last.receipt.text()


async def test_bytes_beyond_the_length_are_413(site: Site) -> None:
    """More than was announced is refused, and the offset tells the truth afterwards."""
    sealed = Sealed(1)
    path, data = await created(site, sealed), sealed.fragment(0)
    assert (await site.relay.patch(path, data + b"x", at=0)).status == 413
    assert (await site.relay.ask("HEAD", path)).offset == 0
    assert (await site.relay.patch(path, data, at=0)).receipt is not None


async def test_a_fragment_with_other_bytes_is_460_and_the_upload_ends(site: Site) -> None:
    """The hash of the whole is checked against the descriptor; wrong bytes leave no receipt."""
    sealed = Sealed(1)
    path, data = await created(site, sealed), sealed.fragment(0)
    assert (await site.relay.patch(path, bytes(len(data)), at=0)).status == 460
    assert (await site.relay.ask("HEAD", path)).status == 410
    assert (await site.relay.ask("GET", path + "/receipt")).status == 404
    assert (await site.relay.create(site.call.claim(sealed), body=data)).receipt is not None


async def test_termination_is_refused_once_there_is_a_receipt(site: Site) -> None:
    """A promise cannot be taken back by whoever knows the upload's address."""
    upload = await site.relay.stage(site.call, Sealed(1))
    assert (await site.relay.ask("DELETE", f"/uploads/{upload.id}")).status == 403
    head = await site.relay.ask("HEAD", f"/uploads/{upload.id}")
    assert (head.status, head.offset) == (200, 5_000)
    assert head.receipt is not None


async def test_an_upload_expires_an_hour_after_its_last_byte(site: Site) -> None:
    """Tus expiration: 404 or 410 once the time is over; progress prolongs it."""
    sealed = Sealed(1)
    path, clock = await created(site, sealed), site.relay.clock
    clock.advance(3_500_000)
    await site.relay.patch(path, sealed.fragment(0)[:10], at=0)
    clock.advance(3_500_000)
    await site.relay.services.keeper.tick()
    assert (await site.relay.ask("HEAD", path)).offset == 10
    clock.advance(100_001)
    assert (await site.relay.ask("HEAD", path)).status == 410
    await site.relay.services.keeper.tick()
    assert (await site.relay.ask("HEAD", path)).status == 410
    assert site.relay.services.room.used("permits.example") == 0


async def test_browsers_may_read_what_they_need(site: Site) -> None:
    """CORS: any page may upload, and sees offsets and receipts."""
    reply = await site.relay.create(site.call.claim(Sealed(1)), Origin="https://page.example")
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    exposed = reply.headers["Access-Control-Expose-Headers"]
    for name in ("Location", "Upload-Offset", "Upload-Expires", "Bistro-Receipt", "Tus-Resumable"):
        assert name in exposed
