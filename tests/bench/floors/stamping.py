"""Tickets in memory, as fast as we know how: entries, leaf hashes, paths, texts.

Written for speed, not with our own Merkle tree: every node is encoded once, and the paths are
built from the root down, so that entries share the lines that they have in common.

The floor of ``ticket.bulk``, and what gives relays' benchmarks their tickets.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Sequence
from hashlib import sha256

Note = Callable[[int, bytes], bytes]
"""Makes the signed checkpoint of a size and root."""


def unsigned(origin: str) -> Note:
    """Checkpoints in full form with a constant in place of the signature."""
    signature = f"\n— {origin} ".encode() + b2a_base64(bytes(68))

    def note(size: int, root: bytes) -> bytes:
        return b"%b\n%d\n%b%b" % (origin.encode(), size, b2a_base64(root), signature)

    return note


class MemoryLog:
    """A log of tickets that remembers no more than it needs to grow.

    Args:
        origin: Of the call.
        note: Makes one checkpoint a batch.
    """

    def __init__(self, origin: str, note: Note) -> None:
        self.size = 0
        self._origin = origin
        self._note = note
        self._frontier: list[bytes] = []  # complete subtrees, the largest first

    def stamp(self, commitments: Sequence[bytes], time: int) -> list[str]:
        """The tickets of a batch, all with the same time and checkpoint."""
        head = f"bistro/ticket/v1\n{self._origin}\n{time}\nsha256:".encode()
        return self.append([b"%b%b\n" % (head, one.hex().encode()) for one in commitments])

    def append(self, entries: Sequence[bytes]) -> list[str]:
        """The proofs of a batch of entries."""
        index = self.size
        leaves = [sha256(b"\0" + entry).digest() for entry in entries]
        levels = self._grow(leaves)
        paths = _paths(levels)
        note = b"\n" + self._note(self.size, levels[-1][1][0])
        offset = index - levels[0][0]
        return [
            (
                b"c2sp.org/tlog-proof@v1\nextra %bindex %d\n%b%b"
                % (b2a_base64(entry), index + at, paths[offset + at], note)
            ).decode()
            for at, entry in enumerate(entries)
        ]

    def _grow(self, nodes: list[bytes]) -> list[tuple[int, list[bytes]]]:
        """Each level's known nodes with the offset of the first, leaves first, root last."""
        first, size = self.size, self.size + len(nodes)
        levels = []
        while True:
            if first & 1:
                # The left neighbour belongs to the old tree, where it is complete.
                nodes.insert(0, self._frontier.pop())
                first -= 1
            levels.append((first, nodes))
            if not first and len(nodes) == 1:
                break
            above = [
                sha256(b"\1" + left + right).digest()
                for left, right in zip(nodes[::2], nodes[1::2], strict=False)
            ]
            nodes = above + nodes[-1:] if len(nodes) & 1 else above
            first >>= 1
        self.size = size
        self._frontier = [
            nodes[(size >> level) - 1 - first]
            for level, (first, nodes) in reversed(list(enumerate(levels)))
            if size >> level & 1
        ]
        return levels


def _paths(levels: Sequence[tuple[int, list[bytes]]]) -> list[bytes]:
    """The lines from each known leaf to the root."""
    paths, above = [b""], levels[-1][0]
    for first, nodes in reversed(levels[:-1]):
        lines = [*map(b2a_base64, nodes), b""]  # no line for a sibling that is not there
        last = len(nodes) - 1
        paths = [
            lines[at ^ 1 if at ^ 1 <= last else -1] + paths[(first + at >> 1) - above]
            for at in range(len(nodes))
        ]
        above = first
    return paths
