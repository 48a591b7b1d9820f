"""What destinations get from a relay: rows, batches, releases; and when holds end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bistro.api import message_signatures
from bistro.errors import ConflictError, NotRegisteredError
from bistro.ids import Origin
from bistro.net.collector_client import CollectorClient
from bistro.wire.batches import (
    BatchItem,
    FrameHead,
    Release,
    Released,
    SignedRequest,
    encode_releases,
)
from bistro.wire.claim import Claim
from bistro.wire.entry import Entry, HeldEntry, ReceiptEntry, ReleasedEntry, decode_entry
from bistro.wire.staging import Failure
from tests.support.paper import HOUR_MS, SPRING, PaperCall, Sealed
from tests.support.relays import Site, damage, eventually, relay_site
from tests.support.strategies import note_key

DAY_MS = 24 * HOUR_MS


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with relay_site(tmp_path) as found:
        yield found


async def entries(site: Site) -> list[Entry]:
    """What the custody ledger of the call says."""
    custody = await site.relay.services.ledgers.of(site.call.origin)
    return [decode_entry(data) for data in custody.ledger.entries()]


async def fetch(client: CollectorClient, items: list[BatchItem]) -> list[FrameHead | bytes]:
    """All frames of a batch, the pieces of each joined."""
    found: list[FrameHead | bytes] = []
    async with client.fetch_batch(items) as frames:
        async for frame in frames:
            if isinstance(frame, bytes) and found and isinstance(found[-1], bytes):
                found[-1] += frame
            else:
                found.append(frame)
    return found


def release_of(sealed: Sealed, index: int = 0, origin: Origin = SPRING) -> Release:
    return Release(origin, sealed.commitment, index, sealed.cut.descriptors[index].fragment_hash)


async def test_rows_come_in_the_order_of_receipts(site: Site) -> None:
    """Cursors grow, and a poll from the last one finds what came since."""
    client = site.relay.collector(site.call)
    assert await client.fetch_staged() == ()
    for number in range(3):
        await site.relay.stage(site.call, Sealed(number))
    rows = await client.fetch_staged(limit=2)
    rest = await client.fetch_staged(after=rows[-1].cursor)
    claims = [Claim.decode(row.claim) for row in (*rows, *rest)]
    assert [claim.commitment for claim in claims] == [Sealed(n).commitment for n in range(3)]
    assert {row.hold_until for row in rows} == {site.call.terms.repair_by + 7 * DAY_MS}


async def test_an_incomplete_upload_is_not_listed(site: Site) -> None:
    """A row appears when its receipt is durable."""
    sealed = Sealed(1)
    path = (await site.relay.create(site.call.claim(sealed))).path
    await site.relay.patch(path, sealed.fragment(0)[:-1], at=0)
    assert await site.relay.collector(site.call).fetch_staged() == ()


async def test_a_long_poll_is_answered_by_the_first_arrival(site: Site) -> None:
    """A waiting destination hears of a fragment at once."""
    client = site.relay.collector(site.call)
    await site.relay.stage(site.call, Sealed(1))
    (row,) = await client.fetch_staged()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(client.fetch_staged(after=row.cursor, wait_s=20))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await site.relay.stage(site.call, Sealed(2))
    (found,) = waiting.result()
    assert Claim.decode(found.claim).commitment == Sealed(2).commitment


async def test_a_long_poll_ends_empty(site: Site) -> None:
    """Nothing yet is an answer."""
    assert await site.relay.collector(site.call).fetch_staged(wait_s=1) == ()


async def test_a_batch_streams_fragments_from_any_offset(site: Site) -> None:
    """Frames come in the order asked for, also with holes, and unknown ones say so."""
    one, big = Sealed(1), Sealed(2, size=3_000_001)
    await site.relay.stage(site.call, one, 2)
    await site.relay.stage(site.call, big, 0)
    items = [
        BatchItem(big.commitment, 0, 0),
        BatchItem(one.commitment, 0, 0),
        BatchItem(one.commitment, 2, 4_999),
        BatchItem(big.commitment, 0, 1_000_000),
        BatchItem(one.commitment, 2, 5_000),
        BatchItem(one.commitment, 2, 5_001),
        BatchItem(bytes(32), 0, 0),
    ]
    found = await fetch(site.relay.collector(site.call), items)
    whole = big.fragment(0)
    assert found == [
        FrameHead(big.commitment, 0, 0, length=len(whole)),
        whole,
        FrameHead(one.commitment, 0, 0, code="unknown-object"),
        FrameHead(one.commitment, 2, 4_999, length=1),
        one.fragment(2)[4_999:],
        FrameHead(big.commitment, 0, 1_000_000, length=len(whole) - 1_000_000),
        whole[1_000_000:],
        FrameHead(one.commitment, 2, 5_000, length=0),
        FrameHead(one.commitment, 2, 5_001, code="malformed"),
        FrameHead(bytes(32), 0, 0, code="unknown-object"),
    ]


async def test_a_fragment_that_cannot_be_read_does_not_spoil_the_batch(site: Site) -> None:
    """Damage is said in its frame, and the relay goes on serving the others."""
    await site.relay.stage(site.call, Sealed(1))
    await site.relay.stage(site.call, Sealed(2))
    damage(site.relay.settings, Sealed(2).fragment(0))
    items = [BatchItem(Sealed(n).commitment, 0, 0) for n in (2, 1)]
    found = await fetch(site.relay.collector(site.call), items)
    assert isinstance(found[0], FrameHead)
    assert found[0].code == "storage"
    assert found[2] == Sealed(1).fragment(0)


async def test_another_call_sees_nothing(site: Site) -> None:
    """A key speaks for its own call only."""
    autumn = PaperCall(Origin(SPRING.server, "autumn"))
    site.server.calls.append(autumn)
    await site.relay.stage(site.call, Sealed(1))
    await site.relay.stage(autumn, Sealed(2))
    client = site.relay.collector(autumn)
    (row,) = await client.fetch_staged()
    assert Claim.decode(row.claim).origin == autumn.origin
    (head,) = await fetch(client, [BatchItem(Sealed(1).commitment, 0, 0)])
    assert isinstance(head, FrameHead)
    assert head.code == "unknown-object"
    (answer,) = await client.release([release_of(Sealed(1))])
    assert isinstance(answer, Failure)
    assert answer.code == "not-registered"


async def test_a_key_that_no_terms_name_is_refused(site: Site) -> None:
    """Nor does a stranger's signature under a known key id help."""
    await site.relay.stage(site.call, Sealed(1))
    stranger = note_key(SPRING.collect, seed="stranger")
    client = CollectorClient(
        site.relay.session, site.relay.url, key=stranger, clock=site.relay.clock
    )
    with pytest.raises(NotRegisteredError):
        await client.fetch_staged()


async def test_a_signed_request_is_good_once(site: Site) -> None:
    """A nonce is refused the second time, also after a minute's worth of restarts."""
    await site.relay.stage(site.call, Sealed(1))
    signed = message_signatures.sign_request(
        message_signatures.Request(
            method="GET",
            authority=site.relay.url.removeprefix("http://"),
            target="/staged",
        ),
        site.call.collect_key,
        now=site.relay.clock.now(),
        nonce="00" * 16,
    )
    assert (await site.relay.ask("GET", "/staged", fields=signed)).status == 200
    again = await site.relay.ask("GET", "/staged", fields=signed)
    assert again.status == 409
    elsewhere = await site.relay.ask("GET", "/staged?after=0", fields=signed)
    assert elsewhere.status == 422
    assert (await site.relay.ask("GET", "/staged")).status == 400


async def test_a_request_signed_by_a_wrong_clock_is_refused(site: Site) -> None:
    """Old signatures are worth nothing."""
    await site.relay.stage(site.call, Sealed(1))
    client = site.relay.collector(site.call)
    signed = client._signed("GET", site.relay.url + "/staged?after=0&limit=1000&wait_s=0")
    site.relay.clock.advance(61_000)
    reply = await site.relay.ask("GET", "/staged?after=0&limit=1000&wait_s=0", fields=signed)
    assert reply.status == 422


async def test_a_release_is_recorded_before_the_bytes_go(site: Site) -> None:
    """The ledger names the signed request, which is kept; nothing lives; asking again is 0."""
    sealed = Sealed(1)
    upload = await site.relay.stage(site.call, sealed)
    client = site.relay.collector(site.call)
    assert await client.release([release_of(sealed)]) == (Released(),)
    *_, last = await entries(site)
    assert isinstance(last, ReleasedEntry)
    assert last.request is not None
    data = site.relay.settings.relay.data_path
    kept = (data / "requests" / last.request.hex()[:2] / last.request.hex()).read_bytes()
    request = SignedRequest.decode(kept)
    assert request.digest == last.request
    asked = message_signatures.Request(
        method="POST",
        authority=site.relay.url.removeprefix("http://"),
        target="/releases",
        body=request.body,
    )
    message_signatures.verify_kept(
        request.signature_base, request.signature, asked, key=site.call.collect_key.verifier
    )
    assert request.body == encode_releases([release_of(sealed)])
    shelf = site.relay.services.tending._shelf
    assert all(books.live_count == 0 for books in shelf._books.values())
    assert site.relay.services.room.used(SPRING.server) == 0
    assert await client.fetch_staged() == ()
    (head,) = await fetch(client, [BatchItem(sealed.commitment, 0, 0)])
    assert isinstance(head, FrameHead)
    assert head.code == "unknown-object"
    assert await client.release([release_of(sealed)]) == (Released(),)
    assert len([one for one in await entries(site) if isinstance(one, ReleasedEntry)]) == 1
    again = await site.relay.create(site.call.claim(sealed), body=sealed.fragment(0))
    assert again.receipt is not None
    assert again.path == f"/uploads/{upload.id}"


async def test_each_item_of_a_release_is_answered_for_itself(site: Site) -> None:
    """What is not held, or held with another hash, is refused; the others are released."""
    await site.relay.stage(site.call, Sealed(1))
    await site.relay.stage(site.call, Sealed(2))
    wrong = Release(SPRING, Sealed(2).commitment, 0, bytes(32))
    answers = await site.relay.collector(site.call).release(
        [release_of(Sealed(3)), wrong, release_of(Sealed(1)), release_of(Sealed(1))]
    )
    codes = [one.code if isinstance(one, Failure) else None for one in answers]
    assert codes == ["unknown-object", "conflict", None, None]
    rows = await site.relay.collector(site.call).fetch_staged()
    assert [Claim.decode(row.claim).commitment for row in rows] == [Sealed(2).commitment]


async def test_a_hold_ends_after_its_last_millisecond(site: Site) -> None:
    """Nothing is deleted while the promise binds, and then it says so in the ledger."""
    sealed, clock = Sealed(1), site.relay.clock
    await site.relay.stage(site.call, sealed)
    (row,) = await site.relay.collector(site.call).fetch_staged()
    clock.advance(row.hold_until - clock.now())
    await site.relay.services.keeper.tick()
    assert len(await site.relay.collector(site.call).fetch_staged()) == 1
    clock.advance(1)
    await site.relay.services.keeper.tick()
    assert await site.relay.collector(site.call).fetch_staged() == ()
    *_, last = await entries(site)
    assert isinstance(last, ReleasedEntry)
    assert last.request is None


async def test_later_terms_prolong_holds(site: Site) -> None:
    """A moved repair_by is answered by held entries, and by later rows."""
    sealed = Sealed(1)
    await site.relay.stage(site.call, sealed)
    await site.relay.services.keeper.tick()
    later = site.call.extend(5 * DAY_MS)
    site.relay.clock.advance(30_000)
    book = site.relay.services.book
    await eventually(lambda: book.find_terms(SPRING).hash == later.hash)
    await site.relay.services.keeper.tick()
    await site.relay.services.keeper.tick()
    receipt, held = await entries(site)
    assert isinstance(receipt, ReceiptEntry)
    assert isinstance(held, HeldEntry)
    assert held.hold_until == later.repair_by + 7 * DAY_MS
    (row,) = await site.relay.collector(site.call).fetch_staged()
    assert row.hold_until == held.hold_until


async def test_a_rate_bounds_the_pace(site: Site) -> None:
    """Bistro-Rate is honoured: the clock of the test never moves, so the second block waits."""
    sealed = Sealed(1, size=1_200_000)
    await site.relay.stage(site.call, sealed)
    client = site.relay.collector(site.call)
    received = 0

    async def read() -> None:
        nonlocal received
        items = [BatchItem(sealed.commitment, 0, 0)]
        async with client.fetch_batch(items, bytes_per_s=1_000) as frames:
            async for frame in frames:
                received += len(frame) if isinstance(frame, bytes) else 0

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(read(), 0.5)
    assert received < 300_000


async def test_the_nonce_store_says_conflict(site: Site) -> None:
    """The same nonce by the same key is refused by the database itself."""
    nonces = site.relay.services.keeper._nonces
    now = site.relay.clock.now()
    await nonces.remember("key", "nonce", expires_at=now)
    with pytest.raises(ConflictError):
        await nonces.remember("key", "nonce", expires_at=now)
    await nonces.remember("other", "nonce", expires_at=now)
