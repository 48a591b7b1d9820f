"""Uploads that no client can find, and receipts that a twin has."""

from __future__ import annotations

import errno
from pathlib import Path

from bistro.wire.receipt import Receipt
from tests.support.disks import FaultyDisk
from tests.support.paper import SPRING, Sealed
from tests.support.relays import Site, allowed_relay, serving_relay

DATA_AT = 100_000


async def test_a_creation_that_a_full_disk_ends_leaves_no_upload(tmp_path: Path) -> None:
    """Its client was told 507 and not where to go on: room is free at once, not in an hour."""
    async with allowed_relay(tmp_path) as (settings, call):
        disk = FaultyDisk()
        async with serving_relay(settings, disk=disk) as relay:
            await relay.stage(call, Sealed(9))
            used = relay.services.room.used(SPRING.server)
            sealed = Sealed(1, size=6_000_000)
            write = disk.write

            def fail(fd: int, data: bytes | memoryview, *, offset: int) -> int:
                if len(data) > DATA_AT:
                    raise OSError(errno.ENOSPC, "injected")
                return write(fd, data, offset=offset)

            disk.write = fail  # type: ignore[method-assign]
            answer = await relay.create(call.claim(sealed), body=sealed.fragment(0))
            disk.write = write  # type: ignore[method-assign]
            assert (answer.status, "Location" in answer.headers) == (507, False)
            assert relay.services.room.used(SPRING.server) == used
            assert await relay.services.uploads.count_receiving() == []
            assert (await relay.create(call.claim(sealed), body=sealed.fragment(0))).receipt


async def test_an_upload_whose_twin_was_first_has_its_receipt(site: Site) -> None:
    """Whichever of the two a client asks for, small or large."""
    for size in (10_000, 6_000_000):
        sealed = Sealed(size, size=size)
        data = sealed.fragment(0)
        slow = await site.relay.create(site.call.claim(sealed))
        await site.relay.patch(slow.path, data[:1_000], at=0)
        missing = await site.relay.ask("GET", f"{slow.path}/receipt")
        assert missing.status == 404
        fast = await site.relay.create(site.call.claim(sealed), body=data)
        await site.relay.patch(slow.path, data[1_000:], at=1_000)
        found = [await site.relay.ask("GET", f"{one.path}/receipt") for one in (fast, slow)]
        assert [one.status for one in found] == [200, 200]
        entries = {Receipt.parse(one.body).entry for one in found}
        assert len(entries) == 1
