"""Ledgers, sequencers and drafts for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bistro.clock import Clock
from bistro.crypto.digest import sha256
from bistro.crypto.signing import LocalSigner, SigningKey
from bistro.instant import UnixMillis
from bistro.ledger.appended import Appended
from bistro.ledger.ledger import Ledger
from bistro.ledger.sequencer import Draft, Result, Sequencer
from bistro.storage.disk import SYSTEM_DISK, Disk
from bistro.wire.entry import TicketEntry
from bistro.wire.proof import Proof
from tests.support.clocks import NOON
from tests.support.running import running

ORIGIN = "tenders.example/roads"
KEY = SigningKey.generate(ORIGIN)


class Item(NamedTuple):
    """An entry and the key under which it is unique, or ``None``."""

    key: bytes | None
    entry: bytes


def commitment(number: int) -> bytes:
    return sha256(b"commitment %d" % number)


def entry(number: int, time: UnixMillis = NOON) -> bytes:
    return TicketEntry(origin=ORIGIN, time=time, digest=commitment(number)).encode()


def item(number: int, time: int = NOON) -> Item:
    return Item(commitment(number), entry(number, UnixMillis(time)))


def draft(number: int, received_at: int = NOON, **more: Any) -> Draft:
    return Draft(
        commitment(number), UnixMillis(received_at), lambda time: entry(number, time), **more
    )


async def open_ledger(
    path: Path, *, disk: Disk = SYSTEM_DISK, publish_after: int = 256, key: SigningKey = KEY
) -> Ledger:
    return await Ledger.open(path, signer=LocalSigner(key), disk=disk, publish_after=publish_after)


async def append(ledger: Ledger, items: Sequence[Item], *, last_time: UnixMillis) -> list[Appended]:
    """Append a batch of entries with their keys."""
    keys, entries = [item.key or b"" for item in items], [item.entry for item in items]
    stamped = await ledger.append(keys, entries, last_time=last_time)
    return [stamped[at] for at in range(len(items))]


@asynccontextmanager
async def sequencing(path: Path, clock: Clock, **more: Any) -> AsyncIterator[Sequencer]:
    """A sequencer that runs over the ledger in ``path`` until the block ends."""
    ledger = await open_ledger(path)
    try:
        sequencer = Sequencer(ledger, clock, **more)
        async with running(sequencer.run()):
            yield sequencer
    finally:
        await ledger.close()


def require_proven(appended: Result | None, number: int) -> None:
    """The proof holds for the ledger's key, and covers exactly this entry at its index."""
    assert isinstance(appended, Appended)
    proof = Proof.parse(appended.proof)
    assert proof.entry == appended.entry == entry(number, appended.time)
    assert proof.index == appended.index
    proof.verify(KEY.verifier)


def require_appended(results: Sequence[Result]) -> list[Appended]:
    """The results, none of which is an error."""
    appended = [one for one in results if isinstance(one, Appended)]
    assert len(appended) == len(results)
    return appended


async def find(ledger: Ledger, number: int) -> Appended:
    """The entry of a commitment that is there."""
    found = await ledger.find(commitment(number))
    assert found is not None
    return found
