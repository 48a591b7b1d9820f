"""The files of the time-stamping authority: made, replaced as a pair, loaded.

A key and its certificate are two files and must change together. The certificate is what says
which key counts: a new key is written beside the old one first, then the certificate is replaced,
then the new key takes the old one's name. Whoever loads takes the one of both keys that fits.

| a crash before | leaves |
|---|---|
| the new key | the old pair |
| the new certificate | the old pair, and a key that nobody uses |
| the renaming | the new certificate; its key has its first name still, and is found there |

Source: docs/spec/timestamps.md, key and certificate; docs/spec/commands.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from bistro.crypto.timestamp import certificate as certificates
from bistro.errors import BistroError, FormatError, SettingsError, VerificationError
from bistro.instant import UnixMillis, format_rfc3339
from bistro.storage.durable import (
    SYSTEM_DISK,
    Disk,
    read_file,
    storage_errors,
    sync_directory,
    write_atomically,
)
from bistro.storage.locks import FileLock
from bistro_server.services.folder import MAX_SMALL_FILE_SIZE, ServerFolder, require_file

_HINT: Final = "correct [timestamps] in the settings, or see bistro-server tsa --help"


@dataclass(frozen=True, slots=True)
class Authority:
    """A key and the certificates that vouch for it, its own first."""

    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]

    @property
    def own(self) -> x509.Certificate:
        """The certificate under which tokens are signed."""
        return self.chain[0]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of that certificate, hexadecimal."""
        return self.own.fingerprint(SHA256()).hex()


def make_authority(
    folder: ServerFolder, *, name: str, now: UnixMillis, disk: Disk = SYSTEM_DISK
) -> None:
    """Write a new key, and a certificate for it that vouches for itself.

    Raises:
        StorageError: The disk failed.
    """
    key = certificates.generate_key()
    certificate = certificates.make_certificate(key, name=name, now=now)
    # A key without its certificate, after a crash here, is refused by whoever loads it.
    write_atomically(folder.tsa_key, certificates.encode_key(key), disk=disk)
    chain = certificates.encode_chain((certificate,))
    write_atomically(folder.tsa_certificate, chain, disk=disk)


def renew_authority(
    folder: ServerFolder,
    *,
    name: str,
    now: UnixMillis,
    with_new_key: bool = False,
    disk: Disk = SYSTEM_DISK,
) -> Authority:
    """Replace the certificate by a new one that vouches for itself, and the key if asked for.

    Raises:
        SettingsError: There is no authority here that could be renewed.
        StorageError: The disk failed; the old pair or the new one will be found.
        UnavailableError: Another command is changing it.
    """
    with _changing(folder):
        found = _require_own(folder)
        key = certificates.generate_key() if with_new_key else found.key
        certificate = certificates.make_certificate(key, name=name, now=now)
        renewed = Authority(key, (certificate,))
        _replace(folder, renewed, is_new_key=with_new_key, disk=disk)
    return renewed


def import_authority(
    folder: ServerFolder,
    *,
    chain: bytes,
    key: bytes | None,
    now: UnixMillis,
    disk: Disk = SYSTEM_DISK,
) -> Authority:
    """Replace the certificate by one that somebody issued, and the key if one comes with it.

    Args:
        folder: The server's.
        chain: PEM: the authority's certificate, then those above it.
        key: PEM of its key; ``None``: it was issued for the key that is here.
        now: The certificate must be valid at this time.
        disk: The system calls to use.

    Raises:
        FormatError: Not PEM, or a key that is not on P-256.
        VerificationError: Not a certificate for this, not for that key, not valid now, or the
            certificates do not vouch for each other; nothing was changed.
        SettingsError: There is no key here.
        StorageError: The disk failed; the old pair or the new one will be found.
        UnavailableError: Another command is changing it.
    """
    found = certificates.decode_chain(chain)
    certificates.require_chain(found)
    begins, ends = certificates.validity(found[0])
    if not begins <= now <= ends:
        raise VerificationError(
            f"time-stamp certificate: it is valid from {format_rfc3339(begins)} "
            f"until {format_rfc3339(ends)}, and now it is {format_rfc3339(now)}"
        )
    with _changing(folder):
        own_key = _require_own(folder).key if key is None else certificates.decode_key(key)
        imported = Authority(own_key, found)
        certificates.require_pair(own_key, imported.own)
        _replace(folder, imported, is_new_key=key is not None, disk=disk)
    return imported


@contextmanager
def _changing(folder: ServerFolder) -> Iterator[None]:
    lock = FileLock.take(folder.root / "tsa.lock", what="the time-stamp certificate")
    try:
        yield
    finally:
        lock.release()


def _require_own(folder: ServerFolder) -> Authority:
    found = AuthorityFiles.of(folder, None, None).load()
    if found is None:
        raise SettingsError(
            f"expected the files {folder.tsa_key} and {folder.tsa_certificate}, found none",
            hint="import a key and its certificate: bistro-server tsa import --key FILE FILE",
        )
    return found


def _replace(folder: ServerFolder, new: Authority, *, is_new_key: bool, disk: Disk) -> None:
    # The key that counts may still have its first name, where the next one is about to go.
    _settle(folder, disk=disk)
    if is_new_key:
        write_atomically(folder.tsa_next_key, certificates.encode_key(new.key), disk=disk)
    write_atomically(folder.tsa_certificate, certificates.encode_chain(new.chain), disk=disk)
    _settle(folder, disk=disk)


def _settle(folder: ServerFolder, *, disk: Disk) -> None:
    """Give the next key its last name if it is the one that the certificate is for."""
    data = read_file(folder.tsa_next_key, max_size=MAX_SMALL_FILE_SIZE, disk=disk)
    chain = read_file(folder.tsa_certificate, max_size=MAX_SMALL_FILE_SIZE, disk=disk)
    if data is None or chain is None or not _fits(data, chain):
        return
    with storage_errors("replace", folder.tsa_key):
        disk.rename(folder.tsa_next_key, folder.tsa_key)
    sync_directory(folder.keys, disk=disk)


def _fits(key: bytes, chain: bytes) -> bool:
    try:
        certificates.require_pair(certificates.decode_key(key), certificates.decode_chain(chain)[0])
    except BistroError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class AuthorityFiles:
    """Where a server's authority lies.

    Attributes:
        key: PEM.
        chain: PEM of its certificate, then those above it.
        next_key: Where a key may lie that counts if the certificate is its own; ``None`` where
            the settings name the others.
    """

    key: Path
    chain: Path
    next_key: Path | None

    @classmethod
    def of(
        cls, folder: ServerFolder, key_path: Path | None, certificate_path: Path | None
    ) -> AuthorityFiles:
        """Those that the settings name, both or none, or that ``init`` made."""
        if key_path is None or certificate_path is None:
            return cls(folder.tsa_key, folder.tsa_certificate, folder.tsa_next_key)
        return cls(key_path, certificate_path, None)

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return tuple(filter(None, (self.key, self.chain, self.next_key)))

    def load(self) -> Authority | None:
        """The authority; ``None`` where the settings name none and ``init`` made none.

        Raises:
            SettingsError: A file is missing or wrong, or the certificate is not one for this.
            StorageError: A file cannot be read.
        """
        is_there = self.key.exists() or self.chain.exists()
        return self.require() if is_there or self.next_key is None else None

    def require(self) -> Authority:
        """The authority.

        Raises:
            SettingsError: A file is missing or wrong, or the certificate is not one for this.
            StorageError: A file cannot be read.
        """
        chain_data = require_file(self.chain, what="time-stamp certificate", hint=_HINT)
        key_file = self.key
        if self.next_key is not None:
            next_data = read_file(self.next_key, max_size=MAX_SMALL_FILE_SIZE)
            if next_data is not None and _fits(next_data, chain_data):
                key_file = self.next_key
        key_data = require_file(key_file, what="time-stamp key", hint=_HINT)
        try:
            key = certificates.decode_key(key_data)
            chain = certificates.decode_chain(chain_data)
            certificates.require_pair(key, chain[0])
        except (FormatError, VerificationError) as exc:
            message = f"{key_file}, {self.chain}: {exc.message}"
            raise SettingsError(message, hint=_HINT) from exc
        return Authority(key, chain)
