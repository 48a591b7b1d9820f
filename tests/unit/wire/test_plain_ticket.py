"""The quick spelling of the common ticket: never anything but what the strict way spells."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import FormatError
from bistro.instant import MAX_INSTANT, UnixMillis
from bistro.wire import plain_ticket
from bistro.wire.entry import RefusedEntry, TicketEntry
from bistro.wire.ticketing import (
    MAX_REQUESTS,
    Refused,
    TicketAnswers,
    Ticketed,
    TicketRequest,
    TicketRequests,
)
from tests.support import messages

HASHES = st.binary(min_size=32, max_size=32)
PLAIN = st.tuples(HASHES, HASHES)
ORIGIN = "tenders.example/roads"


def strict(data: bytes) -> tuple[list[tuple[bytes, bytes]], bool] | None:
    """What the strict decoder reads, if nothing in it has an admission."""
    try:
        found = TicketRequests.decode(data)
    except FormatError:
        return None
    if any(item.admission is not None for item in found.items):
        return None
    return [(item.commitment, item.terms_hash) for item in found.items], found.is_bulk


def quick(data: bytes) -> tuple[list[tuple[bytes, bytes]], bool] | None:
    """What the quick reader reads."""
    one = plain_ticket.read_plain(data)
    if one is not None:
        return [one], False
    several = plain_ticket.read_plain_array(data)
    if several is None:
        return None
    commitments, terms_hash = several
    return [(commitment, terms_hash) for commitment in commitments], True


@given(PLAIN)
def test_a_plain_request_is_read(plain: tuple[bytes, bytes]) -> None:
    """One item that is no array."""
    data = TicketRequests((TicketRequest(*plain),)).encode()
    assert quick(data) == strict(data) == ([plain], False)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 255, 256, MAX_REQUESTS])
def test_plain_arrays_are_read_up_to_the_limit(count: int) -> None:
    """Whatever form the array's length has."""
    plain = [(bytes([at % 256, at // 256]) * 16, b"t" * 32) for at in range(count)]
    data = TicketRequests(tuple(TicketRequest(*one) for one in plain), is_bulk=True).encode()
    assert quick(data) == strict(data) == (plain, True)
    longer = b"\xdc" + (count + 1).to_bytes(2) + data[-71:] * (count + 1)
    if count == MAX_REQUESTS:
        assert quick(longer) is None


@given(messages.TICKET_REQUESTS)
def test_what_is_read_is_what_the_strict_decoder_reads(requests: TicketRequests) -> None:
    """Requests with admissions are left to it, and arrays for several terms."""
    data = requests.encode()
    assert quick(data) in (None, strict(data))
    if not requests.is_bulk:
        assert quick(data) == strict(data)


@given(st.lists(st.tuples(HASHES, st.sampled_from([b"a" * 32, b"b" * 32])), min_size=1))
def test_single_requests_are_read_together(plain: list[tuple[bytes, bytes]]) -> None:
    """If they are for the same terms."""
    bodies = [TicketRequests((TicketRequest(*one),)).encode() for one in plain]
    commitments, terms = [one for one, _ in plain], {terms_hash for _, terms_hash in plain}
    expected = (commitments, terms.pop()) if len(terms) == 1 else None
    assert plain_ticket.read_plain_lot(bodies) == expected


@given(st.integers(0, 70), st.integers(1, 255))
def test_one_odd_request_among_others_is_seen(at: int, change: int) -> None:
    """Whatever byte of it is another, but for its commitment."""
    body = TicketRequests((TicketRequest(bytes(32), bytes(32)),)).encode()
    odd = bytearray(body)
    odd[at] ^= change
    found = plain_ticket.read_plain_lot([body, bytes(odd), body])
    is_commitment = 4 <= at < 36
    assert (found is not None) == is_commitment


@given(messages.TICKET_REQUESTS, st.data())
def test_changed_bytes_are_never_read_otherwise(
    requests: TicketRequests, data: st.DataObject
) -> None:
    """A flipped, missing or added byte: the same as the strict decoder, or nothing."""
    body = bytearray(requests.encode())
    at = data.draw(st.integers(0, len(body) - 1))
    match data.draw(st.sampled_from(("flip", "cut", "add"))):
        case "flip":
            body[at] ^= data.draw(st.integers(1, 255))
        case "cut":
            del body[at:]
        case _:
            body.insert(at, data.draw(st.integers(0, 255)))
    found = quick(bytes(body))
    assert found is None or found == strict(bytes(body))


@given(st.integers(0, MAX_INSTANT), st.lists(HASHES, min_size=1, max_size=5))
def test_entries_are_those_of_the_wire_format(time: int, commitments: list[bytes]) -> None:
    """Byte for byte, with further lines and without."""
    at = UnixMillis(time)
    for sample in (
        TicketEntry(origin=ORIGIN, time=UnixMillis(7), digest=b"d" * 32),
        RefusedEntry(
            origin=f"{ORIGIN}/refusals",
            time=UnixMillis(7),
            digest=b"d" * 32,
            reason="deadline-passed",
        ),
    ):
        entries = [replace(sample, time=at, digest=one).encode() for one in commitments]
        assert plain_ticket.EntrySpeller(sample).spell(at, commitments) == entries


def test_entries_have_the_limits_of_the_wire_format() -> None:
    """No time that has no date."""
    speller = plain_ticket.EntrySpeller(
        TicketEntry(origin=ORIGIN, time=UnixMillis(0), digest=bytes(32))
    )
    with pytest.raises(FormatError, match="time"):
        speller.spell(UnixMillis(MAX_INSTANT + 1), [bytes(32)])


@pytest.mark.parametrize("size", [1, 31, 32, 255, 256, 1_200, 4_096])
def test_answers_are_those_of_the_wire_format(size: int) -> None:
    """Alone and in an array, with every form of a text's length."""
    proof = "x" * size
    one, other = Ticketed(proof), Refused(proof)
    spelled = [
        plain_ticket.spell_ticketed(proof.encode()),
        plain_ticket.spell_refused(proof.encode()),
    ]
    assert spelled == [TicketAnswers((one,)).encode(), TicketAnswers((other,)).encode()]
    for count in (1, 2, 15, 16, MAX_REQUESTS):
        items = tuple(one for _ in range(count))
        joined = plain_ticket.join_answers([spelled[0]] * count)
        assert joined == TicketAnswers(items, is_bulk=True).encode()


@pytest.mark.parametrize("size", [0, 4_097])
def test_a_promise_that_nobody_could_read_is_not_spelled(size: int) -> None:
    """The limits of the wire format hold."""
    with pytest.raises(FormatError, match="promise"):
        plain_ticket.before_ticket(size)
