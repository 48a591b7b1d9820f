"""Pass 2 of opening: unpacks an envelope into a private folder, then moves it to the inbox.

``inbox/<call>/.<commitment>.unpacking`` appears first; it gets the name ``<commitment>`` when
every byte was checked and is durable. A crash leaves a hidden folder that the next opening
removes, or a complete filing.

Names come from a filer who may mean harm. The manifest's rules admit relative paths of plain
segments only; here each file is created new, in folders that were just made inside a private
one, so that nothing that exists is written or followed.

Source: docs/spec/opening.md, inbox; docs/spec/filing.md.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from bistro.crypto.age.keys import KeyIdentity
from bistro.crypto.sealing import Opener
from bistro.errors import (
    BistroError,
    FormatError,
    LimitExceededError,
    StorageError,
    VerificationError,
)
from bistro.protocol.archive import (
    ArchiveEvent,
    ArchiveReader,
    FileData,
    FileEnd,
    FileStart,
    HeaderRead,
    ManifestRead,
)
from bistro.protocol.opening import Fault
from bistro.storage.durable import (
    SYSTEM_DISK,
    TEMPORARY_SUFFIX,
    AppendFile,
    Disk,
    delete_file,
    make_directories,
    read_file,
    storage_errors,
    sync_directory,
    write_atomically,
)
from bistro.wire.manifest import MAX_MANIFEST_SIZE, Manifest
from bistro.wire.terms import Terms
from bistro_server.services.opening_reading import CHUNK, Envelope, cut, undecryptable
from bistro_server.store.opening import Unpacked

FILES: Final = "files"
MANIFEST: Final = "manifest.json"
_HIDDEN: Final = ".unpacking"


class Inbox:
    """The folder of opened filings of one call; every method blocks.

    Args:
        root: The folder.
        disk: The system calls to use.
    """

    def __init__(self, root: Path, *, disk: Disk = SYSTEM_DISK) -> None:
        self.root = root
        self._disk = disk

    def prepare(self) -> None:
        """Make the folder, and remove what a crash left unfinished."""
        make_directories(self.root, disk=self._disk)
        for path in self.root.glob(f".*{_HIDDEN}"):
            self._discard(path)
        self.sweep(self.root)

    def sweep(self, folder: Path) -> None:
        """Remove files that a crash left unfinished in a folder."""
        for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
            delete_file(path, disk=self._disk)

    def place(self, commitment: bytes) -> Path:
        """Where a filing lies, or would lie."""
        return self.root / commitment.hex()

    def read_manifest(self, commitment: bytes) -> bytes | None:
        """The manifest of a filing that lies here."""
        path = self.place(commitment) / MANIFEST
        return read_file(path, max_size=MAX_MANIFEST_SIZE, disk=self._disk)

    def find(self, commitment: bytes) -> Unpacked | None:
        """What lies here of a filing: all of it or nothing."""
        data = self.read_manifest(commitment)
        return None if data is None else _summary(Manifest.decode(data))

    def unpack(
        self,
        commitment: bytes,
        envelope: Envelope,
        identities: Sequence[KeyIdentity],
        terms: Terms,
    ) -> Unpacked | Fault:
        """Unpack one envelope; on return it lies here durably, or nothing does.

        Args:
            commitment: The submission.
            envelope: Its envelope.
            identities: Keys of the call.
            terms: The version that the header names: its limits hold.

        Raises:
            StorageError: Our own disk failed, or has changed the envelope.
        """
        if (found := self.find(commitment)) is not None:
            return found  # a crash came between the move and its record
        hidden = self.root / f".{commitment.hex()}{_HIDDEN}"
        self._discard(hidden)
        try:
            unpacked = self._unpack(hidden, envelope, identities, terms)
        except BaseException:
            self._discard(hidden)
            raise
        if isinstance(unpacked, Fault):
            self._discard(hidden)
            envelope.require_undamaged()
            return unpacked
        with storage_errors("move", hidden):
            # A crash here leaves a hidden folder, or the filing, whole.
            self._disk.rename(hidden, self.place(commitment))
        sync_directory(self.root, disk=self._disk)
        return unpacked

    def _unpack(
        self,
        hidden: Path,
        envelope: Envelope,
        identities: Sequence[KeyIdentity],
        terms: Terms,
    ) -> Unpacked | Fault:
        opener = Opener(identities)
        archive = ArchiveReader(files_limit=terms.files_limit, size_limit=terms.envelope_limit)
        with ExitStack() as stack:
            file = stack.enter_context(envelope.open())
            tree = stack.enter_context(_Tree(hidden, self._disk))
            at, chunk = 0, b"-"
            while chunk:
                chunk = file.read(offset=at, size=CHUNK)
                at += len(chunk)
                try:
                    plain = opener.feed(chunk) if chunk else opener.finish()
                except (FormatError, VerificationError) as exc:
                    return undecryptable(exc)
                try:
                    events = archive.feed(plain)
                    if not chunk:
                        archive.finish()
                except (FormatError, VerificationError, LimitExceededError) as exc:
                    return _verdict(exc)
                for event in events:
                    tree.take(event)
            return tree.finish()

    def _discard(self, path: Path) -> None:
        if path.exists():
            with storage_errors("remove", path):
                shutil.rmtree(path)


def _verdict(error: BistroError) -> Fault:
    """What a fault of the archive means for the submission."""
    text = cut(error.message)
    if isinstance(error, LimitExceededError):
        return Fault.rejected("limit-exceeded", text)
    if isinstance(error, VerificationError):
        return Fault.rejected("manifest-mismatch", text)
    return Fault.rejected("malformed", text)


class _Tree:
    """The hidden folder of one filing while it is filled."""

    def __init__(self, root: Path, disk: Disk) -> None:
        self._root = root
        self._disk = disk
        self._directories: set[Path] = set()
        self._manifest: Manifest | None = None
        self._file: AppendFile | None = None
        self._make(root)
        self._make(root / FILES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._file is not None:
            self._file.close()

    def take(self, event: ArchiveEvent) -> None:
        """Do what an event of the archive asks for."""
        match event:
            case HeaderRead():
                pass
            case ManifestRead(manifest):
                self._manifest = manifest
                # The decoder admits one encoding only, so this is the manifest verbatim.
                write_atomically(
                    self._root / MANIFEST, manifest.encode(), disk=self._disk, sync_name=False
                )
            case FileStart(file):
                self._file = self._create(file.path)
            case FileData(data):
                self._require_file().append(data)
            case FileEnd():
                done, self._file = self._require_file(), None
                done.sync()
                done.close()

    def finish(self) -> Unpacked:
        """Make all names durable."""
        if self._manifest is None:
            raise ValueError("the archive has ended without a manifest")
        for directory in sorted(self._directories, key=lambda path: -len(path.parts)):
            sync_directory(directory, disk=self._disk)
        return _summary(self._manifest)

    def _create(self, path: str) -> AppendFile:
        target = self._root / FILES
        *folders, name = path.split("/")
        for folder in folders:
            target /= folder
            self._make(target)
        # Fails where the name is taken: a file system may take two names for the same.
        return AppendFile.create(target / name, disk=self._disk)

    def _make(self, directory: Path) -> None:
        if directory not in self._directories:
            with storage_errors("make directory", directory):
                self._disk.make_directory(directory)
            self._directories.add(directory)

    def _require_file(self) -> AppendFile:
        if self._file is None:
            raise StorageError(f"{self._root}: a file was expected to be open")
        return self._file


def _summary(manifest: Manifest) -> Unpacked:
    size = sum(file.size for file in manifest.files)
    return Unpacked(manifest.form, len(manifest.files), size)
