"""Merkle trees against RFC 9162's recursive definitions, and against every way to lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto import merkle
from bistro.crypto.digest import EMPTY_ROOT, leaf_hash, node_hash
from bistro.crypto.merkle import BatchTree, Frontier
from bistro.errors import UnknownObjectError, VerificationError
from tests.support.vectors import Vector, each_vector

LEAVES = [leaf_hash(str(index).encode()) for index in range(300)]
SIZES = st.integers(0, len(LEAVES))


def split(count: int) -> int:
    """The largest power of two below ``count``."""
    power = 1
    while power * 2 < count:
        power *= 2
    return power


def defined_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, word by word."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return node_hash(defined_root(leaves[:k]), defined_root(leaves[k:]))


def defined_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """RFC 9162, section 2.1.3.1, word by word."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*defined_path(index, leaves[:k]), defined_root(leaves[k:])]
    return [*defined_path(index - k, leaves[k:]), defined_root(leaves[:k])]


def defined_proof(old_size: int, leaves: Sequence[bytes], *, is_known: bool = True) -> list[bytes]:
    """RFC 9162, section 2.1.4.1, word by word; ``old_size`` is not 0."""
    if old_size == len(leaves):
        return [] if is_known else [defined_root(leaves)]
    k = split(len(leaves))
    if old_size <= k:
        inner = defined_proof(old_size, leaves[:k], is_known=is_known)
        return [*inner, defined_root(leaves[k:])]
    return [*defined_proof(old_size - k, leaves[k:], is_known=False), defined_root(leaves[:k])]


def stored(leaves: Sequence[bytes]) -> Callable[[int, int], bytes]:
    """A store that has complete subtrees only, as a log's tiles do."""

    def node(level: int, offset: int) -> bytes:
        begin, end = offset << level, (offset + 1) << level
        assert end <= len(leaves), "an incomplete subtree was asked for"
        return defined_root(leaves[begin:end])

    return node


# --- vectors


def entries_of(data: bytes) -> list[bytes]:
    entries = []
    while data:
        entries.append(data[1 : 1 + data[0]])
        data = data[1 + data[0] :]
    return entries


def hashes(texts: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


def check(vector: Vector) -> None:
    if vector["check"] == "root":
        assert merkle.root_of([leaf_hash(e) for e in entries_of(vector.data)]) == vector.hex("root")
    elif vector["check"] == "inclusion":
        merkle.verify_inclusion(
            leaf=leaf_hash(vector.data),
            index=vector["index"],
            size=vector["size"],
            path=hashes(vector["path"]),
            root=vector.hex("root"),
        )
    else:
        merkle.verify_consistency(
            old_size=vector["old_size"],
            old_root=vector.hex("old_root"),
            size=vector["size"],
            root=vector.hex("root"),
            path=[vector.data[at : at + 32] for at in range(0, len(vector.data), 32)],
        )


@each_vector("merkle", "valid")
def test_published_trees_and_proofs_hold(vector: Vector) -> None:
    """The roots are those of the certificate-transparency reference tree."""
    check(vector)


@each_vector("merkle", "invalid")
def test_false_proofs_are_refused(vector: Vector) -> None:
    """Each with the code that the vector names."""
    with pytest.raises(VerificationError) as caught:
        check(vector)
    assert caught.value.code == vector.code


# --- the definitions


@pytest.mark.parametrize("size", range(1, 34))
def test_small_trees_are_as_defined(size: int) -> None:
    """Roots, inclusion paths and consistency paths of every small tree, each verified."""
    leaves = LEAVES[:size]
    root = merkle.root_of(leaves)
    assert root == defined_root(leaves)
    for index in range(size):
        path = merkle.inclusion_path(leaves, index)
        assert list(path) == defined_path(index, leaves)
        assert merkle.prove_inclusion(index, size, stored(leaves)) == path
        merkle.verify_inclusion(leaf=leaves[index], index=index, size=size, path=path, root=root)
    for old_size in range(1, size + 1):
        path = merkle.consistency_path(leaves, old_size)
        old_root = defined_root(leaves[:old_size])
        assert list(path) == defined_proof(old_size, leaves)
        merkle.verify_consistency(
            old_size=old_size, old_root=old_root, size=size, root=root, path=path
        )


@given(old_size=SIZES, added=SIZES)
def test_a_batch_knows_what_the_whole_tree_knows(old_size: int, added: int) -> None:
    """Root, frontier and paths of new leaves need the old frontier only, whatever the sizes."""
    size = min(old_size + added, len(LEAVES))
    leaves = LEAVES[:size]
    frontier = Frontier.empty().extend(LEAVES[:old_size])
    assert frontier == Frontier.of(old_size, stored(leaves))
    assert frontier.root() == defined_root(LEAVES[:old_size])
    tree = BatchTree(frontier, LEAVES[old_size:size])
    assert (tree.size, tree.root) == (size, defined_root(leaves))
    assert tree.frontier == Frontier.of(size, stored(leaves))
    assert tree.frontier.root() == tree.root
    for index in {old_size, (old_size + size) // 2, size - 1} & set(range(old_size, size)):
        assert list(tree.inclusion_path(index)) == defined_path(index, leaves)


@given(cuts=st.lists(SIZES, max_size=6))
def test_batches_complete_every_subtree_once(cuts: list[int]) -> None:
    """What batches complete is what a log stores: each complete subtree, once, with its hash."""
    sizes = [*sorted(cuts), len(LEAVES)]
    frontier = Frontier.empty()
    seen: dict[tuple[int, int], bytes] = {}
    for size in sizes:
        tree = BatchTree(frontier, LEAVES[frontier.size : size])
        for level, offset, value in tree.completed():
            assert (level, offset) not in seen
            seen[level, offset] = value
        frontier = tree.frontier
    node = stored(LEAVES)
    expected = {(level, offset) for level in range(9) for offset in range(len(LEAVES) >> level)}
    assert set(seen) == expected
    assert all(value == node(*at) for at, value in seen.items() if at[0] > 5 or at[1] < 3)


@given(size=st.integers(1, len(LEAVES)), data=st.data())
def test_proofs_from_stored_subtrees_hold(size: int, data: st.DataObject) -> None:
    """A log proves any entry and any older size from its tiles."""
    leaves = LEAVES[:size]
    root = defined_root(leaves)
    index = data.draw(st.integers(0, size - 1))
    path = merkle.prove_inclusion(index, size, stored(leaves))
    assert list(path) == defined_path(index, leaves)
    merkle.verify_inclusion(leaf=leaves[index], index=index, size=size, path=path, root=root)
    old_size = data.draw(st.integers(1, size))
    proof = merkle.prove_consistency(old_size, size, stored(leaves))
    assert list(proof) == defined_proof(old_size, leaves)
    old_root = defined_root(leaves[:old_size])
    merkle.verify_consistency(
        old_size=old_size, old_root=old_root, size=size, root=root, path=proof
    )


@given(size=st.integers(1, 2**63), data=st.data())
def test_plans_name_complete_subtrees_only(size: int, data: st.DataObject) -> None:
    """Also in the largest trees: a plan is short, and asks for nothing that can still change."""
    index = data.draw(st.integers(0, size - 1))
    plans = [
        merkle.inclusion_nodes(index, size),
        merkle.consistency_nodes(index, size),
    ]
    for plan in plans:
        assert len(plan) <= 64
        for group in plan:
            assert group
            assert all((offset + 1) << level <= size for level, offset in group)


# --- lies


@given(size=st.integers(2, 64), data=st.data())
def test_a_path_proves_one_entry_at_one_place(size: int, data: st.DataObject) -> None:
    """Any other leaf or root, and any other path, is refused, and so is another place."""
    leaves = LEAVES[:size]
    root = defined_root(leaves)
    index = data.draw(st.integers(0, size - 1))
    path = defined_path(index, leaves)
    at = data.draw(st.integers(0, len(path) - 1))
    lies: list[tuple[bytes, int, list[bytes], bytes]] = [
        (LEAVES[-1], index, path, root),
        (leaves[index], index, path, LEAVES[-1]),
        (leaves[index], index, [*path[:at], LEAVES[-1], *path[at + 1 :]], root),
        (leaves[index], index, [*path[:at], *path[at + 1 :]], root),
        (leaves[index], index, [*path, LEAVES[-1]], root),
        (leaves[index], index ^ (1 << at), path, root),
        (leaves[index], size, path, root),
    ]
    for leaf, place, siblings, top in lies:
        with pytest.raises(VerificationError):
            merkle.verify_inclusion(leaf=leaf, index=place, size=size, path=siblings, root=top)


@given(size=st.integers(2, 64), data=st.data())
def test_a_consistency_path_joins_two_trees_only(size: int, data: st.DataObject) -> None:
    """Two roots that are not prefix and tree are refused with any path made from the true one."""
    leaves = LEAVES[:size]
    root = defined_root(leaves)
    old_size = data.draw(st.integers(1, size - 1))
    old_root = defined_root(leaves[:old_size])
    path = defined_proof(old_size, leaves)
    at = data.draw(st.integers(0, len(path) - 1))
    lies: list[tuple[bytes, bytes, list[bytes]]] = [
        (LEAVES[-1], root, path),
        (old_root, LEAVES[-1], path),
        (old_root, root, [*path[:at], LEAVES[-1], *path[at + 1 :]]),
        (old_root, root, [*path[:at], *path[at + 1 :]]),
        (old_root, root, [*path, LEAVES[-1]]),
        (old_root[:31], root, path),
    ]
    for old, new, siblings in lies:
        with pytest.raises(VerificationError):
            merkle.verify_consistency(
                old_size=old_size, old_root=old, size=size, root=new, path=siblings
            )


# --- edges


def test_a_tree_without_entries_has_a_root_and_no_entry() -> None:
    """Nothing can be proven to be in it, and any tree begins with it."""
    tree = BatchTree(Frontier.empty(), [])
    assert (tree.size, tree.root) == (0, EMPTY_ROOT)
    assert list(tree.completed()) == []
    assert merkle.consistency_path(LEAVES[:5], 0) == ()
    for prove in (tree.inclusion_path, lambda index: merkle.inclusion_nodes(index, 0)):
        with pytest.raises(UnknownObjectError):
            prove(0)


def test_a_batch_proves_its_own_leaves_only() -> None:
    """Proofs of older leaves need the log's tiles."""
    tree = BatchTree(Frontier.empty().extend(LEAVES[:5]), LEAVES[5:8])
    for index in (-1, 4, 8):
        with pytest.raises(UnknownObjectError):
            tree.inclusion_path(index)


@pytest.mark.parametrize("old_size", [-1, 9])
def test_a_size_that_a_tree_never_had_has_no_proof(old_size: int) -> None:
    """A checkpoint from a longer tree is an error of whoever asks."""
    with pytest.raises(UnknownObjectError):
        merkle.consistency_nodes(old_size, 8)


@pytest.mark.parametrize(
    ("size", "nodes"), [(-1, ()), (1, ()), (2, (LEAVES[0], LEAVES[1])), (1, (b"short",))]
)
def test_a_damaged_frontier_is_refused(size: int, nodes: tuple[bytes, ...]) -> None:
    """A frontier read from disk has one hash of 32 bytes for each bit of its size."""
    with pytest.raises(VerificationError):
        Frontier(size, nodes)


def test_a_leaf_hash_has_32_bytes() -> None:
    """An entry passed in place of its hash is noticed."""
    with pytest.raises(VerificationError):
        merkle.root_of([LEAVES[0], b"an entry"])
