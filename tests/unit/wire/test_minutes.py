"""Minutes: a signed root over every commitment, and each filer's place under it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto.digest import sha256
from bistro.crypto.merkle import inclusion_path, root_of
from bistro.crypto.signing import VerifierKey
from bistro.errors import BistroError, FormatError, VerificationError
from bistro.ids import Origin
from bistro.instant import MAX_INSTANT, UnixMillis
from bistro.wire import codec
from bistro.wire.minutes import Minutes, MinutesEntry, salted_outcome, verify_minutes
from bistro.wire.status import OUTCOMES, MinutesPlace
from tests.support.promises import MemoryLedger
from tests.support.strategies import note_key
from tests.support.vectors import Vector, each_vector

ORIGIN = Origin("permits.example", "spring")
HASHES = st.binary(min_size=32, max_size=32)
NOTE = MemoryLedger(note_key(str(ORIGIN)), [b"opening\n"]).checkpoint_note()
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
MINUTES = st.builds(
    Minutes,
    origin=st.just(ORIGIN),
    checkpoint_note=st.just(NOTE),
    opened_at=st.integers(0, MAX_INSTANT).map(UnixMillis),
    present=st.lists(NAMES, max_size=4).map(tuple),
    dealer=st.none() | NAMES,
    count=st.integers(0, 2**53 - 1),
    root=HASHES,
)
ENTRIES = st.builds(MinutesEntry, index=st.integers(0, 2**53 - 1), commitment=HASHES, salted=HASHES)


@each_vector("minutes", "valid")
def test_valid_minutes_verify(vector: Vector) -> None:
    """Count, root and checkpoint are those that were signed; every place is under the root."""
    minutes = verify_minutes(vector.data, VerifierKey.parse(vector["vkey"]))
    assert (minutes.count, minutes.root) == (vector["count"], vector.hex("root"))
    assert list(minutes.present) == vector["present"]
    log_key = VerifierKey.parse(vector["log_vkey"])
    assert minutes.verify_checkpoint(log_key).size == vector["size"]
    assert minutes.sign(note_key(ORIGIN.status)) == vector.data
    for index, item in enumerate(vector.fields.get("entries", [])):
        entry = bytes.fromhex(item["entry"])
        path = tuple(bytes.fromhex(node) for node in item["path"])
        place = MinutesPlace(entry=entry, index=index, path=path)
        assert minutes.verify_place(place).encode() == entry


@each_vector("minutes", "invalid")
def test_invalid_minutes_are_refused_with_their_code(vector: Vector) -> None:
    """Malformed and not signed are told apart."""
    with pytest.raises(BistroError) as caught:
        verify_minutes(vector.data, VerifierKey.parse(vector["vkey"])).verify_checkpoint(
            VerifierKey.parse(vector["log_vkey"])
        )
    assert caught.value.code == vector.code


@given(minutes=MINUTES)
def test_decoding_undoes_encoding(minutes: Minutes) -> None:
    """What was signed reads back as the same value."""
    assert Minutes.decode(minutes.encode()) == minutes


@given(first=MINUTES, second=MINUTES)
def test_equal_minutes_have_equal_bytes(first: Minutes, second: Minutes) -> None:
    """Bytes are equal exactly where values are."""
    assert (first == second) == (first.encode() == second.encode())


@given(entry=ENTRIES)
def test_decoding_an_entry_undoes_encoding(entry: MinutesEntry) -> None:
    """What was written reads back as the same value."""
    assert MinutesEntry.decode(entry.encode()) == entry


@pytest.mark.parametrize(
    "fields",
    [
        [bytes(32), bytes(32)],
        [True, bytes(32), bytes(32)],
        [1, bytes(32), bytes(31)],
        [1, bytes(32), bytes(32), None],
    ],
)
def test_an_entry_has_an_index_a_commitment_and_a_salted_outcome(fields: list[codec.Value]) -> None:
    """Nothing more, nothing less."""
    with pytest.raises(FormatError):
        MinutesEntry.decode(codec.encode(fields))


@pytest.mark.parametrize("index", [-1, 2**53])
def test_an_entry_at_no_place_of_a_log_is_not_made(index: int) -> None:
    """The mistake is found where it is made."""
    with pytest.raises(FormatError, match="expected an index in a log"):
        MinutesEntry(index=index, commitment=bytes(32), salted=bytes(32))


@given(data=st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    """There is no third way out, whatever arrives."""
    with pytest.raises(FormatError):
        Minutes.decode(data)
    with pytest.raises(FormatError):
        MinutesEntry.decode(data)


@given(entries=st.lists(ENTRIES, min_size=1, max_size=20, unique=True), data=st.data())
def test_each_filer_finds_its_place_and_no_other(
    entries: list[MinutesEntry], data: st.DataObject
) -> None:
    """A place proves one entry at one index."""
    leaves = [entry.leaf for entry in entries]
    index = data.draw(st.integers(0, len(entries) - 1))
    minutes = Minutes(
        origin=ORIGIN,
        checkpoint_note=NOTE,
        opened_at=UnixMillis(1),
        present=(),
        dealer=None,
        count=len(entries),
        root=root_of(leaves),
    )
    path = inclusion_path(leaves, index)
    place = MinutesPlace(entry=entries[index].encode(), index=index, path=path)
    assert minutes.verify_place(place) == entries[index]
    with pytest.raises(VerificationError):
        minutes.verify_place(replace(place, index=index ^ 1))


def test_an_outcome_is_salted_with_the_token() -> None:
    """Without the token nobody can tell an outcome from the minutes."""
    assert salted_outcome(b"token", "void") == sha256(b"tokenvoid")
    assert len({salted_outcome(b"token", outcome) for outcome in OUTCOMES}) == len(OUTCOMES)
    with pytest.raises(FormatError, match="expected one of"):
        salted_outcome(b"token", "praised")
