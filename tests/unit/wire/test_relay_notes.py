"""What a relay signs under its own name: service, hints, takedowns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import FormatError, VerificationError
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.wire.relay_notes import (
    DestinationService,
    Hint,
    RelayNote,
    Service,
    Sister,
    Takedown,
    name_of,
)
from tests.support.strategies import note_key

RELAY = "relay.example"
AT = UnixMillis(1_795_348_800_000)
SPRING = Origin("permits.example", "spring")

SERVICE = Service(
    relay=RELAY,
    at=AT,
    period="2026-11",
    destinations=(
        DestinationService(server="a.example", accepted_bytes=9, delivered_bytes=6, held_bytes=3),
        DestinationService(server="b.example", accepted_bytes=0, delivered_bytes=0, held_bytes=0),
    ),
)
HINT = Hint(
    relay=RELAY,
    at=AT,
    until=UnixMillis(AT + 60_000),
    origin=SPRING,
    sisters=(Sister(name="other.example", load=10, free_bytes=1_000),),
)
TAKEDOWN = Takedown(
    relay=RELAY,
    at=AT,
    origin=SPRING,
    commitment=b"\x07" * 32,
    fragments=(0, 2),
    reason="order of a court",
)
ALL = [SERVICE, replace(SERVICE, period="all"), HINT, TAKEDOWN, replace(TAKEDOWN, fragments=None)]

each = pytest.mark.parametrize(
    "note", ALL, ids=["service", "service of all time", "hint", "takedown", "takedown of all"]
)


@each
def test_what_is_signed_is_read_again(note: RelayNote) -> None:
    """Encoding and decoding undo each other, and equal values have equal bytes."""
    assert type(note).decode(note.encode()) == note
    assert type(note).verify(note.sign(note_key(RELAY)), note_key(RELAY).verifier) == note


@each
def test_a_note_of_another_relay_is_not_believed(note: RelayNote) -> None:
    """Neither signed by another key, nor about another relay than the key's."""
    signed = note.sign(note_key(RELAY))
    with pytest.raises(VerificationError):
        type(note).verify(signed, note_key("other.example").verifier)
    forged = note.sign(note_key("evil.example"))
    with pytest.raises(VerificationError):
        type(note).verify(forged, note_key("evil.example").verifier)


@each
def test_one_kind_is_never_taken_for_another(note: RelayNote) -> None:
    """All are signed by one key: the first line tells them apart."""
    kinds: set[type[RelayNote]] = {Service, Hint, Takedown}
    for kind in kinds - {type(note)}:
        with pytest.raises(FormatError):
            kind.decode(note.encode())


@given(st.data())
def test_any_bytes_decode_or_are_refused(data: st.DataObject) -> None:
    """Also those that differ from a good note in one place."""
    note = data.draw(st.sampled_from(ALL))
    good = note.encode()
    at = data.draw(st.integers(0, len(good) - 1))
    changed = good[:at] + data.draw(st.binary(max_size=3)) + good[at + 1 :]
    try:
        found = type(note).decode(changed)
    except FormatError:
        return
    assert found.encode() == changed


def refused(make: Callable[[], RelayNote]) -> bool:
    try:
        make()
    except FormatError:
        return True
    return False


def test_what_would_not_be_read_again_is_not_made() -> None:
    """Order and limits hold on both ways."""
    several = SERVICE.destinations
    assert refused(lambda: replace(SERVICE, period="2026-13"))
    assert refused(lambda: replace(SERVICE, destinations=several[::-1]))
    assert refused(lambda: replace(SERVICE, destinations=several[:1] * 2))
    assert refused(lambda: replace(HINT, relay="other.example"))
    assert refused(lambda: replace(HINT, sisters=HINT.sisters * 2))
    assert refused(lambda: replace(TAKEDOWN, fragments=()))
    assert refused(lambda: replace(TAKEDOWN, fragments=(2, 0)))
    assert refused(lambda: replace(TAKEDOWN, reason=""))
    assert refused(lambda: replace(TAKEDOWN, reason="x" * 501))


def test_a_takedown_is_named_by_the_hash_of_all_its_bytes() -> None:
    """Its signature included, so that an entry proves who gave the order."""
    signed = TAKEDOWN.sign(note_key(RELAY))
    assert name_of(signed) != name_of(TAKEDOWN.encode())
    assert TAKEDOWN.covers(2)
    assert not TAKEDOWN.covers(1)
    assert replace(TAKEDOWN, fragments=None).covers(1)
