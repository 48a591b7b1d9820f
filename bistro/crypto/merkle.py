"""Merkle trees as of RFC 9162: roots, proofs and their verification.

A tree is described by *complete subtrees*: the one at ``(level, offset)`` covers the ``2**level``
leaves from ``offset << level`` on, and never changes once those leaves exist. So a log keeps
them, a ``Frontier`` is the few that a tree's root depends on, and every proof is computed from
them alone. The whole tree is never in memory.

Source: docs/spec/promises.md; RFC 9162, section 2.1; C2SP tlog-tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bistro.crypto.bulk import tree_levels
from bistro.crypto.digest import EMPTY_ROOT, HASH_SIZE, node_hash
from bistro.errors import UnknownObjectError, VerificationError

Coordinate = tuple[int, int]
"""Level and offset of a complete subtree."""

Node = Callable[[int, int], bytes]
"""Looks up the hash of the complete subtree at ``(level, offset)``."""


def _fold(hashes: Sequence[bytes]) -> bytes:
    """The root over neighbouring complete subtrees, the largest (leftmost) first."""
    root = hashes[-1]
    for left in hashes[-2::-1]:
        root = node_hash(left, root)
    return root


def _complete_subtrees(begin: int, end: int) -> tuple[Coordinate, ...]:
    """The complete subtrees of leaves ``begin`` to ``end``, leftmost first.

    ``begin`` is a multiple of every power of two up to the length, as it is wherever RFC 9162
    splits a tree; then the subtrees' sizes are the bits of the length.
    """
    found: list[Coordinate] = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        found.append((level, begin >> level))
        begin += 1 << level
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Frontier:
    """What a tree must remember to grow: its complete subtrees, the largest first.

    Attributes:
        size: Number of leaves.
        nodes: One hash for every bit set in ``size``.
    """

    size: int
    nodes: tuple[bytes, ...]

    def __post_init__(self) -> None:
        """Refuse a frontier that no tree has."""
        if self.size < 0 or len(self.nodes) != self.size.bit_count():
            raise VerificationError(f"frontier of {self.size} leaves with {len(self.nodes)} nodes")
        _require_hashes("frontier", self.nodes)

    @classmethod
    def empty(cls) -> Frontier:
        """The frontier of a tree without leaves."""
        return cls(0, ())

    @classmethod
    def of(cls, size: int, node: Node) -> Frontier:
        """The frontier of the first ``size`` leaves of a stored tree."""
        return cls(size, tuple(node(*at) for at in _complete_subtrees(0, size)))

    def root(self) -> bytes:
        """The root hash of the tree."""
        return _fold(self.nodes) if self.nodes else EMPTY_ROOT

    def extend(self, leaf_hashes: Sequence[bytes]) -> Frontier:
        """The frontier after ``leaf_hashes`` were appended."""
        return BatchTree(self, leaf_hashes).frontier


class BatchTree:
    """A tree right after a batch was appended: knows its frontier and the new leaves only.

    Args:
        frontier: The tree before the batch.
        leaf_hashes: The new leaves' hashes, in order.

    Attributes:
        size: Number of leaves with the batch.
        root: Root hash with the batch.
        frontier: The frontier to start the next batch from.
        levels: For every level, lowest first, the offset of the first known node, and the nodes
            from there to the right edge.
    """

    def __init__(self, frontier: Frontier, leaf_hashes: Sequence[bytes]) -> None:
        _require_hashes("batch", leaf_hashes)
        self._old_size = frontier.size
        self.size = frontier.size + len(leaf_hashes)
        self.levels = tree_levels(frontier.size, list(frontier.nodes), list(leaf_hashes))
        # The last complete subtree of a level may have no right neighbour.
        kept = [
            nodes[(self.size >> level) - 1 - first]
            for level, (first, nodes) in enumerate(self.levels)
            if self.size >> level & 1
        ]
        self.frontier = Frontier(self.size, tuple(reversed(kept)))
        # The highest level is the root; its last node, where nodes have moved up.
        highest = self.levels[-1][1]
        self.root = highest[0] if highest else EMPTY_ROOT

    def inclusion_path(self, index: int) -> tuple[bytes, ...]:
        """The inclusion path of a leaf of this batch, lowest sibling first.

        Raises:
            UnknownObjectError: ``index`` is not one of this batch's leaves.
        """
        if not self._old_size <= index < self.size:
            raise UnknownObjectError(
                f"entry {index} is not among the new entries {self._old_size} to {self.size - 1}"
            )
        path: list[bytes] = []
        for level, (first, nodes) in enumerate(self.levels):
            sibling = ((index >> level) ^ 1) - first
            if 0 <= sibling < len(nodes):
                path.append(nodes[sibling])
        return tuple(path)

    def completed_at(self, level: int) -> list[bytes]:
        """Hashes of the subtrees of one level that this batch completed, leftmost first."""
        if level >= len(self.levels):
            return []
        first, nodes = self.levels[level]
        return nodes[(self._old_size >> level) - first : (self.size >> level) - first]

    def completed(self) -> Iterator[tuple[int, int, bytes]]:
        """Level, offset and hash of every subtree that this batch completed, leaves included."""
        for level, (first, nodes) in enumerate(self.levels):
            for offset in range(self._old_size >> level, self.size >> level):
                yield level, offset, nodes[offset - first]


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root of a tree whose leaves are all at hand."""
    return BatchTree(Frontier.empty(), leaf_hashes).root


def inclusion_path(leaf_hashes: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The inclusion path of leaf ``index`` of a tree whose leaves are all at hand."""
    return BatchTree(Frontier.empty(), leaf_hashes).inclusion_path(index)


def consistency_path(leaf_hashes: Sequence[bytes], old_size: int) -> tuple[bytes, ...]:
    """The path from the first ``old_size`` leaves to all of them."""
    tree = BatchTree(Frontier.empty(), leaf_hashes)
    known = {(level, offset): value for level, offset, value in tree.completed()}
    return prove_consistency(old_size, tree.size, lambda level, offset: known[level, offset])


def inclusion_nodes(index: int, size: int) -> tuple[tuple[Coordinate, ...], ...]:
    """The plan of an inclusion path: each element as the complete subtrees it is folded from.

    Raises:
        UnknownObjectError: A tree of ``size`` entries has no entry ``index``.
    """
    if not 0 <= index < size:
        raise UnknownObjectError(f"no entry {index} in a tree of {size} entries")
    plan: list[tuple[Coordinate, ...]] = []
    for level in range((size - 1).bit_length()):
        begin = ((index >> level) ^ 1) << level
        if begin < size:
            plan.append(_complete_subtrees(begin, min(begin + (1 << level), size)))
    return tuple(plan)


def consistency_nodes(old_size: int, size: int) -> tuple[tuple[Coordinate, ...], ...]:
    """The plan of a consistency path; empty where nothing needs proof.

    Nothing needs proof from an empty tree, or between equal sizes.

    Raises:
        UnknownObjectError: ``old_size`` is not a size that this tree had.
    """
    if not 0 <= old_size <= size:
        raise UnknownObjectError(f"a tree of {size} entries never had {old_size}")
    if old_size in {0, size}:
        return ()
    plan: list[tuple[Coordinate, ...]] = []
    begin, end = 0, size
    while end != old_size:
        split = begin + (1 << ((end - begin - 1).bit_length() - 1))
        if old_size <= split:
            plan.append(_complete_subtrees(split, end))
            end = split
        else:
            plan.append(_complete_subtrees(begin, split))
            begin = split
    if begin > 0:
        # The verifier knows the old root, but not this last part of the old tree.
        plan.append(_complete_subtrees(begin, end))
    return tuple(reversed(plan))


def prove_inclusion(index: int, size: int, node: Node) -> tuple[bytes, ...]:
    """The inclusion path of entry ``index`` of a tree of ``size``, from stored subtrees."""
    return tuple(_fold([node(*at) for at in group]) for group in inclusion_nodes(index, size))


def prove_consistency(old_size: int, size: int, node: Node) -> tuple[bytes, ...]:
    """The consistency path between two sizes of a tree, from stored subtrees."""
    return tuple(_fold([node(*at) for at in group]) for group in consistency_nodes(old_size, size))


def _require_hashes(what: str, hashes: Sequence[bytes]) -> None:
    for size in set(map(len, hashes)) - {HASH_SIZE}:
        raise VerificationError(f"{what}: expected hashes of {HASH_SIZE} bytes, found {size}")


def root_from_path(*, leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that an inclusion path leads to.

    Args:
        leaf: The leaf hash.
        index: Position of the leaf, from 0.
        size: Number of leaves of the tree.
        path: Sibling hashes, lowest first.

    Raises:
        VerificationError: No tree of ``size`` has a path of this length for ``index``.

    Source: RFC 9162, section 2.1.3.2.
    """
    if not 0 <= index < size:
        raise VerificationError(f"inclusion proof: no entry {index} in a tree of {size} entries")
    _require_hashes("inclusion proof", [leaf, *path])
    siblings = iter(path)
    root, last = leaf, size - 1
    expected_count = 0
    while last > 0:
        if index & 1 or index < last:
            expected_count += 1
            sibling = next(siblings, None)
            if sibling is not None:
                root = node_hash(sibling, root) if index & 1 else node_hash(root, sibling)
        index, last = index >> 1, last >> 1
    if len(path) != expected_count:
        raise VerificationError(
            f"inclusion proof: expected {expected_count} hashes, found {len(path)}"
        )
    return root


def verify_inclusion(
    *, leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes
) -> None:
    """Check that ``leaf`` is entry ``index`` of the tree of ``size`` entries with this root.

    Raises:
        VerificationError: The path is too short, too long or leads elsewhere.
    """
    found = root_from_path(leaf=leaf, index=index, size=size, path=path)
    if found != root:
        raise VerificationError(f"inclusion proof: expected root {root.hex()}, found {found.hex()}")


def verify_consistency(
    *, old_size: int, old_root: bytes, size: int, root: bytes, path: Sequence[bytes]
) -> None:
    """Check that a tree of ``size`` begins with the ``old_size`` entries of an older one.

    Raises:
        VerificationError: The path is too short, too long or leads elsewhere, the tree shrank, or
            the older tree is empty and its root is not the empty tree's.

    Source: RFC 9162, section 2.1.4.2.
    """
    if not 0 <= old_size <= size:
        raise VerificationError(f"consistency proof: from {old_size} to {size} entries")
    _require_hashes("consistency proof", [old_root, root, *path])
    if old_size in {0, size}:
        known = EMPTY_ROOT if old_size == 0 else root
        if path:
            raise VerificationError(f"consistency proof: expected no hashes, found {len(path)}")
        if old_root != known:
            raise VerificationError(
                f"consistency proof: expected old root {known.hex()}, found {old_root.hex()}"
            )
        return
    old_found, found = _roots_from_path(old_size, old_root, size, path)
    if (old_found, found) != (old_root, root):
        raise VerificationError(
            f"consistency proof: expected roots {old_root.hex()} and {root.hex()}, "
            f"found {old_found.hex()} and {found.hex()}"
        )


def _roots_from_path(
    old_size: int, old_root: bytes, size: int, path: Sequence[bytes]
) -> tuple[bytes, bytes]:
    """The old and the new root that a consistency path leads to; ``0 < old_size < size``."""
    expected_count = len(consistency_nodes(old_size, size))
    if len(path) != expected_count:
        raise VerificationError(
            f"consistency proof: expected {expected_count} hashes, found {len(path)}"
        )
    # Start at the last complete subtree of the old tree. Where it is the whole old tree the
    # verifier knows it already, else the path begins with it.
    old_last, last = old_size - 1, size - 1
    while old_last & 1:
        old_last, last = old_last >> 1, last >> 1
    old_found, *siblings = [old_root, *path] if old_last == 0 else path
    found = old_found
    for sibling in siblings:
        # Skip the levels where the old tree's last node has no sibling in either tree.
        while not old_last & 1 and old_last == last:
            old_last, last = old_last >> 1, last >> 1
        if old_last & 1:
            old_found, found = node_hash(sibling, old_found), node_hash(sibling, found)
        else:
            found = node_hash(found, sibling)
        old_last, last = old_last >> 1, last >> 1
    return old_found, found
