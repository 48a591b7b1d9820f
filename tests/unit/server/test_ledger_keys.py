"""Keys are made anew from entries: else a lost index would forget who has a ticket."""

from typing import Any

import pytest

from bistro.instant import UnixMillis
from bistro.wire.entry import (
    ClosedEntry,
    Entry,
    OpeningEntry,
    RefusedEntry,
    TermsEntry,
    TicketEntry,
)
from bistro_server.services.ledgers import (
    OPENING_KEY,
    closed_key,
    key_of,
    refusal_key,
    terms_key,
    ticket_key,
)

DIGEST = bytes(range(32))
FIXED: dict[str, Any] = {
    "origin": "a.example/b",
    "time": UnixMillis(1_790_000_000_000),
    "digest": DIGEST,
}

REFUSED = {**FIXED, "origin": "a.example/b/refusals"}


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        (TicketEntry(**FIXED), ticket_key(DIGEST)),
        (TicketEntry(**FIXED, admission=bytes(32)), ticket_key(DIGEST)),
        (TermsEntry(**FIXED), terms_key(DIGEST)),
        (ClosedEntry(**FIXED), closed_key(DIGEST)),
        (OpeningEntry(**FIXED), OPENING_KEY),
        (RefusedEntry(**REFUSED, reason="deadline-passed"), refusal_key(DIGEST)),
    ],
)
def test_every_entry_gives_its_key(entry: Entry, key: bytes) -> None:
    """The one under which it was appended."""
    assert key_of(entry.encode()) == key
