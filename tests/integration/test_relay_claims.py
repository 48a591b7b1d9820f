"""What a relay checks before the first byte, and how it learns terms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from pathlib import Path

import pytest

from bistro.api.problems import decode_problem
from bistro.errors import UnavailableError
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.wire.claim import Claim
from bistro.wire.clauses import Spread
from bistro.wire.entry import TicketEntry
from tests.support.clocks import ManualClock
from tests.support.paper import HOUR_MS, SPRING, PaperCall, Sealed, paper_terms, publishing
from tests.support.promises import MemoryLedger
from tests.support.relays import (
    Reply,
    Site,
    allow,
    eventually,
    relay_settings,
    relay_site,
    serving_relay,
)
from tests.support.strategies import note_key


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with relay_site(tmp_path) as found:
        yield found


def code_of(reply: Reply) -> tuple[int, str]:
    error = decode_problem(
        reply.body, status=reply.status, content_type=reply.headers.get("Content-Type")
    )
    return reply.status, error.code


async def test_a_destination_that_is_not_allowed_is_refused(site: Site) -> None:
    """403 before anything else is looked at: nobody is asked about strangers."""
    stranger = PaperCall(Origin("other.example", "spring"))
    fetches = list(site.server.fetches)
    reply = await site.relay.create(stranger.claim(Sealed(1)))
    assert code_of(reply) == (403, "not-registered")
    assert site.server.fetches == fetches


async def test_a_call_that_does_not_exist_is_unknown(site: Site) -> None:
    """404 after one look at the destination."""
    reply = await site.relay.create(PaperCall(Origin(SPRING.server, "autumn")).claim(Sealed(1)))
    assert code_of(reply) == (404, "unknown-object")


async def test_a_call_made_a_moment_ago_is_found_by_asking(site: Site) -> None:
    """The first filer of a new call does not wait for the next poll."""
    autumn = PaperCall(Origin(SPRING.server, "autumn"))
    site.server.calls.append(autumn)
    reply = await site.relay.create(autumn.claim(Sealed(1)))
    assert reply.status == 201


async def test_many_uploads_of_an_unknown_call_share_fetches(site: Site) -> None:
    """Whoever asks while a fetch is under way waits for the next, which all of them share."""
    await asyncio.sleep(0)
    before = site.server.fetches.count("/.well-known/bistro.json")
    claim = PaperCall(Origin(SPRING.server, "autumn")).claim(Sealed(1))
    replies = await _all([site.relay.create(claim) for _ in range(20)])
    assert {reply.status for reply in replies} == {404}
    # One for the first, one for those who came while it ran; a poll may fall in between.
    assert site.server.fetches.count("/.well-known/bistro.json") - before <= 3


async def test_an_unreachable_destination_is_503_for_unknown_calls_only(site: Site) -> None:
    """Known terms go on working while the destination is down."""
    assert (await site.relay.create(site.call.claim(Sealed(1)))).status == 201
    site.server.failure = UnavailableError("down")
    assert (await site.relay.create(site.call.claim(Sealed(2)))).status == 201
    reply = await site.relay.create(PaperCall(Origin(SPRING.server, "autumn")).claim(Sealed(1)))
    assert code_of(reply) == (503, "unavailable")


async def test_terms_are_served_while_the_destination_is_down(site: Site) -> None:
    """A filer can seal by the relay's copy, which is the destination's own, signed."""
    await site.relay.create(site.call.claim(Sealed(1)))
    site.server.failure = UnavailableError("down")
    served = await site.relay.api.fetch_terms(SPRING)
    assert served.signed.hash == site.call.terms.hash
    served.signed.verify(note_key(SPRING.server).verifier)
    reply = await site.relay.ask("GET", "/terms/permits.example/winter")
    assert code_of(reply) == (404, "unknown-object")


@pytest.mark.parametrize(
    "what", ["log key", "commitment", "origin", "promise", "path", "header", "spread", "limit"]
)
async def test_a_claim_that_does_not_hold_is_refused(site: Site, what: str) -> None:
    """422 and no reservation: every part of the claim is tied to the ticket and the terms."""
    call, sealed = site.call, Sealed(1)
    claim = call.claim(sealed)
    entry = TicketEntry(origin=str(SPRING), time=call.now, digest=sealed.commitment)
    match what:
        case "log key":
            forged = MemoryLedger(note_key(str(SPRING), seed="forger"))
            claim = replace(claim, promise=forged.promise(entry))
        case "commitment":
            claim = replace(claim, promise=call.ticket(Sealed(2).commitment))
        case "origin":
            other = PaperCall(Origin(SPRING.server, "autumn"))
            claim = replace(claim, promise=other.ticket(sealed.commitment))
        case "promise":
            claim = replace(claim, promise="nonsense")
        case "path":
            claim = replace(claim, path=tuple(reversed(claim.path)))
        case "header":
            claim = replace(claim, header_leaf=bytes(32))
        case "spread":
            claim = call.claim(Sealed(1, k=1, n=2))
        case _:
            claim = call.claim(_Huge(1))
    reply = await site.relay.create(claim)
    assert code_of(reply) == (422, "not-verified")
    assert site.relay.services.room.used(SPRING.server) == 0


class _Huge(Sealed):
    """An envelope above the terms' limit, whose fragments nobody will ask for."""

    @property
    def layout(self):  # type: ignore[no-untyped-def]
        return replace(super().layout, envelope_size=(1 << 30) + 2)

    def fragment(self, index: int) -> bytes:
        return bytes([index])

    @property
    def cut(self):  # type: ignore[no-untyped-def]
        cut = Sealed(self.number).cut
        size = self.layout.fragment_size
        made = tuple(replace(one, size=size) for one in cut.descriptors)
        return replace(cut, layout=self.layout, descriptors=made)


async def test_fragments_are_taken_until_repair_by_and_not_later(site: Site) -> None:
    """A relay cannot tell a repair from a first staging, so it takes both until the end."""
    clock, terms = site.relay.clock, site.call.terms
    clock.advance(terms.repair_by - clock.now())
    assert (await site.relay.create(site.call.claim(Sealed(1)))).status == 201
    clock.advance(1)
    reply = await site.relay.create(site.call.claim(Sealed(2)))
    assert code_of(reply) == (403, "deadline-passed")


async def test_a_later_repair_by_is_honoured(site: Site) -> None:
    """New terms take effect with the next poll."""
    clock = site.relay.clock
    await site.relay.stage(site.call, Sealed(1))
    clock.advance(4 * HOUR_MS)
    later = site.call.extend(2 * HOUR_MS)
    await eventually(lambda: site.relay.services.book.find_terms(SPRING).hash == later.hash)
    assert (await site.relay.create(site.call.claim(Sealed(2)))).status == 201


async def test_terms_that_shorten_anything_are_not_believed(site: Site) -> None:
    """Whatever the destination signs later, what it said before stands."""
    await site.relay.create(site.call.claim(Sealed(1)))
    old = site.call.terms
    site.call.extend(-HOUR_MS, stage_by=UnixMillis(old.stage_by - 1_000))
    site.relay.clock.advance(60_000)
    polls = len(site.server.fetches)
    await eventually(lambda: len(site.server.fetches) >= polls + 2)
    assert site.relay.services.book.find_terms(SPRING).hash == old.hash


async def test_versions_missed_while_the_relay_was_down_are_all_verified(tmp_path: Path) -> None:
    """A chain of successors leads from what was known to what is served now."""
    call = PaperCall()
    async with publishing(call) as server:
        settings = relay_settings(tmp_path)
        allow(settings, server)
        async with serving_relay(settings) as relay:
            assert (await relay.create(call.claim(Sealed(1)))).status == 201
        call.extend(HOUR_MS)
        call.extend(HOUR_MS)
        newest = call.extend(HOUR_MS)
        async with serving_relay(settings) as relay:
            book = relay.services.book
            await eventually(lambda: book.find_terms(SPRING).hash == newest.hash)


async def test_terms_signed_by_another_key_are_not_believed(tmp_path: Path) -> None:
    """The pinned key signs, or nothing is served."""
    call = PaperCall()
    async with publishing(call) as server:
        settings = relay_settings(tmp_path)
        server.key = note_key(SPRING.server, seed="pinned").verifier
        allow(settings, server)
        server.key = note_key(SPRING.server).verifier
        async with serving_relay(settings) as relay:
            reply = await relay.create(call.claim(Sealed(1)))
            assert code_of(reply) == (503, "unavailable")


async def test_a_signed_rotation_leads_to_the_new_key(tmp_path: Path) -> None:
    """A destination may change its terms key without asking every relay's operator."""
    call, old = PaperCall(), note_key(SPRING.server)
    new = note_key(SPRING.server, seed="new")
    keys = replace(call.terms.keys, terms=new.verifier)
    terms = replace(call.terms, version=2, supersedes=call.terms.hash, keys=keys)
    rotation = call.publish(terms, old, new)
    async with publishing(call) as server:
        settings = relay_settings(tmp_path)
        allow(settings, server)
        server.key, server.rotations = new.verifier, (rotation.encode().decode(),)
        async with serving_relay(settings) as relay:
            assert (await relay.create(call.claim(Sealed(1)))).status == 201


async def test_a_destination_allowed_while_serving_is_served(tmp_path: Path) -> None:
    """No restart, no signal: the next upload finds it."""
    call = PaperCall()
    async with publishing(call) as server:
        settings = relay_settings(tmp_path)
        async with serving_relay(settings) as relay:
            reply = await relay.create(call.claim(Sealed(1)))
            assert code_of(reply) == (403, "not-registered")
            allow(settings, server)
            assert (await relay.create(call.claim(Sealed(1)))).status == 201
            served = (await relay.api.fetch_discovery()).destinations
            assert [(one.server, one.calls) for one in served] == [(SPRING.server, ("spring",))]


async def test_a_full_quota_is_507_before_bytes_flow(tmp_path: Path) -> None:
    """Room is reserved at creation, so two uploads cannot share it."""
    call = PaperCall()
    async with publishing(call) as server:
        settings = relay_settings(tmp_path)
        allow(settings, server, quota_bytes=9_999)
        async with serving_relay(settings) as relay:
            path = (await relay.create(call.claim(Sealed(1)))).path
            reply = await relay.create(call.claim(Sealed(2)))
            assert code_of(reply) == (507, "relay-full")
            await relay.ask("DELETE", path)
            assert (await relay.create(call.claim(Sealed(2)))).status == 201


async def test_room_on_the_disk_is_reserved(tmp_path: Path) -> None:
    """What accepted uploads still miss is not given away twice; a restart remembers it."""
    call = PaperCall()
    async with publishing(call) as server:
        settings = relay_settings(tmp_path)
        allow(settings, server)
        for number in (1, 2):
            async with serving_relay(settings, free_disk=lambda: 10_000) as relay:
                assert (await relay.create(call.claim(Sealed(number)))).status == 201
                assert (await relay.api.fetch_discovery()).free_bytes == 10_000 - number * 5_000
        async with serving_relay(settings, free_disk=lambda: 10_000) as relay:
            reply = await relay.create(call.claim(Sealed(3)))
            assert code_of(reply) == (507, "relay-full")
            assert not (await relay.api.fetch_discovery()).accepting


async def test_without_a_known_clock_error_nothing_is_taken(tmp_path: Path) -> None:
    """A receipt could not be dated: uploads are refused before bytes flow, and readyz says it."""
    clock = ManualClock(bound_ms=None)
    async with relay_site(tmp_path, clock) as site:
        reply = await site.relay.create(site.call.claim(Sealed(1)))
        assert code_of(reply) == (503, "unavailable")
        assert code_of(await site.relay.ask("GET", "/readyz"))[0] == 503
        assert (await site.relay.ask("GET", "/healthz")).status == 200
        clock.bound_ms = 10
        assert (await site.relay.ask("GET", "/readyz")).status == 200
        await site.relay.stage(site.call, Sealed(1))


async def test_a_clock_lost_in_the_middle_postpones_the_receipt(site: Site) -> None:
    """The bytes are kept; the receipt follows as soon as the clock can be trusted."""
    sealed, clock = Sealed(1), site.relay.clock
    path = (await site.relay.create(site.call.claim(sealed))).path
    clock.bound_ms = None
    assert (await site.relay.patch(path, sealed.fragment(0), at=0)).status == 503
    assert (await site.relay.ask("GET", path + "/receipt")).status == 404
    clock.bound_ms = 10
    head = await site.relay.ask("HEAD", path)
    assert (head.status, head.offset) == (200, 5_000)
    assert head.receipt is not None


async def test_a_receipt_signed_already_is_answered_at_once(site: Site) -> None:
    """Creating again after a lost answer gives the same promise, whatever body comes along."""
    sealed = Sealed(1)
    first = await site.relay.stage(site.call, sealed)
    assert first.receipt is not None
    used = site.relay.services.room.used(SPRING.server)
    for body in (None, b"", b"whatever"):
        reply = await site.relay.create(site.call.claim(sealed), body=body)
        assert (reply.status, reply.offset) == (201, 5_000)
        assert reply.receipt is not None
        assert reply.receipt.entry == first.receipt.entry
        assert reply.receipt.index == first.receipt.index
    assert site.relay.services.room.used(SPRING.server) == used


async def test_two_uploads_of_one_fragment_get_one_custody(site: Site) -> None:
    """Twins race without harm: both clients get the same entry, the bytes are kept once."""
    sealed = Sealed(1)
    data = sealed.fragment(0)
    paths = [(await site.relay.create(site.call.claim(sealed))).path for _ in range(4)]
    for path in paths:
        assert (await site.relay.patch(path, data[:-1], at=0)).status == 204
    replies = await _all([site.relay.patch(path, data[-1:], at=4_999) for path in paths])
    assert {reply.status for reply in replies} == {204}
    receipts = [reply.receipt for reply in replies]
    assert len({receipt.index for receipt in receipts if receipt is not None}) == 1
    assert None not in receipts
    rows = await site.relay.collector(site.call).fetch_staged()
    assert len(rows) == 1
    assert site.relay.services.room.used(SPRING.server) == 5_000


async def test_an_upload_is_written_by_one_request_at_a_time(site: Site) -> None:
    """423 for HEAD and PATCH while another request holds it; no byte is mixed."""
    sealed = Sealed(1)
    path = (await site.relay.create(site.call.claim(sealed))).path
    busy = site.relay.services.intake._busy
    with busy.held(path.rpartition("/")[2]):
        assert (await site.relay.ask("HEAD", path)).status == 423
        assert code_of(await site.relay.patch(path, b"abc", at=0)) == (423, "unavailable")
        assert (await site.relay.ask("DELETE", path)).status == 423
        site.relay.clock.advance(4_000_000)
        await site.relay.services.keeper.tick()
    site.relay.clock.advance(-4_000_000)
    assert (await site.relay.ask("HEAD", path)).status == 200


async def test_too_many_requests_of_one_address_are_put_off(tmp_path: Path) -> None:
    """One greedy address does not starve the others; nothing of the request is read."""
    async with relay_site(tmp_path, limits={"uploads_per_address_count": 1}) as site:
        with site.relay.services.gate.entered("127.0.0.1"):
            reply = await site.relay.create(site.call.claim(Sealed(1)))
            assert code_of(reply) == (503, "overloaded")
            assert int(reply.headers["Retry-After"]) >= 1
        assert (await site.relay.create(site.call.claim(Sealed(1)))).status == 201


async def test_a_claim_is_no_longer_than_a_claim(site: Site) -> None:
    """Header fields are bounded before they are decoded."""
    long = "claim " + "A" * 8_000
    reply = await site.relay.create(site.call.claim(Sealed(1)), Upload_Metadata=long)
    assert reply.status == 400


def test_the_paper_destination_is_believable() -> None:
    """The fixture's own promises hold, so refusals above are refusals of what was changed."""
    call, sealed = PaperCall(), Sealed(1)
    claim = Claim.decode(call.claim(sealed, 2).encode())
    assert claim.commitment == sealed.commitment
    assert paper_terms().spread == Spread(2, 3)


async def _all(requests: list[Coroutine[object, object, Reply]]) -> list[Reply]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in requests]
    return [task.result() for task in tasks]
