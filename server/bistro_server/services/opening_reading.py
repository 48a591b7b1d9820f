"""Decrypts envelopes: only ``submission.bin`` in pass 1, and the verdict on what cannot be read.

Before an envelope is called bad, its bytes on our disk are compared with what was collected: a
filer never has to bear a fault of ours.

Source: docs/spec/opening.md, two passes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bistro.crypto.age.keys import KeyIdentity
from bistro.crypto.sealing import Opener
from bistro.errors import (
    BistroError,
    FormatError,
    StorageError,
    UnknownObjectError,
    VerificationError,
)
from bistro.protocol.archive import ArchiveReader
from bistro.protocol.opening import Fault, judge_header
from bistro.storage.durable import SYSTEM_DISK, Disk, ReadFile
from bistro.wire.header import SignedHeader
from bistro.wire.manifest import MAX_FILES
from bistro.wire.status import MAX_REASON_LENGTH
from bistro_server.services.collecting_files import digest_of

FIRST_CHUNK: Final = 65_536
CHUNK: Final = 1_048_576
_BLOCK: Final = 512
_LARGEST: Final = 1 << 40
_RESTORE: Final = "restore the file from a copy; nothing was decided about it"


@dataclass(frozen=True, slots=True)
class Reading:
    """What pass 1 found.

    Attributes:
        signed: ``submission.bin``, if one could be read.
        is_believed: Whether it is the one of the commitment and its signature holds.
        fault: What is wrong, if anything is.
    """

    signed: SignedHeader | None
    is_believed: bool
    fault: Fault | None


class Envelope:
    """A collected envelope on disk; every method blocks.

    Args:
        path: The file.
        envelope_hash: What was collected.
        disk: The system calls to use.
    """

    def __init__(self, path: Path, *, envelope_hash: bytes, disk: Disk = SYSTEM_DISK) -> None:
        self._path = path
        self._envelope_hash = envelope_hash
        self._disk = disk

    def open(self) -> ReadFile:
        """The file.

        Raises:
            StorageError: It is not there, or cannot be read.
        """
        try:
            return ReadFile.open(self._path, disk=self._disk)
        except UnknownObjectError as exc:
            raise StorageError(f"{self._path} is missing", hint=_RESTORE) from exc

    def require_undamaged(self) -> None:
        """Accept a file that is what was collected.

        Raises:
            StorageError: It has changed on our disk.
        """
        with self.open() as file:
            if digest_of(file) != self._envelope_hash:
                raise StorageError(f"{self._path} has changed on this disk", hint=_RESTORE)

    def read_submission(
        self,
        identities: Sequence[KeyIdentity],
        *,
        header_leaf: bytes,
        terms_hashes: Collection[bytes],
    ) -> Reading:
        """What its ``submission.bin`` says, decrypting no more than that.

        Raises:
            StorageError: Our own disk failed, or has changed the envelope.
        """
        found = self._read_signed(identities)
        if isinstance(found, Fault):
            self.require_undamaged()
            return Reading(None, is_believed=False, fault=found)
        fault = judge_header(found, header_leaf=header_leaf, terms_hashes=terms_hashes)
        return Reading(found, is_believed=_is_believed(found, header_leaf), fault=fault)

    def _read_signed(self, identities: Sequence[KeyIdentity]) -> SignedHeader | Fault:
        opener = Opener(identities)
        # Limits of the terms are for pass 2: what is superseded is not held against anybody.
        archive = ArchiveReader(files_limit=MAX_FILES, size_limit=_LARGEST)
        with self.open() as file:
            at = 0
            while True:
                chunk = file.read(offset=at, size=FIRST_CHUNK)
                at += len(chunk)
                try:
                    plain = opener.feed(chunk) if chunk else opener.finish()
                except (FormatError, VerificationError) as exc:
                    return undecryptable(exc)
                try:
                    _feed(archive, plain)
                    if not chunk and archive.signed is None:
                        archive.finish()
                except BistroError as exc:
                    return Fault.void("malformed", cut(exc.message))
                if archive.signed is not None:
                    return archive.signed


def _feed(archive: ArchiveReader, plain: bytes) -> None:
    """Feed block by block until the header is there: what follows it is for pass 2 to judge."""
    for at in range(0, len(plain), _BLOCK):
        if archive.signed is None:
            archive.feed(plain[at : at + _BLOCK])


def undecryptable(error: BistroError) -> Fault:
    """The verdict on an envelope that no key of the call opens, or that was altered."""
    return Fault.void("not-decryptable", cut(error.message))


def cut(text: str) -> str:
    """``text`` as long as a reason may be."""
    return text[:MAX_REASON_LENGTH]


def _is_believed(signed: SignedHeader, header_leaf: bytes) -> bool:
    try:
        signed.verify()
    except VerificationError:
        return False
    return signed.header.leaf == header_leaf
