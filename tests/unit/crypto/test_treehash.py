"""The tree hash: as defined, however the bytes come, and in whatever order pieces are hashed."""

from __future__ import annotations

import random  # noqa: TID251 - seeded in every test
import sys

from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto import merkle
from bistro.crypto.digest import EMPTY_ROOT, leaf_hash, sha256
from bistro.crypto.treehash import PIECE_SIZE, Leaves, TreeHash, piece_leaf, tree_hash
from tests.support.vectors import Vector, each_vector


def leaves_of(count: int) -> list[bytes]:
    return [leaf_hash(number.to_bytes(4, "big")) for number in range(count)]


@each_vector("tree-hash", "valid")
def test_tree_hashes_are_as_published(vector: Vector) -> None:
    """What another implementation has to arrive at; at once, and byte by byte at the edges."""
    data = bytes((at * vector["factor"] + at // 256) % 256 for at in range(vector["size"]))
    assert tree_hash(data) == vector.data
    assert tree_hash(memoryview(bytearray(data))) == vector.data
    found = TreeHash()
    for at in range(0, len(data), PIECE_SIZE - 1):
        found.update(data[at : at + PIECE_SIZE - 1])
    assert found.digest() == vector.data


def test_a_short_string_is_one_leaf_and_nothing_is_the_empty_tree() -> None:
    """Neither is the SHA-256 of the bytes."""
    assert (
        tree_hash(b"hello") == sha256(b"\x00hello") == leaf_hash(b"hello") == piece_leaf(b"hello")
    )
    assert tree_hash(b"") == TreeHash().digest() == EMPTY_ROOT


@given(st.integers(0, 5 * PIECE_SIZE), st.lists(st.integers(0, 3 * PIECE_SIZE), max_size=8))
def test_it_does_not_matter_how_the_bytes_come(size: int, cuts: list[int]) -> None:
    """In pieces of any size, asked in between, and continued from a copy."""
    data = random.Random(size).randbytes(size)
    found, at = TreeHash(), 0
    for cut in [*cuts, size]:
        kept = found.copy()
        found.update(b"something else")
        found = kept
        found.update(data[at : at + cut])
        at = min(size, at + cut)
        assert found.digest() == tree_hash(data[:at])
    assert at == size


@given(st.integers(1, 300), st.data())
def test_runs_of_leaves_join_to_the_same_root(count: int, data: st.DataObject) -> None:
    """What is hashed last may stand first: runs are joined when all is there."""
    leaves = leaves_of(count)
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=5)))
    runs = []
    for begin, end in zip([0, *cuts], [*cuts, count], strict=True):
        run = Leaves(begin)
        for leaf in leaves[begin:end]:
            run.append(leaf)
        runs.append(run)
    while len(runs) > 1:
        # Neighbours are joined in any order.
        at = data.draw(st.integers(0, len(runs) - 2))
        runs[at].join(runs.pop(at + 1))
    assert runs[0].root() == merkle.root_of(leaves)


def test_one_piece_can_be_checked_alone() -> None:
    """With a path, as an entry of a log: what an auditor would need."""
    data = random.Random(1).randbytes(5 * PIECE_SIZE + 1)
    leaves = [piece_leaf(data[at : at + PIECE_SIZE]) for at in range(0, len(data), PIECE_SIZE)]
    for index in range(6):
        piece = data[index * PIECE_SIZE : (index + 1) * PIECE_SIZE]
        merkle.verify_inclusion(
            leaf=piece_leaf(piece),
            index=index,
            size=6,
            path=merkle.inclusion_path(leaves, index),
            root=tree_hash(data),
        )


def test_a_hash_in_the_making_stays_small() -> None:
    """A terabyte has sixteen million pieces; what is remembered is a path."""
    run = Leaves()
    for leaf in leaves_of(10_000):
        run.append(leaf)
    assert len(run._nodes) == (10_000).bit_count()
    assert sys.getsizeof(run._nodes) < 1_000
