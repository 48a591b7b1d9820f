"""Envelopes: sealing a stream for recipients, and opening it again. The door of ``age``.

Both sides take pieces of any size and hold one chunk (64 KiB) at most. The standard tools open
what is sealed here: ``age -d`` X25519 envelopes, age 1.3 and npm ``age-encryption`` both kinds.

    sealer = Sealer([parse_recipient(text)])        opener = Opener([identity])
    write(sealer.header())                          for piece in envelope:
    for piece in plaintext:                             write(opener.feed(piece))
        write(sealer.update(piece))                 write(opener.finish())
    write(sealer.finish())

Plaintext is genuine as far as it was returned, and complete only once ``finish`` returned.

Source: C2SP age specification (c2sp.org/age); docs/spec/filing.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bistro.crypto.age.armor import ArmorReader
from bistro.crypto.age.header import NONCE_SIZE, Header, HeaderReader, encode_header
from bistro.crypto.age.hybrid import HybridIdentity, HybridRecipient
from bistro.crypto.age.keys import (
    KEY_KINDS,
    Identity,
    KeyIdentity,
    KeyKind,
    Recipient,
    decode_identity_file,
    encode_identity_file,
    generate_identity,
    parse_identity,
    parse_recipient,
)
from bistro.crypto.age.passphrase import PassphraseIdentity
from bistro.crypto.age.payload import (
    CHUNK_SIZE,
    SEALED_CHUNK_SIZE,
    ChunkOpener,
    ChunkSealer,
    Readable,
    Writable,
    payload_key,
    sealed_size,
)
from bistro.crypto.age.stanza import FILE_KEY_SIZE
from bistro.crypto.age.x25519 import X25519Identity, X25519Recipient
from bistro.errors import FormatError, VerificationError

__all__ = [
    "CHUNK_SIZE",
    "FILE_KEY_SIZE",
    "KEY_KINDS",
    "SEALED_CHUNK_SIZE",
    "ArmorReader",
    "HybridIdentity",
    "HybridRecipient",
    "Identity",
    "KeyIdentity",
    "KeyKind",
    "Opener",
    "PassphraseIdentity",
    "Readable",
    "Recipient",
    "Sealer",
    "Writable",
    "X25519Identity",
    "X25519Recipient",
    "decode_identity_file",
    "encode_identity_file",
    "generate_identity",
    "parse_identity",
    "parse_recipient",
]

_RANDOM_BITS = 128
"""File key and nonce have 16 random bytes each; an AES-128 key is exactly that."""


class Sealer:
    """Seals one envelope for ``recipients``: call header, update…, finish.

    Args:
        recipients: Who can open it: all hybrid or all X25519. One weaker recipient would undo
            what the others are chosen for.
        file_key: 16 secret random bytes, used for no other envelope; made here if not given.
        held_count: Chunks at the front whose plaintext is known last: ``update`` goes on behind
            them, and ``seal_held`` makes them. At least one byte must follow them.

    Raises:
        FormatError: No recipient, recipients of both kinds, or a file key of another size.
    """

    def __init__(
        self,
        recipients: Sequence[Recipient],
        *,
        file_key: bytes | None = None,
        held_count: int = 0,
    ) -> None:
        kinds = {recipient.kind for recipient in recipients}
        if len(kinds) != 1:
            found = " and ".join(sorted(kinds)) or "none"
            raise FormatError(f"recipients: expected all hybrid or all x25519, found {found}")
        self._file_key = AESGCM.generate_key(_RANDOM_BITS) if file_key is None else file_key
        _require_file_key(self._file_key)
        nonce = AESGCM.generate_key(_RANDOM_BITS)
        stanzas = [recipient.wrap(self._file_key) for recipient in recipients]
        self._header = encode_header(stanzas, self._file_key) + nonce
        self._chunks = ChunkSealer(payload_key(self._file_key, nonce), held_count=held_count)
        self._finished = False

    @property
    def file_key(self) -> bytes:
        """The secret that opens this one envelope (see ``Opener.with_file_key``)."""
        return self._file_key

    def header(self) -> bytes:
        """The envelope's first bytes, nonce included; the same at every call."""
        return self._header

    def envelope_size(self, plaintext_size: int) -> int:
        """The size of the whole envelope around ``plaintext_size`` bytes."""
        return len(self._header) + sealed_size(plaintext_size)

    def update(self, data: Readable) -> bytes:
        """Seal the next piece; what is returned may be shorter or longer, also empty."""
        out = bytearray(self.room_for(len(data)))
        self.update_into(data, out)
        return bytes(out)

    def room_for(self, data_size: int) -> int:
        """How many bytes ``update_into`` will write for the next ``data_size`` bytes."""
        return self._chunks.room_for(data_size)

    def update_into(self, data: Readable, out: Writable) -> int:
        """As ``update``, into a buffer that has ``room_for`` it; up to twice as fast in bulk."""
        self._require_unfinished()
        return self._chunks.seal_into(data, out)

    def reserve(self, count: int) -> int:
        """Take the next ``count`` chunks out of the stream, for ``seal_reserved``."""
        self._require_unfinished()
        return self._chunks.reserve(count)

    def seal_reserved(self, first: int, data: Readable, out: Writable, *, is_end: bool) -> int:
        """Seal reserved chunks, once, in any thread; the number of bytes written to ``out``.

        Args:
            first: From ``reserve``.
            data: Fills those chunks; only the envelope's last may be short.
            out: Has room for the chunks with their tags.
            is_end: Whether they are the envelope's last; nothing is sealed behind them.
        """
        return self._chunks.seal_reserved(first, data, out, is_end=is_end)

    def seal_held(self, data: Readable) -> bytes:
        """The chunks right behind the header, once, of the plaintext that fills them."""
        return self._chunks.seal_held(data)

    def finish(self) -> bytes:
        """The envelope's last bytes."""
        self._require_unfinished()
        self._finished = True
        return self._chunks.finish()

    def _require_unfinished(self) -> None:
        # Sealing on would use the last chunk's key stream a second time.
        if self._finished:
            raise RuntimeError("this envelope is finished: take a new Sealer")


class Opener:
    """Opens one envelope, strictly: call feed…, finish.

    After an error nothing more comes out. Good chunks before a fault in the same piece are
    returned, and the fault is raised by the next call.

    Args:
        identities: Keys, of which one must open the envelope.
    """

    def __init__(self, identities: Sequence[Identity]) -> None:
        self._identities = tuple(identities)
        self._reader = HeaderReader()
        self._file_key: bytes | None = None
        self._chunks: ChunkOpener | None = None
        self._is_usable = True

    @classmethod
    def with_file_key(cls, file_key: bytes) -> Opener:
        """An opener for the one envelope that ``file_key`` belongs to.

        Raises:
            FormatError: A file key of another size than 16 bytes.
        """
        _require_file_key(file_key)
        opener = cls(())
        opener._file_key = file_key
        return opener

    @property
    def file_key(self) -> bytes | None:
        """The secret of this one envelope; None until its header has been read and verified."""
        return self._file_key if self._chunks else None

    def feed(self, data: Readable) -> bytes:
        """Open the next piece: the plaintext of all chunks that are complete and authentic.

        Raises:
            FormatError: The header is malformed.
            VerificationError: No key opens the envelope, or header or payload were altered.
        """
        out = bytearray(self.room_for(len(data)))
        size = self.feed_into(data, out)
        return bytes(memoryview(out)[:size])

    def room_for(self, data_size: int) -> int:
        """How many bytes ``feed_into`` will write at most for the next ``data_size`` bytes."""
        held_size = self._chunks.held_size if self._chunks else self._reader.seen_size
        return (held_size + data_size) // SEALED_CHUNK_SIZE * CHUNK_SIZE

    def feed_into(self, data: Readable, out: Writable) -> int:
        """As ``feed``, into a buffer that has ``room_for`` it; up to twice as fast in bulk.

        Returns:
            The number of plaintext bytes written; what is behind them means nothing.
        """
        self._require_usable()
        self._is_usable = False  # unless all of this piece is read without a fault
        piece = memoryview(data)
        if self._chunks is None:
            piece = self._reader.feed(piece)
            if self._reader.header is not None:
                self._chunks = self._open_header(self._reader.header)
        size = self._chunks.open_into(piece, out) if self._chunks else 0
        self._is_usable = True
        return size

    def finish(self) -> bytes:
        """The rest of the plaintext; returning says that nothing is missing.

        Raises:
            FormatError: The envelope ends within its header.
            VerificationError: The payload was truncated or altered.
        """
        self._require_usable()
        self._is_usable = False
        if self._chunks is None:
            raise FormatError(
                f"age header: truncated: the data ends after {self._reader.seen_size} bytes, "
                f"before the end of the header and the {NONCE_SIZE} bytes behind it"
            )
        return self._chunks.finish()

    def _open_header(self, header: Header) -> ChunkOpener:
        if self._file_key is None:
            self._file_key = self._find_key(header)
        else:
            header.verify(self._file_key)
        return ChunkOpener(payload_key(self._file_key, header.nonce))

    def _find_key(self, header: Header) -> bytes:
        mismatch: VerificationError | None = None
        for identity in self._identities:
            for file_key in identity.file_keys(header.stanzas):
                try:
                    header.verify(file_key)
                except VerificationError as exc:
                    # Anybody can wrap a wrong key for one of ours: whether the envelope opens
                    # must not depend on the order of keys and stanzas.
                    mismatch = exc
                    continue
                return file_key
        if mismatch is not None:
            raise mismatch
        raise VerificationError(
            f"age header: no match: none of {len(self._identities)} keys opens any of "
            f"{len(header.stanzas)} stanzas",
            hint="use the key of the call that the envelope was sealed for",
        )

    def _require_usable(self) -> None:
        if not self._is_usable:
            raise VerificationError("age envelope: reading ended, or stopped at an earlier fault")


def _require_file_key(file_key: bytes) -> None:
    if len(file_key) != FILE_KEY_SIZE:
        raise FormatError(f"file key: expected {FILE_KEY_SIZE} bytes, found {len(file_key)}")
