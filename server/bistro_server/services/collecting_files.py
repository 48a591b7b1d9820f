"""Fragments on their way in, as files; and bytes that a relay should not have sent.

```
collecting/<call>/lock                                        held by a running collect
collecting/<call>/fragments/<commitment>.<index>.<relay>      partial or whole; deleted when done
collecting/<call>/wrong/<commitment>.<index>.<relay>.*        proof against a relay, bounded
```

``<relay>`` is the beginning of the SHA-256 of its name: every relay's bytes stay apart, so that
it is known who gave which. What lies in a file is never believed: its hash is computed while it
is fetched, and again when the envelope is restored.

Source: docs/spec/collection.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bistro.crypto.digest import sha256
from bistro.crypto.treehash import TreeHash
from bistro.errors import UnknownObjectError
from bistro.storage.durable import (
    SYSTEM_DISK,
    AppendFile,
    Disk,
    ReadFile,
    delete_file,
    make_directories,
    storage_errors,
    sync_directory,
    write_atomically,
)
from bistro_server.services.folder import ServerFolder

CHUNK_SIZE: Final = 1_048_576
MAX_PROOFS: Final = 64
MAX_PROOF_BYTES: Final = 67_108_864
"""Wrong bytes that are kept for one call; after that only the fact, in the database."""


@dataclass(frozen=True, slots=True)
class CollectingFolder:
    """The paths of one call's collecting; knowing them makes nothing."""

    root: Path

    @classmethod
    def of(cls, folder: ServerFolder, call: str) -> CollectingFolder:
        """That of a call."""
        return cls(folder.root / "collecting" / call)

    @property
    def lock(self) -> Path:
        """Held by the one process that collects this call."""
        return self.root / "lock"

    @property
    def fragments(self) -> Path:
        """Fragments on their way in, and those that proved a submission inconsistent."""
        return self.root / "fragments"

    @property
    def wrong(self) -> Path:
        """What relays sent instead of what they had promised."""
        return self.root / "wrong"

    @property
    def opening_lock(self) -> Path:
        """Held by the one process that opens this call."""
        return self.root / "opening.lock"

    @property
    def minutes(self) -> Path:
        """Where the tree of the minutes is computed; derived, made anew."""
        return self.root / "minutes"


class FragmentFile:
    """One fragment while it is written; every method blocks.

    Small fragments are kept in memory until ``finish``, so that they cost one step.

    Attributes:
        offset: Bytes that are here.
        is_resumed: Whether some of them were written by an earlier process or connection.
    """

    def __init__(self, path: Path, *, offset: int, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        self._hash = TreeHash()
        self._file: AppendFile | None = None
        self._pending: list[bytes] = []
        self._pending_size = 0
        self.offset = offset
        self.is_resumed = offset > 0

    def add(self, piece: bytes) -> bool:
        """Take the next bytes; whether it is time to ``flush``."""
        self._pending.append(piece)
        self._pending_size += len(piece)
        self.offset += len(piece)
        return self._pending_size >= CHUNK_SIZE

    def flush(self) -> None:
        """Write what was added.

        Raises:
            StorageError: The disk failed.
        """
        pieces, self._pending, self._pending_size = self._pending, [], 0
        if self._file is None:
            self._file = self._open()
        for piece in pieces:
            self._hash.update(piece)
            self._file.append(piece)

    def finish(self) -> bytes:
        """Make everything durable; the tree hash of the whole file.

        Raises:
            StorageError: The disk failed.
        """
        self.flush()
        if self._file is not None:
            self._file.sync()
        return self._hash.digest()

    def close(self) -> None:
        """Give the descriptor back; what was flushed can be continued."""
        if self._file is not None:
            self._file.close()

    def _open(self) -> AppendFile:
        if not self.is_resumed:
            # A file of that name has bytes that are not continued: from before a fault.
            delete_file(self._path, disk=self._disk)
            return AppendFile.create(self._path, disk=self._disk)
        file = AppendFile.open(self._path, disk=self._disk)
        at = 0
        while chunk := file.read(offset=at, size=CHUNK_SIZE):
            self._hash.update(chunk)
            at += len(chunk)
        return file


class FragmentFiles:
    """The folder of fragments of one call; every method blocks.

    Args:
        folder: Its paths.
        disk: The system calls to use.
    """

    def __init__(self, folder: CollectingFolder, *, disk: Disk = SYSTEM_DISK) -> None:
        self._folder = folder
        self._disk = disk

    def prepare(self) -> None:
        """Make the folders."""
        make_directories(self._folder.fragments, disk=self._disk)
        make_directories(self._folder.wrong, disk=self._disk)

    def path(self, commitment: bytes, index: int, relay: str) -> Path:
        """Where the fragment that ``relay`` gives lies, or would lie."""
        return self._folder.fragments / _name(commitment, index, relay)

    def size(self, commitment: bytes, index: int, relay: str) -> int:
        """Bytes of it that are here."""
        path = self.path(commitment, index, relay)
        with storage_errors("look at", path):
            try:
                return path.stat().st_size
            except FileNotFoundError:
                return 0

    def begin(self, commitment: bytes, index: int, relay: str, *, offset: int) -> FragmentFile:
        """The file to continue from ``offset``, which is its size, or from 0."""
        return FragmentFile(self.path(commitment, index, relay), offset=offset, disk=self._disk)

    def open(self, commitment: bytes, index: int, relay: str) -> ReadFile:
        """The file for reading.

        Raises:
            UnknownObjectError: It is not there.
        """
        return ReadFile.open(self.path(commitment, index, relay), disk=self._disk)

    def delete(self, commitment: bytes, index: int, relay: str) -> None:
        """Drop it, if it is there."""
        delete_file(self.path(commitment, index, relay), disk=self._disk)

    def delete_all(self, commitment: bytes, indexes: range, relays: list[str]) -> None:
        """Drop all fragments of a submission; a crash leaves some, which ``sweep`` drops."""
        for relay in relays:
            for index in indexes:
                path = self.path(commitment, index, relay)
                with storage_errors("delete", path), suppress(FileNotFoundError):
                    self._disk.delete(path)

    def sync_names(self) -> None:
        """Make the names of new files durable."""
        sync_directory(self._folder.fragments, disk=self._disk)

    def commitments(self) -> Iterator[tuple[Path, bytes]]:
        """Every file and the commitment it belongs to, in no order."""
        for path in self._folder.fragments.iterdir():
            head = path.name.partition(".")[0]
            with suppress(ValueError):
                yield path, bytes.fromhex(head)

    def drop(self, path: Path) -> None:
        """Delete one file found by ``commitments``."""
        delete_file(path, disk=self._disk)

    def keep_as_proof(
        self, commitment: bytes, index: int, relay: str, *, claim: bytes, receipt: str | None
    ) -> bool:
        """Move wrong bytes aside, with claim and receipt; whether there was room for them.

        The files' times say when; the relay's name stands in the receipt, or beside it.
        """
        source = self.path(commitment, index, relay)
        kept = list(self._folder.wrong.glob("*.fragment"))
        total = sum(path.stat().st_size for path in kept)
        size = self.size(commitment, index, relay)
        if len(kept) >= MAX_PROOFS or total + size > MAX_PROOF_BYTES:
            delete_file(source, disk=self._disk)
            return False
        target = self._folder.wrong / _name(commitment, index, relay)
        text = relay if receipt is None else receipt
        write_atomically(target.with_name(target.name + ".claim"), claim, disk=self._disk)
        kind = ".relay" if receipt is None else ".receipt"
        write_atomically(target.with_name(target.name + kind), text.encode(), disk=self._disk)
        with storage_errors("rename", source):
            # A crash here leaves the fragment where it was: it is found wrong again.
            self._disk.rename(source, target.with_name(target.name + ".fragment"))
        sync_directory(self._folder.wrong, disk=self._disk)
        return True


def _name(commitment: bytes, index: int, relay: str) -> str:
    return f"{commitment.hex()}.{index}.{sha256(relay.encode())[:8].hex()}"


def digest_of(file: ReadFile) -> bytes:
    """Tree hash of a whole file."""
    found = TreeHash()
    at = 0
    while chunk := file.read(offset=at, size=CHUNK_SIZE):
        found.update(chunk)
        at += len(chunk)
    return found.digest()


def check_whole(files: FragmentFiles, commitment: bytes, index: int, relay: str) -> bytes | None:
    """Tree hash of a fragment that lies here; ``None`` if there is no such file."""
    try:
        with files.open(commitment, index, relay) as file:
            return digest_of(file)
    except UnknownObjectError:
        return None
