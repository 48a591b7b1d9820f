"""The one hash function, and its two domains in a Merkle tree.

Source: docs/spec/promises.md; RFC 9162, section 2.1.1.
"""

from __future__ import annotations

import hashlib

HASH_SIZE = 32
"""Bytes of a SHA-256."""

BytesLike = bytes | bytearray | memoryview


def sha256(data: BytesLike) -> bytes:
    """The SHA-256 of ``data``."""
    return hashlib.sha256(data).digest()


def leaf_hash(data: BytesLike) -> bytes:
    """The hash of an entry as a leaf: ``SHA-256(0x00 ‖ data)``."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees as one: ``SHA-256(0x01 ‖ left ‖ right)``."""
    return hashlib.sha256(b"\x01" + left + right).digest()


EMPTY_ROOT = sha256(b"")
"""The root of a tree without leaves."""
