"""The payload of an age file: chunks of 64 KiB, each sealed on its own, the last one marked.

Nonce of a chunk: its number in 11 bytes, then 1 for the last chunk and 0 for all others. So
chunks cannot be reordered, dropped or added, and a file that ends early has no last chunk.
At most one chunk is held in memory, whatever the size of the payload.

The ``*_into`` methods write into a buffer of the caller's: taking fresh memory for every
piece costs more than the cipher does. The cipher releases the interpreter lock.

Source: C2SP age specification, "Payload".
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from bistro.crypto.age.header import derive_key
from bistro.errors import VerificationError

CHUNK_SIZE = 65_536
"""Plaintext bytes in every chunk but the last, which may have fewer."""

TAG_SIZE = 16
"""What sealing adds to a chunk."""

SEALED_CHUNK_SIZE = CHUNK_SIZE + TAG_SIZE

Readable = bytes | bytearray | memoryview
Writable = bytearray | memoryview


def sealed_size(plaintext_size: int) -> int:
    """The size of a whole payload, without header and nonce."""
    chunk_count = max(1, -(-plaintext_size // CHUNK_SIZE))
    return plaintext_size + chunk_count * TAG_SIZE


def payload_key(file_key: bytes, nonce: bytes) -> bytes:
    """The key of the chunks of one envelope."""
    return derive_key(file_key, salt=nonce, info=b"payload")


class ChunkSealer:
    """Seals a stream; a full chunk waits until it is known whether more follows.

    Args:
        key: From ``payload_key``.
        held_count: Chunks at the front that are sealed last, by ``seal_held``: the stream begins
            behind them.
    """

    def __init__(self, key: bytes, *, held_count: int = 0) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._held_count = held_count
        self._number = held_count
        self._rest = bytearray()

    def room_for(self, data_size: int) -> int:
        """How many bytes ``seal_into`` will write for ``data_size`` more bytes."""
        return max(0, len(self._rest) + data_size - 1) // CHUNK_SIZE * SEALED_CHUNK_SIZE

    def seal_into(self, data: Readable, out: Writable) -> int:
        """Seal what is complete; the number of bytes written to ``out`` is returned."""
        source, target = memoryview(data), memoryview(out)
        position = written = 0
        if self._rest:
            position = CHUNK_SIZE - len(self._rest)
            self._rest += source[:position]
            if len(source) > position:
                written += self._seal(self._rest, target[:SEALED_CHUNK_SIZE])
                self._rest.clear()
        while len(source) - position > CHUNK_SIZE:
            chunk = source[position : position + CHUNK_SIZE]
            written += self._seal(chunk, target[written : written + SEALED_CHUNK_SIZE])
            position += CHUNK_SIZE
        self._rest += source[position:]
        return written

    def reserve(self, count: int) -> int:
        """Take the next ``count`` chunks out of the stream; the number of the first."""
        if self._rest:
            raise ValueError("chunks are reserved at the beginning of one")
        first, self._number = self._number, self._number + count
        return first

    def seal_reserved(self, first: int, data: Readable, out: Writable, *, is_end: bool) -> int:
        """Seal reserved chunks, once; any thread may, at the same time as others.

        Args:
            first: From ``reserve``.
            data: Fills the chunks that were reserved; only the envelope's last may be short.
            out: Has room for the chunks with their tags.
            is_end: Whether the last of them is the envelope's.

        Returns:
            The number of bytes written to ``out``.
        """
        source, target = memoryview(data), memoryview(out)
        written = 0
        for at in range(0, len(source), CHUNK_SIZE):
            chunk = source[at : at + CHUNK_SIZE]
            is_last = is_end and at + CHUNK_SIZE >= len(source)
            nonce = _nonce(first + at // CHUNK_SIZE, last=is_last)
            place = target[written : written + len(chunk) + TAG_SIZE]
            written += self._cipher.encrypt_into(nonce, chunk, None, place)
        return written

    def seal_held(self, data: Readable) -> bytes:
        """The chunks at the front, once; ``data`` fills them."""
        count = self._held_count
        if len(data) != count * CHUNK_SIZE:
            raise ValueError(f"held chunks: expected {count * CHUNK_SIZE} bytes, found {len(data)}")
        self._held_count = 0  # a second call would use their key stream again
        view = memoryview(data)
        return b"".join(
            self._cipher.encrypt(
                _nonce(number, last=False), view[number * CHUNK_SIZE :][:CHUNK_SIZE], None
            )
            for number in range(count)
        )

    def finish(self) -> bytes:
        """The last chunk; it is empty only if the whole payload is."""
        return self._cipher.encrypt(_nonce(self._number, last=True), self._rest, None)

    def _seal(self, chunk: Readable, out: memoryview) -> int:
        written = self._cipher.encrypt_into(_nonce(self._number, last=False), chunk, None, out)
        self._number += 1
        return written


class ChunkOpener:
    """Opens a stream; plaintext leaves only from chunks whose tag was checked.

    A full chunk may be the last one or not: it is tried as an inner chunk, then as the last.
    Where a fault follows good chunks of the same piece, these are returned and the fault is
    raised by the next call: what is released does not depend on how the bytes were cut.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._number = 0
        self._rest = bytearray()
        self._ended = False
        self._fault = ""

    @property
    def held_size(self) -> int:
        """How many bytes of an incomplete chunk are held."""
        return len(self._rest)

    def open_into(self, data: Readable, out: Writable) -> int:
        """Open what is complete; the number of plaintext bytes in ``out`` is returned.

        Raises:
            VerificationError: A chunk is not authentic, or there is data behind the last one.
        """
        self._require_sound()
        source, target = memoryview(data), memoryview(out)
        position = written = 0
        while not self._fault and position < len(source):
            chunk: Readable
            if self._rest or len(source) - position < SEALED_CHUNK_SIZE:
                take = SEALED_CHUNK_SIZE - len(self._rest)
                self._rest += source[position : position + take]
                position += take
                chunk = self._rest
            else:
                chunk = source[position : position + SEALED_CHUNK_SIZE]
                position += SEALED_CHUNK_SIZE
            if self._ended:
                self._fault = "age payload: data follows the last chunk: the envelope was extended"
            elif len(chunk) == SEALED_CHUNK_SIZE:
                written += self._open(chunk, target[written : written + CHUNK_SIZE])
                self._rest.clear()
        if not written:
            self._require_sound()
        return written

    def finish(self) -> bytes:
        """The plaintext of a last chunk that is not full; the end of the data is final.

        Raises:
            VerificationError: The last chunk is missing, altered, or empty behind others.
        """
        self._require_sound()
        if self._ended:
            return b""
        if len(self._rest) < TAG_SIZE:
            raise VerificationError(
                f"age payload: truncated: the data ends within or before chunk {self._number}",
                hint="fetch the envelope again from its start",
            )
        if len(self._rest) == TAG_SIZE and self._number:
            raise VerificationError(
                f"age payload: the last chunk, number {self._number}, is empty or truncated",
                hint="fetch the envelope again from its start",
            )
        try:
            return self._cipher.decrypt(_nonce(self._number, last=True), self._rest, None)
        except InvalidTag as exc:
            raise VerificationError(
                f"age payload: the last chunk, number {self._number}, is truncated or altered",
                hint="fetch the envelope again from its start",
            ) from exc

    def _open(self, chunk: Readable, out: memoryview) -> int:
        for last in (False, True):
            try:
                size = self._cipher.decrypt_into(_nonce(self._number, last=last), chunk, None, out)
            except InvalidTag:
                # The cipher leaves what it decrypted in the buffer: nobody may see it.
                out[:] = bytes(CHUNK_SIZE)
                continue
            self._number += 1
            self._ended = last
            return size
        self._fault = f"age payload: chunk {self._number} was altered, or is out of its place"
        return 0

    def _require_sound(self) -> None:
        if self._fault:
            raise VerificationError(self._fault, hint="fetch the envelope again from its start")


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if last else b"\x00")
