"""The hash function and its domains."""

from __future__ import annotations

import pytest

from bistro.crypto.digest import EMPTY_ROOT, HASH_SIZE, BytesLike, leaf_hash, node_hash, sha256

ABC = bytes.fromhex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")


@pytest.mark.parametrize("data", [b"abc", bytearray(b"abc"), memoryview(b"abc")])
def test_any_kind_of_bytes_has_one_hash(data: BytesLike) -> None:
    """Buffers need not be copied to be hashed; the value is that of FIPS 180-4."""
    assert sha256(data) == ABC
    assert leaf_hash(data) == sha256(b"\x00abc")


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    """RFC 9162, section 2.1.1."""
    assert sha256(b"") == EMPTY_ROOT
    assert len(EMPTY_ROOT) == HASH_SIZE


def test_an_entry_never_has_the_hash_of_a_node() -> None:
    """An entry that reads like two hashes is no node: the domains keep them apart."""
    assert node_hash(ABC, EMPTY_ROOT) == sha256(b"\x01" + ABC + EMPTY_ROOT)
    assert leaf_hash(ABC + EMPTY_ROOT) != node_hash(ABC, EMPTY_ROOT)
