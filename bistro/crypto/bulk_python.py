"""The functions of ``bistro.crypto.bulk`` in Python, for where they were not compiled.

Source: docs/decisions/0024-a-few-functions-in-c.md.
"""

from __future__ import annotations

import struct
from binascii import b2a_base64, hexlify
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Final

from bistro.crypto.digest import BytesLike

_FEW: Final = 8
"""Of a larger batch than so many times what is wanted, not all paths are spelled."""

_KEYED: Final = 16
_LEAF: Final = sha256(b"\x00")
"""Begins every leaf; a copy of it takes a piece without joining the two in memory."""
_LEAST: Final = 7
_MOST_PIECES: Final = 255
_WORD_BITS: Final = 32

_Levels = list[tuple[int, list[bytes]]]


def add_prints(buckets: list[bytes], digests: bytes, width: int, bits: int, /) -> None:
    """Add the fingerprint of each digest, its bytes 4 to 6, to its bucket, its first bits.

    Args:
        buckets: 2 to the power of ``bits``.
        digests: Joined; each of ``width`` bytes, at least 7.
        width: As said.
        bits: As said, at most 32.
    """
    for word, fingerprint in _prints(digests, width, bits):
        buckets[word >> (_WORD_BITS - bits)] += fingerprint


def cut_alike(texts: list[bytes], head: bytes, size: int, /) -> tuple[list[bytes], bytes] | None:
    """What stands in each text behind ``head``, ``size`` bytes, and the rest that all share.

    ``None`` where one begins or ends otherwise, is too short, or there is none.
    """
    begin, end = len(head), len(head) + size
    rests = {text[end:] for text in texts}
    if size < 0 or {text[:begin] for text in texts} != {head} or len(rests) != 1:
        return None
    if min(map(len, texts)) < end:
        return None
    return [text[begin:end] for text in texts], rests.pop()


def joined_columns(keys: list[bytes], entries: list[bytes], /) -> bytes:
    """The columns of a record: a byte for each key's size and one, two for each entry's, both.

    Raises:
        ValueError: A key is longer than 254 bytes, an entry empty or longer than 65,535, or
            there are more of one than of the other.
    """
    sizes = list(map(len, entries))
    if len(keys) != len(entries) or not all(sizes):
        raise ValueError(f"{len(keys)} keys, entries of {min(sizes, default=0)} bytes and more")
    try:
        columns = bytes([len(key) + 1 for key in keys]) + struct.pack(f">{len(sizes)}H", *sizes)
    except struct.error as exc:
        raise ValueError("an entry is too long") from exc
    return b"".join([columns, *keys, *entries])


def keyed_digests(secret: bytes, texts: list[bytes], /) -> bytes:
    """For tables whose keys strangers choose: SHA-256 over ``secret`` and each text, 16 bytes each.

    Cut off, and seen by nobody, so that no text can be made from another's digest.
    """
    return b"".join([sha256(secret + text).digest()[:_KEYED] for text in texts])


def known_prints(buckets: list[bytes], digests: bytes, width: int, bits: int, /) -> list[int]:
    """The places of digests that may have been added; none that was is missing."""
    return [
        place
        for place, (word, fingerprint) in enumerate(_prints(digests, width, bits))
        if fingerprint in buckets[word >> (_WORD_BITS - bits)]
    ]


def _prints(digests: bytes, width: int, bits: int) -> Iterator[tuple[int, bytes]]:
    if width < _LEAST or len(digests) % width or not 1 <= bits <= _WORD_BITS:
        raise ValueError(f"{len(digests)} bytes are no digests of {width}")
    return struct.iter_unpack(f">I3s{width - _LEAST}x", digests)


def leaf_hashes(entries: list[bytes], /) -> list[bytes]:
    """The hash of each entry as a leaf: ``SHA-256(0x00 ‖ entry)``."""
    return [sha256(b"\x00" + entry).digest() for entry in entries]


def piece_leaves(pieces: Sequence[BytesLike], /) -> list[bytes]:
    """As ``leaf_hashes``, of at most 255 large pieces; others run meanwhile.

    Raises:
        ValueError: There are more.
    """
    if len(pieces) > _MOST_PIECES:
        raise ValueError(f"expected at most {_MOST_PIECES} pieces, found {len(pieces)}")
    return list(map(_piece_leaf, pieces))


def _piece_leaf(piece: BytesLike) -> bytes:
    digest = _LEAF.copy()
    digest.update(piece)
    return digest.digest()


def proof_texts(  # noqa: PLR0913, PLR0917 - columns, as its twin takes them
    levels: _Levels,
    entries: list[bytes],
    start: int,
    begin: int,
    end: int,
    magic: bytes,
    tail: bytes,
    before: Callable[[int], bytes],
    numbered: bytes | None,
    /,
) -> list[bytes]:
    """The texts of proofs of some entries of a batch, each behind something else.

    A text is ``magic``, the entry's line, the index's, those of the path, ``tail``.

    Args:
        levels: ``bistro.crypto.merkle.BatchTree.levels``.
        entries: Of the batch.
        start: Index of the first one.
        begin: Place in the batch of the first that is wanted.
        end: Behind the last one.
        magic: What every text begins with.
        tail: What every text ends with.
        before: What stands before a text of so many bytes; asked once for each of few sizes.
        numbered: If given, this and four hexadecimal digits, which count from 0, stand before
            all that.
    """
    if not 0 <= begin <= end <= len(entries):
        raise IndexError("no such entries")
    if (end - begin) * _FEW < len(entries):
        paths = [_spelled_path(levels, start + at) for at in range(begin, end)]
    else:
        paths = _spelled_paths(levels, start)[begin:end]
    texts = [
        b"%b%bindex %d\n%b%b" % (magic, b2a_base64(entry), index, path, tail)
        for index, (entry, path) in enumerate(
            zip(entries[begin:end], paths, strict=True), start + begin
        )
    ]
    heads = {size: before(size) for size in set(map(len, texts))}
    if numbered is None:
        return [heads[len(text)] + text for text in texts]
    return [
        b"%b%04x%b%b" % (numbered, number, heads[len(text)], text)
        for number, text in enumerate(texts)
    ]


def _spelled_path(levels: _Levels, index: int) -> bytes:
    """The lines of one leaf's path."""
    places = [((index >> level) ^ 1) - first for level, (first, _) in enumerate(levels)]
    found = [
        nodes[at] for at, (_, nodes) in zip(places, levels, strict=True) if 0 <= at < len(nodes)
    ]
    return b"".join(map(b2a_base64, found))


def _spelled_paths(levels: _Levels, start: int) -> list[bytes]:
    """The lines of the path of every leaf from ``start`` on.

    Every node is spelled once, and each text continues the one of the node above, which half of
    the batch, a quarter of it, … have in common.
    """
    above, texts = 0, [b""]
    for first, nodes in reversed(levels[:-1]):
        # Pairs begin at ``first``, which is even; both of a pair continue the same text.
        known = texts[(first >> 1) - above :]
        above = first
        lines = [*map(b2a_base64, nodes), b""]  # the last one of an odd level has no sibling
        texts = [b""] * len(nodes)
        texts[::2] = map(bytes.__add__, lines[1::2], known)
        texts[1::2] = map(bytes.__add__, lines[: len(nodes) - 1 : 2], known)
    return texts[start - above :]


def sorted_rows(rows: bytes, width: int, /) -> bytes:
    """Joined rows of ``width`` bytes, sorted; in C others run meanwhile."""
    if width < 1 or len(rows) % width:
        raise ValueError(f"{len(rows)} bytes are no rows of {width}")
    return b"".join(sorted([rows[at : at + width] for at in range(0, len(rows), width)]))


def spelled_entries(head: bytes, digests: list[bytes], tail: bytes, /) -> list[bytes]:
    """Each digest in hexadecimal digits, between ``head`` and ``tail``."""
    return [b"%b%b%b" % (head, hexlify(digest), tail) for digest in digests]


def tree_levels(old_size: int, old_nodes: list[bytes], leaves: list[bytes], /) -> _Levels:
    """What a tree has at its right edge when leaves are added.

    Args:
        old_size: How many leaves it had.
        old_nodes: The roots of its complete subtrees, the largest first.
        leaves: Hashes of the new ones.

    Returns:
        For every level, lowest first, the offset of the first known node, and the nodes from
        there on; a node without a right sibling moves up unchanged.
    """
    left, nodes = old_nodes[:], leaves[:]
    levels: _Levels = []
    for level in range(max(old_size + len(leaves) - 1, 0).bit_length() + 1):
        first = old_size >> level
        if first & 1:
            # The left neighbour belongs to the old tree, where it is complete.
            nodes = [left.pop(), *nodes]
            first -= 1
        levels.append((first, nodes))
        if len(nodes) > 1:
            pairs = zip(nodes[::2], nodes[1::2], strict=False)
            above = [sha256(b"\x01" + one + other).digest() for one, other in pairs]
            nodes = above + nodes[-1:] if len(nodes) & 1 else above
    return levels
