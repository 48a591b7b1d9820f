"""The filer's own key: made once, never replaced, never shown.

Source: docs/spec/commands.md, keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bistro.crypto.keyfile import (
    MAX_KEY_FILE_SIZE,
    decode_filer_key,
    encode_filer_key,
    filer_fingerprint,
    filer_public,
    generate_filer_key,
)
from bistro.errors import FormatError
from bistro.storage.durable import SYSTEM_DISK, Disk, make_directories, read_file, write_atomically
from bistro_client import messages
from bistro_client.brief_locks import briefly_locked
from bistro_client.leftovers import sweep_beside

_ENCRYPTED = b"-----BEGIN ENCRYPTED"


@dataclass(frozen=True, slots=True)
class FilerKey:
    """A filer's key and where it lies."""

    path: Path
    private: Ed25519PrivateKey

    @property
    def public(self) -> bytes:
        """The public part, 32 bytes: what stands in headers."""
        return filer_public(self.private)

    @property
    def fingerprint(self) -> str:
        """What people compare: eight groups of four digits."""
        return filer_fingerprint(self.public)


def is_encrypted(path: Path) -> bool:
    """Whether a passphrase is needed to load the key.

    Raises:
        SettingsError: There is no such file.
    """
    return _read(path).startswith(_ENCRYPTED)


def create(path: Path, passphrase: str | None = None, *, disk: Disk = SYSTEM_DISK) -> FilerKey:
    """Make a new key.

    Raises:
        SettingsError: There is a key already; it is left as it is.
    """
    make_directories(path.parent, disk=disk)
    with briefly_locked(path.with_suffix(".lock"), what="the filer's key"):
        # Looked at under the lock: two programs that start together must agree on one key.
        if path.exists():
            raise messages.key_exists(path)
        # Somebody who was killed here left a key that nobody knows.
        sweep_beside(path)
        private = generate_filer_key()
        write_atomically(path, encode_filer_key(private, passphrase), disk=disk)
    return FilerKey(path, private)


def load(path: Path, passphrase: str | None = None) -> FilerKey:
    """The key in a file.

    Raises:
        SettingsError: There is no such file, it is no key, or the passphrase is missing or wrong.
    """
    try:
        return FilerKey(path, decode_filer_key(_read(path), passphrase))
    except FormatError as exc:
        raise messages.bad_key_file(path, exc) from exc


def _read(path: Path) -> bytes:
    data = read_file(path, max_size=MAX_KEY_FILE_SIZE)
    if data is None:
        raise messages.no_key(path)
    return data
