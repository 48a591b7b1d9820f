"""Envelope to fragments and back."""

from __future__ import annotations

import itertools
import random  # noqa: TID251 - seeded in every test
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto.erasure import Coder
from bistro.crypto.treehash import tree_hash
from bistro.errors import FormatError
from bistro.protocol.fragmenting import (
    BULK_ROWS,
    RowCutter,
    StripeReader,
    StripeSums,
    fragment_size,
    last_unit_size,
)
from bistro.wire.fragment import UNIT_SIZE, Cut, Layout
from tests.support.vectors import Vector, each_vector
from tests.unit.protocol.builders import cut_of


def envelope_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def by_definition(envelope: bytes, *, k: int, n: int) -> list[bytes]:
    """Fragments as the specification says it, row by row, unit by unit."""
    fragments = [b""] * n
    for start in range(0, len(envelope), k * UNIT_SIZE):
        row = envelope[start : start + k * UNIT_SIZE]
        unit_size = UNIT_SIZE if len(row) == k * UNIT_SIZE else -(-len(row) // k)
        row = row.ljust(k * unit_size, b"\0")
        units = [row[j * unit_size : (j + 1) * unit_size] for j in range(k)]
        units += Coder(k, n).encode(units)
        fragments = [whole + unit for whole, unit in zip(fragments, units, strict=True)]
    return fragments


def summed(envelope: bytes, *, k: int, n: int, chunk_size: int) -> Cut:
    sums = StripeSums(k=k, n=n)
    for at in range(0, len(envelope), chunk_size):
        sums.feed(envelope[at : at + chunk_size])
    return sums.cut()


def join(fragments: dict[int, bytes], *, k: int, n: int, size: int) -> bytes:
    reader, at, envelope = StripeReader(k=k, n=n, envelope_size=size), 0, b""
    while step := reader.next_size:
        envelope += reader.feed({i: data[at : at + step] for i, data in fragments.items()})
        at += step
    return envelope


SIZES = [1, 2, 3, 4, 5, UNIT_SIZE - 1, UNIT_SIZE, UNIT_SIZE + 1]
SIZES += [2 * UNIT_SIZE - 1, 2 * UNIT_SIZE, 2 * UNIT_SIZE + 1, 3 * UNIT_SIZE, 6 * UNIT_SIZE + 7]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("k", "n"), [(1, 1), (1, 3), (2, 2), (2, 3), (3, 5)])
def test_any_k_fragments_restore_the_envelope(size: int, k: int, n: int) -> None:
    """At every edge of units and rows, with every choice of k fragments."""
    envelope = envelope_of(size)
    cut, fragments = cut_of(envelope, k=k, n=n)
    assert fragments == by_definition(envelope, k=k, n=n)
    assert [tree_hash(fragment) for fragment in fragments] == [
        one.fragment_hash for one in cut.descriptors
    ]
    assert {len(fragment) for fragment in fragments} == {fragment_size(size, k)}
    for chosen in itertools.combinations(range(n), k):
        assert join({i: fragments[i] for i in chosen}, k=k, n=n, size=size) == envelope


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("k", "n"), [(1, 1), (1, 3), (2, 2), (2, 3), (3, 5)])
def test_rows_may_be_cut_in_any_order(size: int, k: int, n: int) -> None:
    """From the last to the first row the units are those of the specification."""
    envelope = envelope_of(size)
    cutter = RowCutter(k=k, n=n)
    assert cutter.row_size == k * UNIT_SIZE
    fragments = [b""] * n
    for at in reversed(range(0, size, cutter.row_size)):
        units = cutter.cut(memoryview(envelope)[at : at + cutter.row_size])
        fragments = [bytes(unit) + rest for unit, rest in zip(units, fragments, strict=True)]
    assert fragments == by_definition(envelope, k=k, n=n)


@given(st.integers(1, 4 * UNIT_SIZE), st.integers(1, 300_000), st.integers(1, 4))
def test_chunks_of_any_size_give_the_same_sums(size: int, chunk_size: int, k: int) -> None:
    """Fragments depend on the envelope, never on how it was fed."""
    envelope = envelope_of(size)
    chunk_size = max(chunk_size, size // 50)
    whole = summed(envelope, k=k, n=k + 1, chunk_size=size)
    assert summed(envelope, k=k, n=k + 1, chunk_size=chunk_size) == whole


@given(st.integers(1, 2**40), st.integers(1, 255))
def test_fragment_sizes_are_those_of_the_layout(size: int, k: int) -> None:
    """One formula in two places has to stay one formula."""
    layout = Layout(envelope_hash=bytes(32), envelope_size=size, k=k, n=k)
    assert fragment_size(size, k) == layout.fragment_size
    assert 0 <= last_unit_size(size, k) <= UNIT_SIZE
    assert k * fragment_size(size, k) - size < k


@each_vector("striping", "valid")
def test_striping_vectors(vector: Vector) -> None:
    """What another implementation has to arrive at."""
    envelope = bytes(
        (index * vector["factor"] + index // 256) % 256 for index in range(vector["size"])
    )
    cut, _ = cut_of(envelope, k=vector["k"], n=vector["n"])
    assert cut.layout.encode() == vector.data
    assert cut.layout.envelope_hash.hex() == vector["envelope"]
    assert cut.layout.fragment_size == vector["fragment_size"]
    assert [d.fragment_hash.hex() for d in cut.descriptors] == vector["fragments"]
    assert cut.root.hex() == vector["root"]


def test_sums_are_those_of_the_bytes() -> None:
    """Descriptors and layout are taken while the bytes pass by."""
    envelope = envelope_of(5 * UNIT_SIZE + 3)
    cut, fragments = cut_of(envelope, k=2, n=3)
    assert cut.layout.envelope_hash == tree_hash(envelope)
    for descriptor, fragment in zip(cut.descriptors, fragments, strict=True):
        assert (descriptor.size, descriptor.fragment_hash) == (len(fragment), tree_hash(fragment))
    with pytest.raises(FormatError):
        StripeSums(k=1, n=1).cut()


def test_fragments_in_different_lengths_are_refused() -> None:
    """The driver reads them in step; anything else is a broken file."""
    reader = StripeReader(k=2, n=3, envelope_size=10)
    assert reader.next_size == 5
    with pytest.raises(FormatError, match="expected 2"):
        reader.feed({0: b"12345"})
    with pytest.raises(FormatError, match="fragment 2"):
        reader.feed({0: b"12345", 2: b"1234"})


def test_copies_are_not_copied() -> None:
    """For k = 1 the envelope's own bytes go on, nothing is computed."""
    row = memoryview(envelope_of(1_000))
    assert all(unit is row for unit in RowCutter(k=1, n=4).cut(row))


def test_memory_does_not_grow_with_the_envelope() -> None:
    """A filing is never held whole, neither going out nor coming in."""
    row_size = 2 * UNIT_SIZE
    chunk = envelope_of(4 * row_size)
    sums, reader = StripeSums(k=2, n=3), StripeReader(k=2, n=3, envelope_size=2**40)
    piece = envelope_of(BULK_ROWS * UNIT_SIZE)
    tracemalloc.start()
    for _ in range(40):
        sums.feed(chunk)
        assert reader.next_size == len(piece)
        reader.feed({0: piece, 2: piece})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * 1024 * 1024
