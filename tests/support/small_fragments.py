"""Fragments that come whole in one request written out by hand, and what becomes of them."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from bistro.api import media
from bistro.wire.batches import BatchItem
from bistro.wire.receipt import Receipt
from tests.support.lines import Line, written
from tests.support.paper import RELAY, SPRING, PaperCall, Sealed
from tests.support.relays import TUS, RunningRelay, hyphened, metadata
from tests.support.strategies import note_key


def staging(call: PaperCall, sealed: Sealed, *, body: bytes | None = None, **fields: str) -> bytes:
    """The one request that stages fragment 0."""
    data = sealed.fragment(0) if body is None else body
    usual = {
        "Host": "relay",
        "Content-Type": media.TUS_BYTES,
        "Content-Length": str(len(data)),
        **TUS,
        "Upload-Length": str(len(data)),
        "Upload-Metadata": metadata(call.claim(sealed)),
    }
    return written("POST /uploads", usual | hyphened(fields), data)


async def line_to(relay: RunningRelay) -> Line:
    """A connection to a relay."""
    return await Line.to(relay.settings.http.port)


def receipt_of(fields: dict[str, str]) -> Receipt:
    """The receipt in the fields of an answer, verified."""
    found = Receipt.parse(base64.b64decode(fields["Bistro-Receipt"]))
    found.verify(note_key(RELAY).verifier, SPRING)
    return found


async def fetched(relay: RunningRelay, call: PaperCall, sealed: Sequence[Sealed]) -> list[bytes]:
    """The fragments 0 as the destination gets them."""
    items = [BatchItem(one.commitment, 0, 0) for one in sealed]
    found: list[bytes] = []
    async with relay.collector(call).fetch_batch(items) as frames:
        async for frame in frames:
            if isinstance(frame, bytes):
                found[-1] += frame
            else:
                assert frame.code is None
                found.append(b"")
    return found
