"""Layouts, descriptors, commitments and claims."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto import merkle
from bistro.crypto.digest import sha256
from bistro.errors import FormatError, VerificationError
from bistro.ids import Origin
from bistro.wire.claim import MAX_CLAIM_SIZE, Claim
from bistro.wire.fragment import UNIT_SIZE, Cut, Descriptor, Layout, root_from_path
from tests.support import strategies


@given(strategies.LAYOUTS)
def test_k_fragments_hold_the_envelope_with_less_than_a_byte_each_to_spare(layout: Layout) -> None:
    """Fragments are as small as equal sizes allow."""
    total = layout.k * layout.fragment_size
    assert 0 <= total - layout.envelope_size < layout.k


@given(strategies.CUTS, st.data())
def test_each_descriptor_leads_to_the_root(cut: Cut, data: st.DataObject) -> None:
    """A fragment can be checked without the others."""
    index = data.draw(st.integers(0, cut.layout.n - 1))
    descriptor = cut.descriptors[index]
    assert root_from_path(descriptor, n=cut.layout.n, path=cut.path(index)) == cut.root
    assert cut.root == merkle.root_of([one.leaf for one in cut.descriptors])
    with pytest.raises(VerificationError):
        root_from_path(descriptor, n=cut.layout.n, path=[*cut.path(index), bytes(32)])


@given(strategies.CLAIMS)
def test_any_change_of_a_claim_leads_to_another_commitment(claim: Claim) -> None:
    """A relay cannot be made to hold what was not committed to."""
    other = sha256(b"other")
    assert dataclasses.replace(claim, header_leaf=other).commitment != claim.commitment
    swapped = dataclasses.replace(claim.descriptor, fragment_hash=other)
    assert dataclasses.replace(claim, descriptor=swapped).commitment != claim.commitment
    if claim.path:
        path = (other, *claim.path[1:])
        assert dataclasses.replace(claim, path=path).commitment != claim.commitment


@given(strategies.CUTS, strategies.HASHES, strategies.ORIGINS)
def test_claims_of_all_fragments_lead_to_the_same_commitment(
    cut: Cut, header_leaf: bytes, origin: Origin
) -> None:
    """A commitment is one, whichever fragment is shown."""
    found = {
        Claim(
            origin, "p", cut.layout, header_leaf, descriptor, cut.path(descriptor.index)
        ).commitment
        for descriptor in cut.descriptors
    }
    assert found == {cut.commitment(header_leaf)}


def test_the_last_row_is_shared_by_all_fragments() -> None:
    """One byte more than full rows makes each fragment one byte longer."""
    full = Layout(bytes(32), 4 * UNIT_SIZE, 2, 3)
    assert full.fragment_size == 2 * UNIT_SIZE
    assert dataclasses.replace(full, envelope_size=4 * UNIT_SIZE + 1).fragment_size == (
        2 * UNIT_SIZE + 1
    )


@pytest.mark.parametrize(
    ("size", "k", "n"), [(0, 1, 1), (2**40 + 1, 1, 1), (5, 0, 1), (5, 2, 1), (5, 1, 256)]
)
def test_a_layout_outside_its_limits_is_not_made(size: int, k: int, n: int) -> None:
    """Mistakes are found where they are made."""
    with pytest.raises(FormatError, match="expected"):
        Layout(bytes(32), size, k, n)


@pytest.mark.parametrize(("index", "size"), [(-1, 1), (255, 1), (0, 0), (0, 2**40 + 1)])
def test_a_descriptor_outside_its_limits_is_not_made(index: int, size: int) -> None:
    """Mistakes are found where they are made."""
    with pytest.raises(FormatError, match="expected"):
        Descriptor(index, size, bytes(32))


def test_the_longest_claim_that_a_relay_reads_has_its_limit() -> None:
    """A promise that makes a claim too long is found before it is sent."""
    origin = Origin("x" * 60 + "." + "y" * 60 + "." + "z" * 60, "c" * 63)
    cut = Cut(
        Layout(bytes(32), 1, 1, 255), tuple(Descriptor(at, 1, bytes(32)) for at in range(255))
    )
    claim = Claim(origin, "x", cut.layout, bytes(32), cut.descriptors[0], cut.path(0))
    room = MAX_CLAIM_SIZE - len(claim.encode())
    longest = dataclasses.replace(claim, promise="x" * (1 + room - 2))
    assert len(longest.encode()) == MAX_CLAIM_SIZE
    assert Claim.decode(longest.encode()) == longest
    with pytest.raises(FormatError, match="claim: expected at most 4608 bytes, found 4609"):
        dataclasses.replace(claim, promise="x" * (1 + room - 1)).encode()
