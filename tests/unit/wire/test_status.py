"""Status for everybody and outcome for the filer: signed statements."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto.signing import VerifierKey
from bistro.errors import BistroError, FormatError
from bistro.ids import Origin
from bistro.instant import MAX_INSTANT, UnixMillis
from bistro.wire.statement import MAX_STATEMENT_SIZE
from bistro.wire.status import (
    OUTCOMES,
    STATES,
    MinutesPlace,
    Outcome,
    Reason,
    Status,
    verify_outcome,
    verify_status,
)
from tests.support.strategies import note_key
from tests.support.vectors import Vector, each_vector

ORIGIN = Origin("permits.example", "spring")
HASHES = st.binary(min_size=32, max_size=32)
TIMES = st.integers(0, MAX_INSTANT).map(UnixMillis)
COUNTS = st.integers(0, 2**53 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)

STATUSES = st.builds(
    Status,
    origin=st.just(ORIGIN),
    commitment=HASHES,
    state=st.sampled_from(STATES),
    ticketed_at=TIMES,
    index=COUNTS,
    updated_at=TIMES,
    fragments=st.sets(st.integers(0, 254), max_size=9).map(lambda found: tuple(sorted(found))),
    needed=st.none() | st.integers(1, 255),
)
OUTCOME_VALUES = st.builds(
    Outcome,
    origin=st.just(ORIGIN),
    commitment=HASHES,
    state=st.sampled_from(STATES),
    outcome=st.sampled_from(sorted(OUTCOMES)),
    reasons=st.lists(st.builds(Reason, code=TEXTS.filter(bool), text=TEXTS), max_size=3).map(tuple),
    minutes=st.none()
    | st.builds(
        MinutesPlace,
        entry=st.binary(min_size=1, max_size=128),
        index=COUNTS,
        path=st.lists(HASHES, max_size=5).map(tuple),
    ),
    updated_at=TIMES,
)
STATUS = Status(
    origin=ORIGIN,
    commitment=bytes(32),
    state="staged",
    ticketed_at=UnixMillis(1),
    index=0,
    updated_at=UnixMillis(2),
    fragments=(0, 2),
    needed=2,
)


@each_vector("status", "valid")
def test_a_valid_status_verifies(vector: Vector) -> None:
    """State and fragments are those that were signed."""
    status = verify_status(vector.data, VerifierKey.parse(vector["vkey"]))
    assert (status.state, status.commitment) == (vector["state"], vector.hex("commitment"))
    assert (list(status.fragments), status.needed) == (vector["fragments"], vector["needed"])
    assert status.sign(note_key(ORIGIN.status)) == vector.data


@each_vector("status", "invalid")
def test_an_invalid_status_is_refused_with_its_code(vector: Vector) -> None:
    """Malformed and not signed are told apart."""
    with pytest.raises(BistroError) as caught:
        verify_status(vector.data, VerifierKey.parse(vector["vkey"]))
    assert caught.value.code == vector.code


@each_vector("outcome", "valid")
def test_a_valid_outcome_verifies(vector: Vector) -> None:
    """Outcome and reasons are those that were signed."""
    outcome = verify_outcome(vector.data, VerifierKey.parse(vector["vkey"]))
    assert (outcome.outcome, outcome.commitment) == (vector["outcome"], vector.hex("commitment"))
    assert [reason.code for reason in outcome.reasons] == vector["reasons"]
    assert (outcome.minutes is not None) == vector["has_minutes"]
    assert outcome.sign(note_key("x.example").renamed(ORIGIN.status)) != vector.data
    assert outcome.sign(note_key(ORIGIN.status)) == vector.data


@each_vector("outcome", "invalid")
def test_an_invalid_outcome_is_refused_with_its_code(vector: Vector) -> None:
    """Malformed and not signed are told apart."""
    with pytest.raises(BistroError) as caught:
        verify_outcome(vector.data, VerifierKey.parse(vector["vkey"]))
    assert caught.value.code == vector.code


@given(status=STATUSES)
def test_decoding_a_status_undoes_encoding(status: Status) -> None:
    """What was signed reads back as the same value."""
    assert Status.decode(status.encode()) == status


@given(outcome=OUTCOME_VALUES)
def test_decoding_an_outcome_undoes_encoding(outcome: Outcome) -> None:
    """What was signed reads back as the same value."""
    assert Outcome.decode(outcome.encode()) == outcome


@given(first=STATUSES, second=STATUSES)
def test_equal_statuses_have_equal_bytes(first: Status, second: Status) -> None:
    """Bytes are equal exactly where values are."""
    assert (first == second) == (first.encode() == second.encode())


@given(data=st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    """There is no third way out, whatever arrives."""
    with pytest.raises(FormatError):
        Status.decode(data)
    with pytest.raises(FormatError):
        Outcome.decode(data)


@pytest.mark.parametrize("wrong", [{"state": "lost"}, {"fragments": (2, 1)}])
def test_a_status_that_could_not_be_read_cannot_be_made(wrong: dict[str, object]) -> None:
    """A server never signs what its readers refuse."""
    with pytest.raises(FormatError):
        replace(STATUS, **wrong)  # type: ignore[arg-type]


def test_a_statement_has_a_longest() -> None:
    """A reader refuses before it parses."""
    with pytest.raises(FormatError, match="at most"):
        Status.decode(b"x" * (MAX_STATEMENT_SIZE + 1))
