"""The floor of ``client.seal``: read, ChaCha20-Poly1305, one SHA-256, write, no fsync.

Two threads: one reads, encrypts and writes, the other hashes what was
encrypted. Buffers are used again, since fresh memory costs as much as the cipher.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

CHUNK_SIZE: Final = 262_144
TAG_SIZE: Final = 16
_BUFFERS: Final = 4


def seal(source: Path, target: Path) -> str:
    """Write the ciphertext of ``source`` to ``target``; its SHA-256 in hexadecimal."""
    cipher = ChaCha20Poly1305(ChaCha20Poly1305.generate_key())
    free: SimpleQueue[bytearray] = SimpleQueue()
    full: SimpleQueue[tuple[bytearray, int] | None] = SimpleQueue()
    for _ in range(_BUFFERS):
        free.put(bytearray(CHUNK_SIZE + TAG_SIZE))
    digest = hashlib.sha256()

    def hash_all() -> None:
        while (item := full.get()) is not None:
            buffer, size = item
            digest.update(memoryview(buffer)[:size])
            free.put(buffer)

    hasher = threading.Thread(target=hash_all)
    hasher.start()
    try:
        _encrypt(cipher, source, target, free, full)
    finally:
        full.put(None)
        hasher.join()
    return digest.hexdigest()


def _encrypt(
    cipher: ChaCha20Poly1305,
    source: Path,
    target: Path,
    free: SimpleQueue[bytearray],
    full: SimpleQueue[tuple[bytearray, int] | None],
) -> None:
    plain = bytearray(CHUNK_SIZE)
    with source.open("rb", buffering=0) as read, target.open("wb", buffering=0) as write:
        number = 0
        while size := read.readinto(plain):
            buffer = free.get()
            nonce = number.to_bytes(12, "big")
            sealed = memoryview(buffer)[: size + TAG_SIZE]
            cipher.encrypt_into(nonce, memoryview(plain)[:size], None, sealed)
            full.put((buffer, size + TAG_SIZE))
            write.write(sealed)
            number += 1
