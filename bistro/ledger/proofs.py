"""The texts of proofs and checkpoints, of what we appended ourselves and need not check again.

Source: docs/spec/promises.md; C2SP tlog-proof.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Sequence
from typing import Final

from bistro.crypto.signing import VerifierKey
from bistro.wire.proof import MAGIC

_HEAD: Final = f"{MAGIC}\nextra ".encode()

spell_hash = b2a_base64
"""A hash of a path as its line."""


class CheckpointSpeller:
    """Spells the signed checkpoints of one ledger.

    Args:
        key: What signs them; its name is the ledger's origin.
    """

    def __init__(self, key: VerifierKey) -> None:
        self._origin = key.name.encode()
        self._line = f"\n\N{EM DASH} {key.name} ".encode()
        self._key_id = key.key_id

    def text(self, size: int, root: bytes) -> bytes:
        """As ``bistro.wire.checkpoint.Checkpoint.text``."""
        return b"%b\n%d\n%b" % (self._origin, size, b2a_base64(root))

    def signed(self, text: bytes, signature: bytes) -> bytes:
        """The signed note of a text, as ``Checkpoint.signed``."""
        return text + self._line + b2a_base64(self._key_id + signature)


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
