"""The tree hash of a byte string: the root of a Merkle tree over its pieces of 64 KiB.

Pieces can be hashed in any order, on any core, and one of them can be checked alone, with a path
as of any entry of a log. What two strings have in common in whole pieces is hashed once for both.
A hash in the making remembers a few complete subtrees, whatever the length.

Source: docs/spec/fragments.md, tree hash; RFC 9162, section 2.1.1.
"""

from __future__ import annotations

import hashlib
from typing import Final

from bistro.crypto.digest import EMPTY_ROOT, BytesLike, node_hash

PIECE_SIZE: Final = 65_536
"""Bytes of every piece but the last, which may have fewer."""

_LEAF: Final = hashlib.sha256(b"\x00")
"""Begins every leaf; a copy of it takes the piece without joining the two in memory."""


def piece_leaf(piece: BytesLike) -> bytes:
    """The leaf hash of one piece: ``SHA-256(0x00 ‖ piece)``; releases the interpreter's lock."""
    digest = _LEAF.copy()
    digest.update(piece)
    return digest.digest()


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

    __slots__ = ("_end", "_nodes")

    def __init__(self, begin: int = 0) -> None:
        self._end = begin
        self._nodes: list[tuple[int, bytes]] = []

    def append(self, leaf: bytes) -> None:
        """Put one more leaf hash to the right."""
        self._push(0, leaf)

    def join(self, later: Leaves) -> None:
        """Put a run to the right that begins where this one ends."""
        for level, node in later._nodes:
            self._push(level, node)

    def copy(self) -> Leaves:
        """One that goes its own way from here."""
        found = Leaves(self._end)
        found._nodes = self._nodes.copy()
        return found

    def root(self) -> bytes:
        """The root over these leaves, of which the first has the number 0."""
        if not self._nodes:
            return EMPTY_ROOT
        *rest, (_, root) = self._nodes
        for _, left in reversed(rest):
            root = node_hash(left, root)
        return root

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
