"""Merkle trees, computed without the code that is under test.

Source: RFC 9162, section 2.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence


def leaf(entry: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\0" + entry).digest()


def roots_at(leaves: Sequence[bytes], sizes: Iterable[int]) -> dict[int, bytes]:
    """The root of the first leaves, for each of these sizes."""
    stack: list[tuple[int, bytes]] = []
    roots, at = {}, 0
    for size in sorted(set(sizes)):
        for one in leaves[at:size]:
            height, node = 0, one
            while stack and stack[-1][0] == height:
                node = hashlib.sha256(b"\1" + stack.pop()[1] + node).digest()
                height += 1
            stack.append((height, node))
        at = size
        roots[size] = _folded([node for _, node in stack])
    return roots


def _folded(nodes: Sequence[bytes]) -> bytes:
    if not nodes:
        return hashlib.sha256().digest()
    root = nodes[-1]
    for node in nodes[-2::-1]:
        root = hashlib.sha256(b"\1" + node + root).digest()
    return root
