"""Sealing and opening whole age files in tests, in pieces of a chosen size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bistro.crypto.sealing import ArmorReader, Opener, Recipient, Sealer, X25519Identity
from bistro.errors import BistroError

IDENTITY = X25519Identity(bytes(range(32)))
OTHER = X25519Identity(bytes(range(1, 33)))
FILE_KEY = b"sixteen bytes ok"


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """``data`` cut into pieces of ``size`` bytes."""
    return (data[at : at + size] for at in range(0, len(data), size))


def seal(recipients: Sequence[Recipient], plaintext: bytes, *, piece_size: int = 1 << 20) -> bytes:
    """A whole envelope."""
    sealer = Sealer(recipients)
    sealed = [sealer.update(piece) for piece in pieces(plaintext, piece_size)]
    return b"".join([sealer.header(), *sealed, sealer.finish()])


def open_file(
    opener: Opener, data: bytes, *, piece_size: int = 1 << 20, is_armored: bool = False
) -> tuple[bytes, BistroError | None]:
    """All plaintext that was released, and the error that ended it, if any."""
    released = bytearray()
    armor = ArmorReader()
    try:
        for piece in pieces(data, piece_size):
            released += opener.feed(armor.feed(piece) if is_armored else piece)
        if is_armored:
            released += opener.feed(armor.finish())
        released += opener.finish()
    except BistroError as error:
        return bytes(released), error
    return bytes(released), None


def open_whole(opener: Opener, data: bytes, *, piece_size: int = 1 << 20) -> bytes:
    """The plaintext of a whole envelope; raises what the opener raises."""
    released, error = open_file(opener, data, piece_size=piece_size)
    if error is not None:
        raise error
    return released
