"""What the tar of a filing may hold, checked while it is written and before it is unpacked.

Members stand in this order: ``submission.bin``, ``manifest.json``, the files as the manifest
lists them. Whatever else a tar can hold is refused by ``bistro.protocol.tar``; names, sizes and
hashes are held against the manifest here, each before its bytes are given out, so that a driver
cannot be led outside its folder. Zeros may follow the end: Padmé padding hides the size.

Source: docs/spec/filing.md; Nikitin et al., *Reducing Metadata Leakage from Encrypted Files and
Communication with PURBs*, 2019 (Padmé).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from bistro.crypto.digest import sha256
from bistro.errors import ConflictError, FormatError, LimitExceededError, VerificationError
from bistro.protocol import tar
from bistro.wire.header import MAX_SIGNED_HEADER_SIZE, SignedHeader
from bistro.wire.manifest import MAX_MANIFEST_SIZE, File, Manifest, manifest_limit
from bistro.wire.terms import Padding

HEADER_NAME: Final = "submission.bin"
MANIFEST_NAME: Final = "manifest.json"


def padme_size(size: int) -> int:
    """The least Padmé size that ``size`` bytes fit in: at most 12 % more."""
    if size < 2:  # noqa: PLR2004  # log2 of the exponent needs at least 2
        return size
    exponent = size.bit_length() - 1
    low_bits = exponent - exponent.bit_length()
    mask = (1 << low_bits) - 1
    return (size + mask) & ~mask


def archive_size(signed: SignedHeader, manifest: Manifest, *, padding: Padding) -> int:
    """Bytes of a filing's archive, padding included, known before any file is read."""
    size = len(tar.END)
    size += tar.member_size(HEADER_NAME, len(signed.encode()))
    size += tar.member_size(MANIFEST_NAME, len(manifest.encode()))
    size += sum(tar.member_size(file.path, file.size) for file in manifest.files)
    return padme_size(size) if padding == "padme" else size


class ArchiveWriter:
    """Writes a filing as it is read for the second time, and notices every change since.

    The driver calls ``begin``, then for each file of the manifest in order ``begin_file``,
    ``write`` as often as needed and ``end_file``, then ``finish``; all that they return is the
    archive.

    Raises:
        VerificationError: The header names another manifest.
    """

    def __init__(self, signed: SignedHeader, manifest: Manifest, *, padding: Padding) -> None:
        self._submission = signed.encode()
        self._manifest = manifest.encode()
        if sha256(self._manifest) != signed.header.manifest_sha256:
            raise VerificationError("manifest: expected the one that the header names")
        self._files = iter(manifest.files)
        self._file: File | None = None
        self._hash = hashlib.sha256()
        self._written = 0
        self._size = 0
        self._whole_size = archive_size(signed, manifest, padding=padding)

    @property
    def size(self) -> int:
        """Bytes that the whole archive will have."""
        return self._whole_size

    def begin(self) -> bytes:
        """Header and manifest, which come first so that opening can read them alone."""
        return self._count(
            b"".join(
                tar.encode_header(name, len(content))
                + content
                + bytes(tar.padding_size(len(content)))
                for name, content in (
                    (HEADER_NAME, self._submission),
                    (MANIFEST_NAME, self._manifest),
                )
            )
        )

    def begin_file(self) -> bytes:
        """The header of the manifest's next file."""
        self._file = next(self._files)
        self._hash = hashlib.sha256()
        self._written = 0
        return self._count(tar.encode_header(self._file.path, self._file.size))

    def write(self, data: bytes) -> bytes:
        """The next bytes of the current file.

        Raises:
            ConflictError: The file has grown since it was read first.
        """
        file = self._current()
        self._written += len(data)
        if self._written > file.size:
            raise _changed(file, f"at least {self._written} bytes")
        self._hash.update(data)
        return self._count(data)

    def end_file(self) -> bytes:
        """What follows the current file's content.

        Raises:
            ConflictError: Its bytes are not those that were read first.
        """
        file = self._current()
        if self._written != file.size:
            raise _changed(file, f"{self._written} bytes")
        if self._hash.digest() != file.sha256:
            raise _changed(file, f"SHA-256 {self._hash.hexdigest()}")
        self._file = None
        return self._count(bytes(tar.padding_size(file.size)))

    def finish(self) -> Iterator[bytes]:
        """The end of the archive and its padding, in chunks."""
        yield tar.END
        yield from tar.zeros(self._whole_size - self._size - len(tar.END))

    def _current(self) -> File:
        if self._file is None:
            raise ValueError("no file was begun")
        return self._file

    def _count(self, data: bytes) -> bytes:
        self._size += len(data)
        return data


def _changed(file: File, found: str) -> ConflictError:
    return ConflictError(
        f"file {file.path!a} changed while it was read: expected {file.size} bytes with SHA-256 "
        f"{file.sha256.hex()}, found {found}",
        hint="nothing was promised yet; let the file rest and submit again",
    )


@dataclass(frozen=True, slots=True)
class HeaderRead:
    """``submission.bin`` is complete; its signature was not verified here."""

    signed: SignedHeader


@dataclass(frozen=True, slots=True)
class ManifestRead:
    """The manifest is the one that the header names, and within the limits."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class FileStart:
    """A file of the manifest begins."""

    file: File


@dataclass(frozen=True, slots=True)
class FileData:
    """The next bytes of the current file; not verified before ``FileEnd``."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FileEnd:
    """The current file has the size and hash that the manifest says."""

    file: File


ArchiveEvent: TypeAlias = "HeaderRead | ManifestRead | FileStart | FileData | FileEnd"


class ArchiveReader:
    """Reads the archive of a filing from chunks of any size.

    It holds at most one chunk and, until it has been read, the manifest.

    Args:
        files_limit: Of the terms.
        size_limit: Bytes all files may have together: the terms' ``envelope_limit``.
    """

    def __init__(self, *, files_limit: int, size_limit: int) -> None:
        self._files_limit = files_limit
        self._size_limit = size_limit
        self._tar = tar.TarReader()
        self._small = bytearray()
        self._signed: SignedHeader | None = None
        self._files: list[File] | None = None  # still to come, last one first
        self._file: File | None = None
        self._hash = hashlib.sha256()

    @property
    def signed(self) -> SignedHeader | None:
        """The header, once it was read: also after ``feed`` has raised over what follows it."""
        return self._signed

    def feed(self, chunk: bytes) -> list[ArchiveEvent]:
        """What the next bytes say, in order.

        Raises:
            FormatError: Not an archive of this form, or a member that the manifest does not list.
            LimitExceededError: More or larger files than the terms allow.
            VerificationError: The manifest is not the header's, or a file not the manifest's.
        """
        events: list[ArchiveEvent] = []
        for event in self._tar.feed(chunk):
            match event:
                case tar.MemberStart():
                    self._start(event, events)
                case tar.MemberData():
                    self._take(event.data, events)
                case tar.MemberEnd():
                    self._end(events)
                case tar.ArchiveEnd():
                    self._require_complete()
        return events

    def finish(self) -> None:
        """Check that the archive is complete.

        Raises:
            FormatError: It ended early.
        """
        self._tar.finish()

    def _start(self, start: tar.MemberStart, events: list[ArchiveEvent]) -> None:
        self._small.clear()
        if self._signed is None:
            _require_small(start, HEADER_NAME, MAX_SIGNED_HEADER_SIZE)
            return
        if self._files is None:
            _require_small(start, MANIFEST_NAME, MAX_MANIFEST_SIZE)
            # Before a byte of it is kept or parsed.
            require_manifest_size(start.size, files_limit=self._files_limit)
            return
        file = self._files.pop() if self._files else None
        if file is None or file.path != start.name:
            expected = "the end" if file is None else ascii(file.path)
            raise FormatError(f"archive: expected {expected}, found {start.name!a}")
        if file.size != start.size:
            raise VerificationError(
                f"file {file.path!a}: expected {file.size} bytes, found {start.size}"
            )
        self._file = file
        self._hash = hashlib.sha256()
        events.append(FileStart(file))

    def _take(self, data: bytes, events: list[ArchiveEvent]) -> None:
        if self._file is None:
            self._small += data
            return
        self._hash.update(data)
        events.append(FileData(data))

    def _end(self, events: list[ArchiveEvent]) -> None:
        if self._signed is None:
            self._signed = SignedHeader.decode(bytes(self._small))
            events.append(HeaderRead(self._signed))
        elif self._files is None:
            events.append(ManifestRead(self._read_manifest(self._signed)))
        elif self._file is not None:
            file, self._file = self._file, None
            if self._hash.digest() != file.sha256:
                raise VerificationError(
                    f"file {file.path!a}: expected SHA-256 {file.sha256.hex()}, "
                    f"found {self._hash.hexdigest()}"
                )
            events.append(FileEnd(file))

    def _read_manifest(self, signed: SignedHeader) -> Manifest:
        data = bytes(self._small)
        self._small.clear()
        if sha256(data) != signed.header.manifest_sha256:
            raise VerificationError(
                f"manifest: expected SHA-256 {signed.header.manifest_sha256.hex()}, "
                f"found {sha256(data).hex()}"
            )
        manifest = Manifest.decode(data)
        if signed.header.kind == "withdraw" and manifest.files:
            raise FormatError(f"withdrawal: expected no files, found {len(manifest.files)}")
        require_within_limits(manifest, files_limit=self._files_limit, size_limit=self._size_limit)
        self._files = list(reversed(manifest.files))
        return manifest

    def _require_complete(self) -> None:
        if self._files is None:
            raise FormatError(f"archive: expected {HEADER_NAME} and {MANIFEST_NAME}, found the end")
        if self._files:
            raise FormatError(f"archive: expected {self._files[-1].path!a}, found the end")


def require_within_limits(manifest: Manifest, *, files_limit: int, size_limit: int) -> None:
    """Check a manifest against the terms, before anything is sealed or unpacked.

    Raises:
        LimitExceededError: More or larger files than the terms allow.
    """
    if len(manifest.files) > files_limit:
        raise LimitExceededError(
            f"filing: expected at most {files_limit} files, found {len(manifest.files)}",
            hint="pack small files into one, or file them under several slots",
        )
    total = sum(file.size for file in manifest.files)
    if total > size_limit:
        raise LimitExceededError(
            f"filing: expected at most {size_limit} bytes, found {total}",
            hint="leave files out, or ask the destination for a larger limit",
        )


def require_manifest_size(size: int, *, files_limit: int) -> None:
    """Check a manifest's bytes against the terms, before it is sealed or parsed.

    Raises:
        LimitExceededError: More than files of that number need.
    """
    limit = manifest_limit(files_limit)
    if size > limit:
        raise LimitExceededError(
            f"manifest: expected at most {limit} bytes for {files_limit} files, found {size}",
            hint="shorten names, pack files into one, or file them under several slots",
        )


def _require_small(start: tar.MemberStart, name: str, limit: int) -> None:
    if start.name != name:
        raise FormatError(f"archive: expected {name}, found {start.name!a}")
    if start.size > limit:
        raise FormatError(f"{name}: expected at most {limit} bytes, found {start.size}")
