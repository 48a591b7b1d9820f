"""One fragment, one relay: every way in which the two may misunderstand each other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bistro.errors import (
    ConflictError,
    StorageError,
    UnavailableError,
    VerificationError,
)
from bistro.net.relay_client import RelayClient, Upload
from bistro_client.journal import Journal
from bistro_client.uploading import Delivery
from tests.unit.client.relays import FakeRelay
from tests.unit.client.worlds import World, world


@asynccontextmanager
async def delivering(root: Path, size: int = 3_000_000) -> AsyncIterator[tuple[World, Delivery]]:
    """A submission with a ticket, and a delivery of its first fragment to the first relay."""
    async with world(root) as w:
        for relay in w.relays:
            relay.how = "silent"
        with pytest.raises(UnavailableError):
            await w.submitter(limit_ms=0).submit(w.wish(w.files(size)))
        for relay in w.relays:
            relay.how = "good"
        journal = Journal.open(w.only_folder())
        await journal.change(lambda s: s.assign(0, w.relays[0].name))
        relay_in_terms = w.destination.terms.relays[0]
        client = RelayClient(w.session, relay_in_terms.url)
        yield w, Delivery(journal, 0, relay_in_terms, client, w.destination.terms, w.listener)
        journal.close()


def only_upload(relay: FakeRelay) -> str:
    (found,) = relay.uploads
    return found


async def broken(delivery: Delivery, relay: FakeRelay, how: str = "breaks") -> None:
    """Let the delivery break off half way."""
    relay.how = how
    with pytest.raises(UnavailableError):
        await delivery.bring()


async def test_an_offset_that_we_did_not_hear_of_is_asked_for(tmp_path: Path) -> None:
    """The relay stored more than it could say: 409, then on from there."""
    async with delivering(tmp_path) as (w, delivery):
        relay = w.relays[0]
        await broken(delivery, relay)
        upload = Upload(only_upload(relay), 0, None)
        client = delivery.client

        class Stale(RelayClient):
            asked = 0

            async def fetch_offset(self, upload_id: str) -> Upload:
                self.asked += 1
                return upload if self.asked == 1 else await client.fetch_offset(upload_id)

        delivery.client = Stale(w.session, relay.url)
        receipt = await delivery.bring()
        assert receipt.fragment_index == 0
        assert relay.received_size == delivery._sealed.cut.layout.fragment_size


async def test_a_relay_that_refuses_its_own_offset_is_left(tmp_path: Path) -> None:
    """It would go on for ever."""
    async with delivering(tmp_path) as (w, delivery):
        relay = w.relays[0]
        await broken(delivery, relay)

        class Confused(RelayClient):
            async def append(self, *_: object, **__: object) -> Upload:
                raise ConflictError("another offset")

        delivery.client = Confused(w.session, relay.url)
        with pytest.raises(UnavailableError, match="refuses the offset that it names"):
            await delivery.bring()


async def test_a_whole_fragment_without_receipt_is_asked_for_it_later(tmp_path: Path) -> None:
    """The relay could not sign at the last byte; it can later."""
    async with delivering(tmp_path, 3_000) as (w, delivery):
        relay = w.relays[0]
        await delivery.bring()
        held = relay.uploads[only_upload(relay)]
        receipt, held.receipt = held.receipt, None
        journal = delivery.journal
        await journal.change(lambda s: s.repair([0]))
        await journal.change(lambda s: s.assign(0, relay.name))
        url = f"{relay.url}/uploads/{only_upload(relay)}"
        await journal.change(lambda s: s.upload_created(0, url))
        with pytest.raises(UnavailableError, match="no receipt for it yet"):
            await delivery.bring()
        held.receipt = receipt
        assert (await delivery.bring()).text() == receipt


async def test_a_receipt_for_another_fragment_is_not_believed(tmp_path: Path) -> None:
    """Signed by the right relay for the right submission, but not for these bytes."""
    async with delivering(tmp_path, 3_000) as (w, delivery):
        relay = w.relays[0]
        first = await delivery.bring()
        other = Delivery(
            delivery.journal, 1, delivery.relay, delivery.client, delivery.terms, w.listener
        )
        await delivery.journal.change(lambda s: s.assign(1, relay.name))

        class Lazy(RelayClient):
            async def create_upload(self, *_: object, **__: object) -> Upload:
                return Upload("x", 0, first)

        other.client = Lazy(w.session, relay.url)
        with pytest.raises(VerificationError, match="is not for fragment 1"):
            await other.bring()


async def test_a_relay_that_blames_the_bytes_makes_us_look_at_them(tmp_path: Path) -> None:
    """If they are right it is the relay's fault, if not our disk's."""
    async with delivering(tmp_path, 3_000) as (w, delivery):
        await delivery.require_intact()
        path = w.only_folder().fragment(0)
        whole = path.read_bytes()
        for bad in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-1], b""):
            path.write_bytes(bad)
            with pytest.raises(StorageError, match="missing or damaged"):
                await delivery.require_intact()


async def test_a_checksum_that_does_not_match_leads_elsewhere(tmp_path: Path) -> None:
    """The fragment on disk is whole, so it is offered again, elsewhere where that can be had."""
    async with world(tmp_path) as w:
        w.relays[0].how = "blames"
        w.relays[1].how = w.relays[2].how = "silent"
        done = await w.submitter().submit(w.wish())
        assert done.state == "staged"
        assert [one.code for one in done.attempts] == ["checksum-mismatch"]
