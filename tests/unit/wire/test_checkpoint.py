"""Checkpoints: three lines, one signature by the ledger's key."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto.digest import EMPTY_ROOT
from bistro.crypto.signing import VerifierKey
from bistro.errors import BistroError, FormatError
from bistro.wire.checkpoint import Checkpoint, verify_checkpoint
from tests.support.strategies import HOST_NAMES, ORIGINS, note_key
from tests.support.vectors import Vector, each_vector

NAMES = HOST_NAMES | ORIGINS.map(str)
CHECKPOINTS = st.builds(
    Checkpoint,
    origin=NAMES,
    size=st.integers(1, 2**53 - 1),
    root=st.binary(min_size=32, max_size=32),
) | st.builds(Checkpoint, origin=NAMES, size=st.just(0), root=st.just(EMPTY_ROOT))


@each_vector("checkpoint", "valid")
def test_a_valid_checkpoint_verifies(vector: Vector) -> None:
    """Origin, size and root are those that were signed."""
    checkpoint = verify_checkpoint(vector.data, VerifierKey.parse(vector["vkey"]))
    assert checkpoint == Checkpoint(
        origin=vector["origin"], size=vector["size"], root=vector.hex("root")
    )


@each_vector("checkpoint", "invalid")
def test_an_invalid_checkpoint_is_refused_with_its_code(vector: Vector) -> None:
    """Malformed and not signed are told apart."""
    with pytest.raises(BistroError) as caught:
        verify_checkpoint(vector.data, VerifierKey.parse(vector["vkey"]))
    assert caught.value.code == vector.code


@given(checkpoint=CHECKPOINTS)
def test_parsing_undoes_text(checkpoint: Checkpoint) -> None:
    """What was signed reads back as the same value."""
    assert Checkpoint.parse(checkpoint.text()) == checkpoint


@given(first=CHECKPOINTS, second=CHECKPOINTS)
def test_equal_checkpoints_have_equal_text(first: Checkpoint, second: Checkpoint) -> None:
    """Text is equal exactly where values are."""
    assert (first == second) == (first.text() == second.text())


@given(data=st.binary(max_size=200))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    """There is no third way out, whatever arrives."""
    try:
        checkpoint = Checkpoint.parse(data)
    except FormatError:
        return
    assert checkpoint.text() == data


@given(checkpoint=CHECKPOINTS)
def test_a_signature_made_elsewhere_makes_the_same_note(checkpoint: Checkpoint) -> None:
    """A signer that only sees texts is enough to issue checkpoints."""
    key = note_key(checkpoint.origin)
    note = checkpoint.signed(key.verifier, key.sign(checkpoint.text()))
    assert verify_checkpoint(note, key.verifier) == checkpoint


@pytest.mark.parametrize(
    "wrong", [{"origin": "a\nb"}, {"origin": "a" * 1_025}, {"size": -1}, {"size": 0}, {"root": b""}]
)
def test_a_checkpoint_that_could_not_be_read_cannot_be_made(wrong: dict[str, object]) -> None:
    """A ledger never signs what its readers refuse."""
    with pytest.raises(FormatError):
        replace(Checkpoint(origin="a.example/b", size=1, root=bytes(32)), **wrong)  # type: ignore[arg-type]
