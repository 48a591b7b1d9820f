"""Private keys in the keyring of the operating system, where that is wanted.

Keychain, Credential Manager, Secret Service or whatever else the library ``keyring`` finds; it
comes with the extra ``bistro[keyring]``. An entry has the service ``bistro``, the public key in
hexadecimal as user name, and the PEM text as password.

Source: docs/spec/journal.md, folder; docs/decisions/0031-keys-in-the-systems-keyring.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Final

from bistro_client import messages

SERVICE: Final = "bistro"


def store(public: bytes, pem: bytes) -> None:
    """Keep a private key, and make sure that it is there.

    Raises:
        SettingsError: There is no keyring, it is locked, or it forgets.
    """
    with _library() as library:
        library.set_password(SERVICE, public.hex(), pem.decode())
        kept = library.get_password(SERVICE, public.hex())
    if kept != pem.decode():
        raise messages.forgetful_keyring()


def fetch(public: bytes) -> bytes:
    """The private key, as ``store`` was given it.

    Raises:
        SettingsError: There is no keyring, it is locked, or has no such entry.
    """
    with _library() as library:
        found: str | None = library.get_password(SERVICE, public.hex())
    if found is None:
        raise messages.not_in_keyring(public)
    return found.encode()


def forget(public: bytes) -> None:
    """Delete a private key that nothing refers to.

    Raises:
        SettingsError: It could not be deleted.
    """
    with _library() as library:
        library.delete_password(SERVICE, public.hex())


@contextlib.contextmanager
def _library() -> Iterator[ModuleType]:
    try:
        import keyring  # noqa: PLC0415 - an extra, and slow to load
        from keyring.errors import KeyringError  # noqa: PLC0415 - the same
    except ImportError as exc:
        raise messages.no_keyring_library() from exc
    try:
        yield keyring
    except KeyringError as exc:
        raise messages.keyring_fails(exc) from exc
