"""Proofs: the tlog-proof text that carries every promise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto.signing import VerifierKey
from bistro.errors import BistroError, FormatError, VerificationError
from bistro.wire.proof import Proof
from tests.support.promises import MemoryLedger
from tests.support.strategies import note_key
from tests.support.vectors import Vector, each_vector

HASHES = st.binary(min_size=32, max_size=32)
NOTE = MemoryLedger(note_key("a.example/b"), [b"first\n", b"second\n"]).checkpoint_note()
PROOFS = st.builds(
    Proof,
    entry=st.none() | st.binary(min_size=1, max_size=1_024),
    index=st.integers(0, 2**53 - 1),
    path=st.lists(HASHES, max_size=63).map(tuple),
    checkpoint_note=st.just(NOTE),
)


@each_vector("proof", "valid")
def test_a_valid_proof_verifies(vector: Vector) -> None:
    """The entry stands where the proof says, under the checkpoint it carries."""
    proof = Proof.parse(vector.data)
    assert (proof.index, len(proof.path)) == (vector["index"], vector["path"])
    entry = vector["entry"].encode()
    assert proof.verify(VerifierKey.parse(vector["vkey"]), entry).size == vector["size"]
    assert proof.format() == vector.data


@each_vector("proof", "invalid")
def test_an_invalid_proof_is_refused_with_its_code(vector: Vector) -> None:
    """Malformed and not verified are told apart."""
    with pytest.raises(BistroError) as caught:
        Proof.parse(vector.data).verify(VerifierKey.parse(vector["vkey"]))
    assert caught.value.code == vector.code


@given(proof=PROOFS)
def test_parsing_undoes_formatting(proof: Proof) -> None:
    """What was written reads back as the same value, from bytes and from text."""
    data = proof.format()
    assert Proof.parse(data) == proof == Proof.parse(data.decode())


@given(first=PROOFS, second=PROOFS)
def test_equal_proofs_have_equal_bytes(first: Proof, second: Proof) -> None:
    """Bytes are equal exactly where values are."""
    assert (first == second) == (first.format() == second.format())


@given(data=st.binary(max_size=300) | st.text(max_size=300))
def test_anything_parses_or_is_refused(data: bytes | str) -> None:
    """There is no third way out, whatever arrives."""
    _parse_or_refuse(data)


@given(proof=PROOFS, data=st.data())
def test_a_damaged_proof_parses_to_itself_or_is_refused(proof: Proof, data: st.DataObject) -> None:
    """What parses after a change formats to exactly the changed bytes."""
    text = bytearray(proof.format())
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    _parse_or_refuse(bytes(text))


def _parse_or_refuse(data: bytes | str) -> None:
    try:
        proof = Proof.parse(data)
    except FormatError:
        return
    assert proof.format() == (data if isinstance(data, bytes) else data.encode())


@given(size=st.integers(1, 40), data=st.data())
def test_every_entry_of_a_ledger_can_be_proven(size: int, data: st.DataObject) -> None:
    """At any size, and only at its own index."""
    ledger = MemoryLedger(note_key("a.example/b"), [bytes([number]) for number in range(size)])
    index = data.draw(st.integers(0, size - 1))
    proof = ledger.prove(index)
    assert proof.verify(ledger.key.verifier).size == size
    elsewhere = Proof(
        entry=proof.entry,
        index=index ^ 1,
        path=proof.path,
        checkpoint_note=proof.checkpoint_note,
    )
    with pytest.raises(VerificationError):
        elsewhere.verify(ledger.key.verifier)


def test_a_proof_without_entry_needs_one_to_verify() -> None:
    """Nothing is proven about nothing."""
    proof = Proof(entry=None, index=0, path=(), checkpoint_note=NOTE)
    with pytest.raises(VerificationError, match="no entry"):
        proof.verify(note_key("a.example/b").verifier)


def test_a_proof_is_not_about_another_entry() -> None:
    """The expected entry is compared, not assumed."""
    proof = MemoryLedger(note_key("a.example/b"), [b"first\n"]).prove(0)
    with pytest.raises(VerificationError, match="another entry"):
        proof.verify(note_key("a.example/b").verifier, b"second\n")
