"""Keys are made anew from entries: else a lost index would forget what was promised."""

from typing import Any

import pytest

from bistro.instant import UnixMillis
from bistro.wire.entry import Entry, HeldEntry, ReceiptEntry, ReleasedEntry, TicketEntry
from bistro_relay.services.ledgers import held_key, key_of, receipt_key, released_key

DIGEST = bytes(range(32))
UNTIL = UnixMillis(1_800_000_000_000)
FIXED: dict[str, Any] = {
    "origin": "r.example/custody/a.example/b",
    "time": UnixMillis(1_790_000_000_000),
    "digest": DIGEST,
}


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        (
            ReceiptEntry(**FIXED, index=3, size=9, fragment_hash=bytes(32), hold_until=UNTIL),
            receipt_key(DIGEST, 3),
        ),
        (HeldEntry(**FIXED, index=254, hold_until=UNTIL), held_key(DIGEST, 254, UNTIL)),
        (ReleasedEntry(**FIXED, index=0, request=None), released_key(DIGEST, 0)),
        (TicketEntry(**{**FIXED, "origin": "a.example/b"}), None),
    ],
)
def test_every_entry_gives_its_key(entry: Entry, key: bytes | None) -> None:
    """The one under which it was appended."""
    assert key_of(entry.encode()) == key
