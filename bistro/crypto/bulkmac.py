"""Keyed digests of many short texts at once: CBC-MAC over AES, a few calls for all of them.

For tables whose keys strangers choose: without the secret nobody can choose texts whose digests
collide, or share a bucket. A hash of each text by itself takes several times as long.

A text is preceded by its length and padded with zeros, so texts of different lengths cannot
stand for each other. All first blocks are encrypted by one call, all second ones by the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

SECRET_SIZE: Final = 16
MAC_SIZE: Final = 16

_WORD: Final = 8


class BulkMac:
    """Digests under one secret; usable from any thread.

    Args:
        secret: 16 random bytes.
    """

    def __init__(self, secret: bytes) -> None:
        # Each block is an input of its own, and nobody sees an output: this is the bare
        # permutation of which CBC-MAC is made, not a way to encrypt.
        self._cipher = Cipher(algorithms.AES128(secret), modes.ECB())  # noqa: S305
        # Making one takes as long as dozens of blocks. Whoever takes one has it alone.
        self._spare: list[CipherContext] = []

    def digests(self, texts: Sequence[bytes]) -> list[bytes]:
        """The digest of each text, 16 bytes; texts are at most 65,535 bytes long."""
        joined = self.joined(texts) if texts else b""
        return [joined[at : at + MAC_SIZE] for at in range(0, len(joined), MAC_SIZE)]

    def joined(self, texts: Sequence[bytes]) -> bytes:
        """The digests of at least one text, one after the other."""
        sizes = set(map(len, texts))
        if len(sizes) == 1:
            return self._of_one_size(texts, sizes.pop())
        found: dict[bytes, bytes] = {}
        for size in sizes:
            alike = [text for text in texts if len(text) == size]
            digests = self._of_one_size(alike, size)
            for at, text in enumerate(alike):
                found[text] = digests[at * MAC_SIZE : (at + 1) * MAC_SIZE]
        return b"".join([found[text] for text in texts])

    def _of_one_size(self, texts: Sequence[bytes], size: int) -> bytes:
        prefix = size.to_bytes(2, "big")
        padding = bytes(-(2 + size) % MAC_SIZE)
        blocks = memoryview(b"%b%b%b" % (prefix, (padding + prefix).join(texts), padding)).cast("Q")
        width = (2 + size + len(padding)) // _WORD
        try:
            encryptor = self._spare.pop()
        except IndexError:
            encryptor = self._cipher.encryptor()
        state = encryptor.update(_column(blocks, 0, width))
        for at in range(2, width, 2):
            mixed = int.from_bytes(state, "big") ^ int.from_bytes(_column(blocks, at, width), "big")
            state = encryptor.update(mixed.to_bytes(len(state), "big"))
        # Only whole blocks went in, so nothing of them is left in it.
        self._spare.append(encryptor)
        return state


def _column(words: memoryview, at: int, width: int) -> bytearray:
    """Words ``at`` and ``at + 1`` of every ``width`` words: the same block of every text."""
    column = bytearray(len(words) // width * MAC_SIZE)
    with memoryview(column).cast("Q") as view:
        view[0::2] = words[at::width]
        view[1::2] = words[at + 1 :: width]
    return column
