"""The IETF draft of resumable uploads on a relay's uploads: interop versions 5 and 6."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from tests.support.lines import written
from tests.support.paper import SPRING, Sealed
from tests.support.relays import NO_FIELDS, Reply, Site, eventually, hyphened, metadata, relay_site
from tests.support.small_fragments import line_to

MIB = 1_048_576
LARGE = Sealed(7, size=6 * MIB)
"""Its fragments are streamed: there is an address before their bytes."""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A relay whose operator has allowed the draft."""
    async with relay_site(tmp_path, protocols={"resumable_upload_draft": True}) as found:
        await found.relay.services.book.require(SPRING)
        yield found


@pytest.fixture(params=["5", "6"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def ask(
    site: Site,
    method: str,
    path: str,
    version: str,
    *,
    body: bytes | None = None,
    more: Mapping[str, str] = NO_FIELDS,
    **fields: str,
) -> Reply:
    said = {"Tus-Resumable": "", "Upload-Draft-Interop-Version": version}
    said |= hyphened({**more, **fields})
    if method == "PATCH" and version == "6":
        said.setdefault("Content-Type", "application/partial-upload")
    return await site.relay.ask(method, path, body=body, fields=said)


async def created(site: Site, sealed: Sealed, version: str, **fields: str) -> str:
    """An upload that was begun carefully: first its address, then its bytes."""
    usual = {"Upload_Metadata": metadata(site.call.claim(sealed)), "Upload_Complete": "?0"}
    reply = await ask(site, "POST", "/uploads", version, more=usual | fields)
    assert (reply.status, reply.offset, complete(reply)) == (201, 0, False)
    return reply.path


def complete(reply: Reply) -> bool:
    return {"?0": False, "?1": True}[reply.headers["Upload-Complete"]]


def append(path: str, version: str, *, at: int, body: bytes, length: int) -> bytes:
    """The last append of an upload, written out; perhaps with fewer bytes than it announces."""
    fields = {
        "Host": "relay",
        "Upload-Draft-Interop-Version": version,
        "Content-Type": "application/partial-upload",
        "Upload-Offset": str(at),
        "Upload-Complete": "?1",
        "Content-Length": str(length),
    }
    return written(f"PATCH {path}", fields, body)


def creation(site: Site, sealed: Sealed, fields: Mapping[str, str] = NO_FIELDS) -> bytes:
    """An optimistic creation, written out: all bytes at once, and only then an answer."""
    data = sealed.fragment(0)
    usual = {
        "Host": "relay",
        "Content-Length": str(len(data)),
        "Upload-Metadata": metadata(site.call.claim(sealed)),
        "Upload-Complete": "?1",
        "Upload-Length": str(len(data)),
    }
    return written("POST /uploads", usual | dict(fields), data)


async def test_without_the_setting_it_is_not_spoken(tmp_path: Path, version: str) -> None:
    """As any version of tus that is not spoken: 412, and no 104 before it."""
    async with relay_site(tmp_path) as site:
        line = await line_to(site.relay)
        said = {"Upload-Draft-Interop-Version": version}
        answer = await line.ask(creation(site, LARGE, said))
        assert answer.status == 412
        options = await site.relay.ask("OPTIONS", "/uploads")
        assert "Upload-Limit" not in options.headers
        line.close()


async def test_an_upload_in_parts_ends_with_a_receipt(site: Site, version: str) -> None:
    """Creation, appends, a look in between; every answer says where it stands."""
    sealed = Sealed(1)
    data, path = sealed.fragment(0), await created(site, sealed, version)
    first = await ask(
        site, "PATCH", path, version, body=data[:99], Upload_Offset="0", Upload_Complete="?0"
    )
    assert (first.status, first.offset, complete(first)) == (201, 99, False)
    look = await ask(site, "HEAD", path, version)
    assert (look.status, look.offset, complete(look)) == (204, 99, False)
    assert look.headers["Upload-Length"] == str(len(data))
    assert look.headers["Cache-Control"] == "no-store"
    last = await ask(
        site, "PATCH", path, version, body=data[99:], Upload_Offset="99", Upload_Complete="?1"
    )
    assert (last.status, last.offset, complete(last)) == (201, len(data), True)
    assert last.receipt is not None
    look = await ask(site, "HEAD", path, version)
    assert (look.offset, complete(look)) == (len(data), True)
    assert "Tus-Resumable" not in look.headers


async def test_104_tells_the_address_before_the_bytes(site: Site, version: str) -> None:
    """With the version of the request; what was begun so goes on there after a break."""
    line = await line_to(site.relay)
    request = creation(site, LARGE, {"Upload-Draft-Interop-Version": version})
    half = len(request) - 2 * MIB
    line.send(request[:half])
    told = await line.answer()
    assert told.status == 104
    assert told.fields.keys() == {"Upload-Draft-Interop-Version", "Location"}
    assert told.fields["Upload-Draft-Interop-Version"] == version
    line.break_off()
    await eventually(lambda: site.relay.services.gate.count == 0)
    path = told.fields["Location"].removeprefix(site.relay.url)
    data = LARGE.fragment(0)
    offset = (await ask(site, "HEAD", path, version)).offset
    assert 0 <= offset < len(data)
    line = await line_to(site.relay)
    rest = data[offset:]
    last = await line.ask(append(path, version, at=offset, body=rest, length=len(rest)))
    assert (last.status, last.fields["Upload-Complete"]) == (201, "?1")
    assert "Bistro-Receipt" in last.fields
    line.close()


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"Upload-Draft-Interop-Version": "4"},
        {"Upload-Draft-Interop-Version": "7"},
        {"Upload-Draft-Interop-Version": "06"},
        {"Upload-Draft-Interop-Version": "x"},
    ],
    ids=["none", "4", "7", "06", "x"],
)
async def test_no_104_without_a_version_that_matches(site: Site, said: dict[str, str]) -> None:
    """The one answer is the last, and says that this is not spoken."""
    line = await line_to(site.relay)
    assert (await line.ask(creation(site, LARGE, said))).status == 412
    line.close()


async def test_a_request_in_tus_is_one_in_tus(site: Site, version: str) -> None:
    """Also where it names a version of the draft besides: no 104, and tus's answer."""
    said = {
        "Tus-Resumable": "1.0.0",
        "Content-Type": "application/offset+octet-stream",
        "Upload-Draft-Interop-Version": version,
    }
    line = await line_to(site.relay)
    for sealed in (Sealed(1), LARGE):
        answer = await line.ask(creation(site, sealed, said))
        assert (answer.status, answer.fields["Tus-Resumable"]) == (201, "1.0.0")
        assert "Upload-Complete" not in answer.fields
    line.close()


async def test_a_small_fragment_comes_in_one_request(site: Site, version: str) -> None:
    """Its only answer is the last one."""
    line = await line_to(site.relay)
    said = {"Upload-Draft-Interop-Version": version}
    for _ in range(2):
        answer = await line.ask(creation(site, Sealed(1), said))
        assert (answer.status, answer.fields["Upload-Complete"]) == (201, "?1")
        assert "Bistro-Receipt" in answer.fields
    line.close()


async def test_uploads_change_between_the_protocols(site: Site, version: str) -> None:
    """The same resources: begun in one, continued in the other, ended in the first."""
    sealed = Sealed(1)
    data = sealed.fragment(0)
    path = (await site.relay.create(site.call.claim(sealed))).path
    part = await ask(
        site, "PATCH", path, version, body=data[:50], Upload_Offset="0", Upload_Complete="?0"
    )
    assert part.offset == 50
    assert (await site.relay.patch(path, data[50:], at=50)).receipt is not None
    assert complete(await ask(site, "HEAD", path, version))


async def test_offsets_never_go_down(site: Site, version: str) -> None:
    """Through appends that break off anywhere, in any answer, refusals included."""
    data, path = LARGE.fragment(0), await created(site, LARGE, version)
    highest = 0
    for number in range(1, 13):
        line = await line_to(site.relay)
        piece = data[highest : highest + number * 48_271 % 300_000]
        length = len(data) - highest
        line.send(append(path, version, at=highest, body=piece, length=length))
        await eventually(lambda: site.relay.services.gate.count == 1)
        line.break_off()
        await eventually(lambda: site.relay.services.gate.count == 0)
        wrong = await ask(site, "PATCH", path, version, body=b"x", Upload_Offset=str(len(data) + 1))
        look = await ask(site, "HEAD", path, version)
        assert wrong.status == 409
        assert highest <= wrong.offset <= look.offset <= highest + len(piece)
        highest = look.offset
    assert highest > 0


@pytest.mark.parametrize(
    "fields",
    [
        {"Upload_Offset": "0"},
        {"Upload_Complete": ""},
        {"Upload_Complete": "?2"},
        {"Upload_Complete": "true"},
        {"Upload_Complete": "?1"},
        {"Upload_Length": "17"},
        {"Upload_Metadata": "filename d29ybGQ="},
        {"Upload_Metadata": ""},
    ],
    ids=str,
)
async def test_a_malformed_creation_is_400(
    site: Site, version: str, fields: dict[str, str]
) -> None:
    """Among them an end with no byte of an upload that has some."""
    usual = {"Upload_Metadata": metadata(site.call.claim(Sealed(1))), "Upload_Complete": "?0"}
    reply = await ask(site, "POST", "/uploads", version, more=usual | fields)
    assert reply.status == 400
    assert site.relay.services.room.used(SPRING.server) == 0


async def test_looks_and_cancellations_with_fields_of_appends_are_400(
    site: Site, version: str
) -> None:
    """And the upload is as it was."""
    path = await created(site, Sealed(1), version)
    for method in ("HEAD", "DELETE"):
        for field in ({"Upload_Offset": "0"}, {"Upload_Complete": "?0"}):
            assert (await ask(site, method, path, version, more=field)).status == 400
    reply = await ask(site, "HEAD", path, version, Upload_Length="5000")
    assert reply.status == (400 if version == "6" else 204)
    assert (await ask(site, "HEAD", path, version)).offset == 0


async def test_an_end_at_another_place_is_400_and_the_upload_stays(
    site: Site, version: str
) -> None:
    """Announced or not, too early or too late; the answer says where to go on."""
    sealed = Sealed(1)
    data, path = sealed.fragment(0), await created(site, sealed, version)
    early = await ask(
        site, "PATCH", path, version, body=data[:10], Upload_Offset="0", Upload_Complete="?1"
    )
    assert (early.status, early.offset, complete(early)) == (400, 0, False)
    late = await ask(site, "PATCH", path, version, body=data + b"x", Upload_Offset="0")
    assert (late.status, late.offset) == (400, 0)
    line = await line_to(site.relay)
    for body, offset in ((data + b"x", "0"), (data[:10], "10")):
        fields = {
            "Host": "relay",
            "Upload-Draft-Interop-Version": version,
            "Content-Type": "application/partial-upload",
            "Transfer-Encoding": "chunked",
            "Upload-Offset": "0",
            "Upload-Complete": "?1",
        }
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        answer = await line.ask(written(f"PATCH {path}", fields, chunked))
        assert (answer.status, answer.fields["Upload-Offset"]) == (400, offset)
        line.close()
        line = await line_to(site.relay)
    line.close()
    rest = await ask(
        site, "PATCH", path, version, body=data[10:], Upload_Offset="10", Upload_Complete="?1"
    )
    assert (rest.status, complete(rest)) == (201, True)


async def test_the_last_byte_completes_whatever_was_said(site: Site, version: str) -> None:
    """The claim fixes the size; an append of nothing behind it is answered alike."""
    sealed = Sealed(1)
    data, path = sealed.fragment(0), await created(site, sealed, version)
    end = str(len(data))
    last = await ask(
        site, "PATCH", path, version, body=data, Upload_Offset="0", Upload_Complete="?0"
    )
    nothing = await ask(
        site, "PATCH", path, version, body=b"", Upload_Offset=end, Upload_Complete="?1"
    )
    for reply in (last, nothing):
        assert (reply.status, reply.offset, complete(reply)) == (201, len(data), True)
        assert reply.receipt is not None
    more = await ask(site, "PATCH", path, version, body=b"x", Upload_Offset=end)
    assert (more.status, complete(more)) == (409, True)


async def test_bytes_of_another_type_are_415_from_version_6_on(site: Site, version: str) -> None:
    """Draft 03 names no type."""
    path = await created(site, Sealed(1), version)
    reply = await ask(
        site, "PATCH", path, version, body=b"abc", Upload_Offset="0", Content_Type="text/plain"
    )
    assert reply.status == (415 if version == "6" else 201)


async def test_a_cancelled_upload_is_not_there_any_more(site: Site, version: str) -> None:
    """204, then 404 for everything; what has a receipt cannot be cancelled."""
    path = await created(site, Sealed(1), version)
    assert (await ask(site, "DELETE", path, version)).status == 204
    assert (await ask(site, "HEAD", path, version)).status == 404
    assert (await ask(site, "DELETE", path, version)).status == 404
    reply = await ask(site, "PATCH", path, version, body=b"abc", Upload_Offset="0")
    assert (reply.status, "Upload-Offset" in reply.headers) == (404, False)
    held = await site.relay.stage(site.call, Sealed(2))
    assert (await ask(site, "DELETE", f"/uploads/{held.id}", version)).status == 403


async def test_options_and_pages_hear_of_the_draft(site: Site, version: str) -> None:
    """The limit without being asked in the draft; fields that a page may read."""
    options = await site.relay.ask("OPTIONS", "/uploads")
    largest = site.relay.settings.limits.fragment_bytes
    assert options.headers["Upload-Limit"] == f"max-size={largest}"
    path = await created(site, Sealed(1), version)
    reply = await ask(site, "HEAD", path, version, Origin="https://page.example")
    assert {"Upload-Complete", "Upload-Offset", "Upload-Length"} <= set(
        reply.headers["Access-Control-Expose-Headers"].split(", ")
    )
