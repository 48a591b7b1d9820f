"""Asks a relay for everything that it signed receipts for, as the destination may, and compares."""

from __future__ import annotations

from collections.abc import Sequence

from bistro.crypto.treehash import TreeHash
from bistro.errors import BistroError
from bistro.net.collector_client import CollectorClient
from bistro.net.session import Session
from bistro.wire.batches import BatchItem, FrameHead
from bistro.wire.receipt import Receipt
from tests.e2e.demo.stage import Site, Stage

_AT_ONCE = 500


async def audit(stage: Stage, site: Site, receipts: Sequence[Receipt]) -> list[str]:
    """A sentence for each receipt of the relay that it does not honour.

    Whole fragments are fetched with the call's collect key and hashed. What passes the gate
    meanwhile is not counted as collected.
    """
    usual, site.gate.collected_on = site.gate.collected_on, f"{site.name}/audited"
    faults: list[str] = []
    try:
        async with Session() as session:
            client = CollectorClient(
                session, site.gate.url, key=stage.collect_key, clock=stage.clock
            )
            for at in range(0, len(receipts), _AT_ONCE):
                faults += await _compare(client, receipts[at : at + _AT_ONCE])
    except BistroError as exc:
        faults.append(f"{site.name}: {exc}")
    finally:
        site.gate.collected_on = usual
    return faults


async def _compare(client: CollectorClient, receipts: Sequence[Receipt]) -> list[str]:
    items = [BatchItem(one.entry.digest, one.entry.index, 0) for one in receipts]
    digests: list[str] = []
    async with client.fetch_batch(items) as frames:
        digest = TreeHash()
        async for frame in frames:
            if isinstance(frame, FrameHead):
                digest = TreeHash()
                digests.append(f"refused with {frame.code}" if frame.code else "")
            else:
                digest.update(frame)
            if not digests[-1].startswith("refused"):
                digests[-1] = digest.digest().hex()
    return [
        f"fragment {one.entry.index} of {one.entry.digest.hex()[:16]}: signed for "
        f"{one.entry.fragment_hash.hex()[:16]}, found {found[:40]}"
        for one, found in zip(receipts, digests, strict=True)
        if found != one.entry.fragment_hash.hex()
    ]


async def held(stage: Stage, site: Site) -> int:
    """How many fragments the relay lists as staged for the call."""
    usual, site.gate.collected_on = site.gate.collected_on, f"{site.name}/audited"
    try:
        async with Session() as session:
            client = CollectorClient(
                session, site.gate.url, key=stage.collect_key, clock=stage.clock
            )
            return len(await client.fetch_staged())
    finally:
        site.gate.collected_on = usual
