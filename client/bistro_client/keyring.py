"""The filer's own key: made once, never replaced, never shown.

Source: docs/spec/commands.md, keys.
"""

from __future__ import annotations

import re
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
from bistro_client import messages, system_keyring
from bistro_client.brief_locks import briefly_locked
from bistro_client.leftovers import sweep_beside
from bistro_client.wording import say

_ENCRYPTED = b"-----BEGIN ENCRYPTED"
_REFERENCE = b"bistro/keyring/v1\n"
_REFERENCE_PATTERN = re.compile(_REFERENCE + rb"([0-9a-f]{64})\n")


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


def is_in_system(path: Path) -> bool:
    """Whether the key is in the system's keyring, and the file only says so.

    Raises:
        SettingsError: There is no such file.
    """
    return is_reference(_read(path))


def is_reference(data: bytes) -> bool:
    """Whether a key file says only that the key is in the system's keyring."""
    return data.startswith(_REFERENCE)


def private_part(data: bytes) -> bytes:
    """The PEM text of a key file, also where the system's keyring has it.

    Raises:
        FormatError: Not a reference as this program writes it.
        SettingsError: The keyring does not give it.
    """
    if not is_reference(data):
        return data
    found = _REFERENCE_PATTERN.fullmatch(data)
    if found is None:
        raise FormatError(say("keyring.key-expected-reference"))
    return system_keyring.fetch(bytes.fromhex(found[1].decode()))


def create(
    path: Path,
    passphrase: str | None = None,
    *,
    in_system: bool = False,
    disk: Disk = SYSTEM_DISK,
) -> FilerKey:
    """Make a new key.

    Args:
        path: Of its file.
        passphrase: Protects it, if given.
        in_system: Keep it in the system's keyring; the file only says so.
        disk: The system calls to use.

    Raises:
        SettingsError: There is a key already, which is left as it is; or no keyring.
    """
    make_directories(path.parent, disk=disk)
    with briefly_locked(path.with_suffix(".lock"), what=say("keyring.filer-s-key")):
        # Looked at under the lock: two programs that start together must agree on one key.
        if path.exists():
            raise messages.key_exists(path)
        # Somebody who was killed here left a key that nobody knows.
        sweep_beside(path)
        private = generate_filer_key()
        content = encode_filer_key(private, passphrase)
        if in_system:
            _keep_in_system(path, filer_public(private), content, disk)
        else:
            write_atomically(path, content, disk=disk)
    return FilerKey(path, private)


def _keep_in_system(path: Path, public: bytes, content: bytes, disk: Disk) -> None:
    system_keyring.store(public, content)
    try:
        # A crash here leaves an entry that no file names: nothing was signed with it.
        write_atomically(path, _REFERENCE + public.hex().encode() + b"\n", disk=disk)
    except BaseException:
        # Failed, but stored: then the file and its entry stay together.
        if not path.exists():
            system_keyring.forget(public)
        raise


def load(path: Path, passphrase: str | None = None) -> FilerKey:
    """The key in a file.

    Raises:
        SettingsError: There is no such file, it is no key, or the passphrase is missing or wrong.
    """
    try:
        data = _read(path)
        key = FilerKey(path, decode_filer_key(private_part(data), passphrase))
    except FormatError as exc:
        raise messages.bad_key_file(path, exc) from exc
    if is_reference(data) and key.public.hex().encode() not in data:
        raise messages.another_in_keyring(path)
    return key


def _read(path: Path) -> bytes:
    data = read_file(path, max_size=MAX_KEY_FILE_SIZE)
    if data is None:
        raise messages.no_key(path)
    return data
