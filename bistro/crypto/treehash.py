"""The tree hash of a byte string: the root of a Merkle tree over its pieces of 64 KiB.

Pieces can be hashed in any order, on any core, and one of them can be checked alone, with a path
as of any entry of a log. What two strings have in common in whole pieces is hashed once for both.
A hash in the making remembers a few complete subtrees, whatever the length.

Source: docs/spec/fragments.md, tree hash; RFC 9162, section 2.1.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from bistro.crypto.bulk import piece_leaves
from bistro.crypto.digest import EMPTY_ROOT, BytesLike, node_hash

PIECE_SIZE: Final = 65_536
"""Bytes of every piece but the last, which may have fewer."""

_FRESH: Final = 256
"""Leaves that wait until they are put into subtrees together, at a fraction of the cost."""

_AT_ONCE: Final = 64 * PIECE_SIZE
"""Bytes that are hashed in one call."""

_LEAF: Final = hashlib.sha256(b"\x00")
"""Begins every leaf; a copy of it takes the piece without joining the two in memory."""


def piece_leaf(piece: BytesLike) -> bytes:
    """The leaf hash of one piece: ``SHA-256(0x00 ‖ piece)``; releases the interpreter's lock."""
    return piece_leaves([piece])[0]


def tree_hash(data: BytesLike) -> bytes:
    """The tree hash of ``data``, 32 bytes."""
    if len(data) <= PIECE_SIZE and data:
        return piece_leaf(data)
    found = TreeHash()
    found.update(data)
    return found.digest()


class Leaves:
    """Neighbouring leaves of one tree, kept as their complete subtrees, leftmost first.

    Args:
        begin: Number of the first leaf. Runs that begin later are joined to those before them.
    """

    __slots__ = ("_end", "_fresh", "_nodes")

    def __init__(self, begin: int = 0) -> None:
        self._end = begin
        self._nodes: list[tuple[int, bytes]] = []
        self._fresh: list[bytes] = []
        """Leaves that follow those, in no subtree yet."""

    def append(self, leaf: bytes) -> None:
        """Put one more leaf hash to the right."""
        self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Put more leaf hashes to the right."""
        self._fresh += leaves
        if len(self._fresh) >= _FRESH:
            self._settle()

    def join(self, later: Leaves) -> None:
        """Put a run to the right that begins where this one ends."""
        self._settle()
        later._settle()
        for level, node in later._nodes:
            self._push(level, node)

    def copy(self) -> Leaves:
        """One that goes its own way from here."""
        found = Leaves(self._end)
        found._nodes = self._nodes.copy()
        found._fresh = self._fresh.copy()
        return found

    def root(self) -> bytes:
        """The root over these leaves, of which the first has the number 0."""
        self._settle()
        if not self._nodes:
            return EMPTY_ROOT
        *rest, (_, root) = self._nodes
        for _, left in reversed(rest):
            root = node_hash(left, root)
        return root

    def _settle(self) -> None:
        """Put the fresh leaves into subtrees."""
        fresh, self._fresh = self._fresh, []
        self._put(0, fresh)

    def _put(self, level: int, nodes: list[bytes]) -> None:
        """Put subtrees of ``2 ** level`` leaves to the right."""
        if nodes and self._end >> level & 1:
            self._push(level, nodes[0])
            nodes = nodes[1:]
        if len(nodes) > 1:
            pairs = zip(nodes[::2], nodes[1::2], strict=False)
            self._put(level + 1, [node_hash(left, right) for left, right in pairs])
            nodes = nodes[len(nodes) & ~1 :]
        for node in nodes:
            self._push(level, node)

    def _push(self, level: int, node: bytes) -> None:
        self._end += 1 << level
        nodes = self._nodes
        # Two subtrees of one size become one where that begins at a multiple of its size.
        while nodes and nodes[-1][0] == level and not self._end & ((2 << level) - 1):
            node = node_hash(nodes.pop()[1], node)
            level += 1
        nodes.append((level, node))


class TreeHash:
    """The tree hash of bytes that come one after another: used like one of ``hashlib``."""

    __slots__ = ("_leaves", "_piece", "_room")

    def __init__(self) -> None:
        self._leaves = Leaves()
        self._piece = _LEAF.copy()
        self._room = PIECE_SIZE

    def update(self, data: BytesLike) -> None:
        """Take the next bytes; releases the interpreter's lock for larger pieces."""
        view = memoryview(data)
        while view:
            if self._room == PIECE_SIZE <= len(view):
                whole = min(len(view), _AT_ONCE) // PIECE_SIZE * PIECE_SIZE
                pieces = [view[at : at + PIECE_SIZE] for at in range(0, whole, PIECE_SIZE)]
                self._leaves.extend(piece_leaves(pieces))
                view = view[whole:]
                continue
            taken = view[: self._room]
            self._piece.update(taken)
            self._room -= len(taken)
            view = view[len(taken) :]
            if not self._room:
                self._leaves.append(self._piece.digest())
                self._piece = _LEAF.copy()
                self._room = PIECE_SIZE

    def copy(self) -> TreeHash:
        """One that goes its own way from here."""
        found = TreeHash()
        found._leaves = self._leaves.copy()
        found._piece = self._piece.copy()
        found._room = self._room
        return found

    def digest(self) -> bytes:
        """The tree hash of what was taken so far; more may follow."""
        if self._room == PIECE_SIZE:
            return self._leaves.root()
        leaves = self._leaves.copy()
        leaves.append(self._piece.digest())
        return leaves.root()
