"""The texts of proofs, in bulk: of entries that we appended ourselves and need not check again.

Source: docs/spec/promises.md; C2SP tlog-proof.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Sequence
from typing import Final

from bistro.wire.proof import MAGIC

_HEAD: Final = f"{MAGIC}\nextra ".encode()

spell_hash = b2a_base64
"""A hash of a path as its line."""


def format_proof(*, entry: bytes, index: int, path: Sequence[bytes], note: bytes) -> bytes:
    """The text of ``bistro.wire.proof.Proof`` for one entry."""
    return format_proofs([entry], index, [b"".join(map(spell_hash, path))], note)[0]


def format_proofs(
    entries: Sequence[bytes], start: int, paths: Sequence[bytes], note: bytes
) -> list[bytes]:
    """The texts of neighbouring entries under one checkpoint.

    Args:
        entries: The leaf data.
        start: Index of the first.
        paths: Of each entry the lines of its path, made with ``spell_hash``.
        note: The signed checkpoint.
    """
    return [
        b"%b%bindex %d\n%b\n%b" % (_HEAD, b2a_base64(entry), index, path, note)
        for index, (entry, path) in enumerate(zip(entries, paths, strict=True), start)
    ]
