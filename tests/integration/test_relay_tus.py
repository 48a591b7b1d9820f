"""tus 1.0 at a real relay: each MUST of the protocol that applies, by name."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from bistro.api import media
from tests.support.paper import RELAY, Sealed
from tests.support.relays import Site, metadata, relay_site
from tests.support.strategies import note_key


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with relay_site(tmp_path) as found:
        yield found


async def created(site: Site, sealed: Sealed, index: int = 0) -> str:
    reply = await site.relay.create(site.call.claim(sealed, index))
    assert reply.status == 201
    return reply.path


async def test_options_tells_version_extensions_and_limits(site: Site) -> None:
    """tus: OPTIONS MUST carry Tus-Version; no Tus-Resumable is needed to ask."""
    reply = await site.relay.ask("OPTIONS", "/uploads", Tus_Resumable="")
    assert reply.status == 204
    assert reply.headers["Tus-Version"] == "1.0.0"
    extensions = set(reply.headers["Tus-Extension"].split(","))
    offered = {"creation", "creation-with-upload", "expiration", "termination", "checksum"}
    assert extensions == offered
    assert set(reply.headers["Tus-Checksum-Algorithm"].split(",")) == {"sha1", "sha256"}
    assert int(reply.headers["Tus-Max-Size"]) > 0


@pytest.mark.parametrize("version", ["", "0.2.2", "1.0.1", "nonsense"])
async def test_another_version_is_refused_with_412_and_not_processed(
    site: Site, version: str
) -> None:
    """tus: 412 MUST carry Tus-Version, and the request MUST NOT be processed."""
    path = await created(site, Sealed(1))
    reply = await site.relay.ask("DELETE", path, Tus_Resumable=version)
    assert reply.status == 412
    assert reply.headers["Tus-Version"] == "1.0.0"
    assert (await site.relay.ask("HEAD", path)).status == 200


async def test_every_answer_says_the_version(site: Site) -> None:
    """tus: Tus-Resumable MUST be in every response, errors included."""
    path = await created(site, Sealed(1))
    for reply in (
        await site.relay.ask("HEAD", path),
        await site.relay.ask("HEAD", "/uploads/unknown"),
        await site.relay.patch(path, b"x", at=7),
        await site.relay.ask("DELETE", path),
        await site.relay.ask("DELETE", path),
        await site.relay.ask("POST", "/uploads"),
    ):
        assert reply.headers["Tus-Resumable"] == "1.0.0"


async def test_creation_answers_201_with_location_offset_and_expiry(site: Site) -> None:
    """Tus creation and expiration: Location and Upload-Expires (RFC 9110 date) MUST be there."""
    reply = await site.relay.create(site.call.claim(Sealed(1)))
    assert reply.status == 201
    assert reply.path.startswith("/uploads/")
    assert reply.offset == 0
    expires = parsedate_to_datetime(reply.headers["Upload-Expires"]).timestamp()
    assert expires * 1_000 == site.relay.clock.now() + 3_600_000
    assert reply.receipt is None


async def test_head_tells_offset_length_metadata_and_is_not_cached(site: Site) -> None:
    """tus: HEAD MUST have offset (even 0), length, Cache-Control: no-store and the metadata."""
    claim = site.call.claim(Sealed(1))
    path = (await site.relay.create(claim)).path
    reply = await site.relay.ask("HEAD", path)
    assert (reply.status, reply.offset) == (200, 0)
    assert int(reply.headers["Upload-Length"]) == claim.descriptor.size
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["Upload-Metadata"] == metadata(claim)


async def test_head_of_an_unknown_upload_has_no_offset(site: Site) -> None:
    """tus: 404 without Upload-Offset; ids never become paths."""
    for name in ("unknown", "0" * 32, "..%2f..%2fetc%2fpasswd", "%00", "a" * 300):
        reply = await site.relay.ask("HEAD", f"/uploads/{name}")
        assert reply.status == 404
        assert "Upload-Offset" not in reply.headers


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


async def test_a_wrong_offset_is_409_and_changes_nothing(site: Site) -> None:
    """tus: an Upload-Offset that is not the current one MUST be answered 409."""
    path = await created(site, Sealed(1))
    assert (await site.relay.patch(path, b"abc", at=1)).status == 409
    assert (await site.relay.ask("HEAD", path)).offset == 0
    assert (await site.relay.patch(path, b"abc", at=0)).status == 204
    assert (await site.relay.patch(path, b"abc", at=0)).status == 409
    assert (await site.relay.ask("HEAD", path)).offset == 3


@pytest.mark.parametrize("offset", ["", "-1", "+1", "01", "x", "1.0", "99999999999999999999"])
async def test_a_malformed_offset_is_400(site: Site, offset: str) -> None:
    """Numbers are plain decimals."""
    path = await created(site, Sealed(1))
    assert (await site.relay.patch(path, b"abc", at=0, Upload_Offset=offset)).status == 400


async def test_another_content_type_is_415(site: Site) -> None:
    """tus: PATCH MUST be application/offset+octet-stream; so must a creation's body."""
    path = await created(site, Sealed(1))
    reply = await site.relay.patch(path, b"abc", at=0, Content_Type="text/plain")
    assert reply.status == 415
    claim = site.call.claim(Sealed(2))
    reply = await site.relay.create(claim, body=b"abc", Content_Type="application/octet-stream")
    assert reply.status == 415


async def test_bytes_beyond_the_length_are_413(site: Site) -> None:
    """More than was announced is refused, and the offset tells the truth afterwards."""
    sealed = Sealed(1)
    path, data = await created(site, sealed), sealed.fragment(0)
    assert (await site.relay.patch(path, data + b"x", at=0)).status == 413
    assert (await site.relay.ask("HEAD", path)).offset == 0
    assert (await site.relay.patch(path, data, at=0)).receipt is not None


async def test_a_small_fragment_needs_one_request(site: Site) -> None:
    """Tus creation-with-upload: Upload-Offset MUST say what was taken."""
    sealed = Sealed(1)
    reply = await site.relay.create(site.call.claim(sealed), body=sealed.fragment(0))
    assert (reply.status, reply.offset) == (201, len(sealed.fragment(0)))
    assert reply.receipt is not None


async def test_a_creation_may_bring_the_first_bytes_only(site: Site) -> None:
    """What a creation brought counts, and the rest follows by PATCH."""
    sealed = Sealed(1)
    data = sealed.fragment(0)
    reply = await site.relay.create(site.call.claim(sealed), body=data[:100])
    assert (reply.status, reply.offset, reply.receipt) == (201, 100, None)
    assert (await site.relay.patch(reply.path, data[100:], at=100)).receipt is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"Upload-Length": ""},
        {"Upload-Length": "x"},
        {"Upload-Length": "17"},
        {"Upload-Length": "", "Upload-Defer-Length": "1"},
        {"Upload-Metadata": ""},
        {"Upload-Metadata": "claim"},
        {"Upload-Metadata": "claim !!!!"},
        {"Upload-Metadata": "filename d29ybGQ="},
        {"Upload-Checksum": "md5 AAAA"},
        {"Upload-Checksum": "sha256 AAAA"},
    ],
)
async def test_a_malformed_creation_is_400(site: Site, fields: dict[str, str]) -> None:
    """tus: an announced length is needed, and the metadata is one claim and nothing else."""
    reply = await site.relay.create(site.call.claim(Sealed(1)), fields=fields)
    assert reply.status == 400


async def test_a_length_above_the_maximum_is_413(site: Site) -> None:
    """tus: Upload-Length above Tus-Max-Size MUST be answered 413."""
    reply = await site.relay.create(site.call.claim(Sealed(1)), Upload_Length=str(2**39))
    assert reply.status == 413


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
async def test_a_checksum_that_fits_is_taken(site: Site, algorithm: str) -> None:
    """Tus checksum: sha1 MUST be supported; the destination's SHA-256 is as well."""
    sealed = Sealed(1)
    path, data = await created(site, sealed), sealed.fragment(0)
    value = base64.b64encode(hashlib.new(algorithm, data[:500]).digest()).decode()
    reply = await site.relay.patch(path, data[:500], at=0, Upload_Checksum=f"{algorithm} {value}")
    assert (reply.status, reply.offset) == (204, 500)


async def test_a_checksum_mismatch_is_460_and_drops_only_that_request(site: Site) -> None:
    """Tus checksum: 460, the chunk is discarded, the offset MUST NOT move."""
    sealed = Sealed(1)
    path, data = await created(site, sealed), sealed.fragment(0)
    await site.relay.patch(path, data[:500], at=0)
    wrong = base64.b64encode(hashlib.sha256(b"else").digest()).decode()
    reply = await site.relay.patch(path, data[500:], at=500, Upload_Checksum=f"sha256 {wrong}")
    assert reply.status == 460
    assert (await site.relay.ask("HEAD", path)).offset == 500
    assert (await site.relay.patch(path, data[500:], at=500)).receipt is not None


async def test_a_fragment_with_other_bytes_is_460_and_the_upload_ends(site: Site) -> None:
    """The whole SHA-256 is checked against the descriptor; wrong bytes leave no receipt."""
    sealed = Sealed(1)
    path, data = await created(site, sealed), sealed.fragment(0)
    assert (await site.relay.patch(path, bytes(len(data)), at=0)).status == 460
    assert (await site.relay.ask("HEAD", path)).status == 410
    assert (await site.relay.ask("GET", path + "/receipt")).status == 404
    assert (await site.relay.create(site.call.claim(sealed), body=data)).receipt is not None


async def test_termination_frees_the_upload(site: Site) -> None:
    """Tus termination: 204, and later requests MUST be answered 404 or 410."""
    path = await created(site, Sealed(1))
    assert site.relay.services.room.used("permits.example") == 5_000
    assert (await site.relay.ask("DELETE", path)).status == 204
    assert (await site.relay.ask("HEAD", path)).status == 410
    assert (await site.relay.patch(path, b"abc", at=0)).status == 410
    assert (await site.relay.ask("DELETE", path)).status == 410
    assert site.relay.services.room.used("permits.example") == 0


async def test_termination_is_refused_once_there_is_a_receipt(site: Site) -> None:
    """A promise cannot be taken back by whoever knows the upload's address."""
    upload = await site.relay.stage(site.call, Sealed(1))
    assert (await site.relay.ask("DELETE", f"/uploads/{upload.id}")).status == 403
    head = await site.relay.ask("HEAD", f"/uploads/{upload.id}")
    assert (head.status, head.offset) == (200, 5_000)
    assert head.receipt is not None


async def test_the_method_override_is_the_method(site: Site) -> None:
    """tus: X-HTTP-Method-Override MUST be taken for the method, the real one ignored."""
    sealed = Sealed(1)
    path, data = await created(site, sealed), sealed.fragment(0)
    fields = {
        "X-HTTP-Method-Override": "PATCH",
        "Content-Type": media.TUS_BYTES,
        "Upload-Offset": "0",
    }
    reply = await site.relay.ask("POST", path, body=data[:9], fields=fields)
    assert (reply.status, reply.offset) == (204, 9)
    assert (await site.relay.ask("POST", path)).status == 405
    reply = await site.relay.ask("POST", path, X_HTTP_Method_Override="DELETE")
    assert reply.status == 204
    assert (await site.relay.ask("HEAD", path)).status == 410


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
