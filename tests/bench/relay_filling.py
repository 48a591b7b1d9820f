"""Fills a relay with fragments that nobody sent, the way fragments get there.

Shelf, ledger and rows are written by the relay's own code, in its order; only HTTP and the
claims' tickets are left out. Nobody may serve the folder meanwhile.

Run as ``python -m tests.bench.relay_filling HOME COUNT``; prints how many are held in the end.
"""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Final

import click
import uvloop

from bistro.clock import SystemClock
from bistro.crypto.treehash import tree_hash
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.protocol.transfer import Transfer, TransferState
from bistro.wire.claim import Claim
from bistro.wire.entry import ReceiptEntry
from bistro.wire.fragment import Descriptor, Layout
from bistro_relay.app.composition import Services, Surroundings
from bistro_relay.app.serving import open_services
from bistro_relay.services.ledgers import receipt_key
from bistro_relay.settings import load_settings
from bistro_relay.store.placing import PlacedUploads
from bistro_relay.store.shared import Record
from bistro_relay.store.shelf import Shelf
from bistro_relay.store.uploads import Upload
from tests.bench.clock_error import ASSUMED_MS

BATCH: Final = 5_000
SIZE: Final = 64
ORIGIN: Final = Origin("bench.example", "spring")
_DAY_MS: Final = 86_400_000
_PROMISE: Final = "p" * 900
"""As long as a ticket; nobody looks at it again once a receipt was given."""


class Filler:
    """Brings fragments into a relay.

    Args:
        services: Opened, not running.
        shelf: Its shelf.
        placed: Its rows.
    """

    def __init__(self, services: Services, shelf: Shelf, placed: PlacedUploads) -> None:
        self._services = services
        self._shelf = shelf
        self._placed = placed
        self._clock = SystemClock(ASSUMED_MS)

    async def fill(self, count: int) -> None:
        """Hold ``count`` more fragments."""
        self._shelf.begin()
        ledger = (await self._services.ledgers.of(ORIGIN)).ledger
        async with asyncio.TaskGroup() as group:
            publisher = group.create_task(ledger.run_publisher())
            for at in range(0, count, BATCH):
                claims = [_claim() for _ in range(min(BATCH, count - at))]
                records = [Record.of(claim.encode(), data) for claim, data in claims]
                places = await asyncio.to_thread(self._shelf.write, records)
                now = UnixMillis(max(ledger.last_time, self._clock.now()))
                until = UnixMillis(now + _DAY_MS)
                keys = [receipt_key(claim.commitment, 0) for claim, _ in claims]
                entries = [_receipt(ledger.origin, claim, now, until) for claim, _ in claims]
                await ledger.append(keys, entries, last_time=now)
                uploads = [
                    Upload(
                        f"{now:012x}{secrets.token_hex(10)}",
                        ORIGIN,
                        claim.commitment,
                        0,
                        record.claim,
                        _held(claim.descriptor, until),
                        place,
                    )
                    for (claim, _), record, place in zip(claims, records, places, strict=True)
                ]
                await self._placed.insert_held(uploads, now=now)
                for place in places:
                    self._shelf.keep(place)
            publisher.cancel()
        await ledger.publish()


def _claim() -> tuple[Claim, bytes]:
    data = secrets.token_bytes(SIZE)
    digest = tree_hash(data)
    layout = Layout(envelope_hash=digest, envelope_size=SIZE, k=1, n=1)
    descriptor = Descriptor(index=0, size=SIZE, fragment_hash=digest)
    return Claim(ORIGIN, _PROMISE, layout, secrets.token_bytes(32), descriptor, ()), data


def _receipt(origin: str, claim: Claim, now: UnixMillis, until: UnixMillis) -> bytes:
    return ReceiptEntry(
        origin=origin,
        time=now,
        digest=claim.commitment,
        index=0,
        size=SIZE,
        fragment_hash=claim.descriptor.fragment_hash,
        hold_until=until,
    ).encode()


def _held(descriptor: Descriptor, until: UnixMillis) -> Transfer:
    return Transfer(
        size=descriptor.size,
        fragment_hash=descriptor.fragment_hash,
        expires_at=until,
        offset=descriptor.size,
        state=TransferState.HELD,
        hold_until=until,
    )


async def _main(home: Path, count: int) -> int:
    settings = load_settings(home)
    async with open_services(settings, Surroundings(SystemClock(ASSUMED_MS))) as services:
        tending = services.tending
        filler = Filler(services, tending._shelf, tending._placed)
        await filler.fill(count)
        return sum([tally.count async for tally in services.uploads.tally()])


@click.command()
@click.argument("home", type=click.Path(path_type=Path, exists=True))
@click.argument("count", type=int)
def main(home: Path, count: int) -> None:
    """Fill HOME, of a stopped relay, with COUNT fragments."""
    print(uvloop.run(_main(home, count)))  # noqa: T201 - the report


if __name__ == "__main__":
    main()
