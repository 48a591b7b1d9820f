"""The tree hash: as defined, however the bytes come, and in whatever order pieces are hashed."""

from __future__ import annotations

import random  # noqa: TID251 - seeded in every test
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto import bulk_python, merkle
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


@given(st.integers(1, 1_100), st.data())
def test_runs_of_leaves_join_to_the_same_root(count: int, data: st.DataObject) -> None:
    """What is hashed last may stand first: runs are joined when all is there."""
    leaves = leaves_of(count)
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=5)))
    runs = []
    for begin, end in zip([0, *cuts], [*cuts, count], strict=True):
        run = Leaves(begin)
        alone = min(data.draw(st.integers(0, 3)), end - begin)
        for leaf in leaves[begin : begin + alone]:
            run.append(leaf)
        run.extend(leaves[begin + alone : end])
        runs.append(run)
    while len(runs) > 1:
        # Neighbours are joined in any order.
        at = data.draw(st.integers(0, len(runs) - 2))
        runs[at].join(runs.pop(at + 1))
    assert runs[0].root() == merkle.root_of(leaves)


@pytest.fixture(params=["c", "python"])
def functions(request: pytest.FixtureRequest) -> ModuleType:
    return bulk_python if request.param == "python" else pytest.importorskip("bistro.crypto._bulk")


def test_many_pieces_are_hashed_in_one_call(functions: ModuleType) -> None:
    """Whatever holds their bytes, and at most as many as a row can have units."""
    pieces = [random.Random(size).randbytes(size) for size in (0, 1, 55, 56, 64, 65_536, 70_000)]
    found = list(map(leaf_hash, pieces))
    assert functions.piece_leaves([]) == []
    assert functions.piece_leaves(pieces) == functions.piece_leaves(tuple(pieces)) == found
    held = [memoryview(bytearray(b"-" + piece))[1:] for piece in pieces]
    assert functions.piece_leaves(held) == found
    assert functions.piece_leaves([b"a"] * 255) == [leaf_hash(b"a")] * 255
    with pytest.raises(ValueError, match="at most 255 pieces, found 256"):
        functions.piece_leaves([b"a"] * 256)


def test_what_are_no_pieces_is_refused(functions: ModuleType) -> None:
    """And nothing is held back afterwards."""
    piece = bytearray(9)
    for wrong in (None, 1, "text", memoryview(bytes(9))[::2]):
        with pytest.raises((TypeError, BufferError)):
            functions.piece_leaves([piece, wrong])
    with pytest.raises(TypeError):
        functions.piece_leaves(7)
    functions.piece_leaves([piece])
    piece.append(1)


def test_several_threads_hash_the_same_pieces(functions: ModuleType) -> None:
    """None waits for the other, and none sees what the other does."""
    piece = bytearray(1 << 20)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(functions.piece_leaves, [piece] * 8) for _ in range(4)]
        assert {leaf for future in futures for leaf in future.result()} == {leaf_hash(piece)}


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
        assert len(run._fresh) < 256
    assert len(run._nodes) < 14
    assert run.root() == merkle.root_of(leaves_of(10_000))
    assert len(run._nodes) == (10_000).bit_count()
