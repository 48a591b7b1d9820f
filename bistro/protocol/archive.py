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
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from bistro.crypto.digest import BytesLike, sha256
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
    """Bytes of a filing's archive, padding included; no hash of a file matters."""
    size = len(_encode_head(signed.encode(), manifest.encode())) + len(tar.END)
    size += sum(tar.member_size(file.path, file.size) for file in manifest.files)
    return padme_size(size) if padding == "padme" else size


def _encode_head(submission: bytes, manifest: bytes) -> bytes:
    """Header and manifest, which stand first so that opening can read them alone."""
    return b"".join(
        tar.encode_header(name, len(content)) + content + bytes(tar.padding_size(len(content)))
        for name, content in ((HEADER_NAME, submission), (MANIFEST_NAME, manifest))
    )


class ArchiveWriter:
    """Writes a filing while its files are read, once; what stands first is written last.

    The head of an archive holds the hashes of its files, but its size does not depend on them.
    So files can be sealed while they are read, and the head when all are known. The driver calls
    for each file ``begin_file``, ``write`` as often as needed and ``end_file``, then ``finish``;
    what begin_file, end_file and finish return, with what is written between them, is the
    archive behind its head, which ``head`` gives at the end.

    Args:
        signed: A header of the size that the filing's will have; its manifest hash and its
            signature do not matter yet.
        manifest: The files that will be read, with their sizes; hashes do not matter yet.
    """

    def __init__(self, signed: SignedHeader, manifest: Manifest, *, padding: Padding) -> None:
        self._draft = manifest
        self._known: list[File] = []
        self._hash: hashlib._Hash | None = None
        self._written = 0
        self.head_size = len(_encode_head(signed.encode(), manifest.encode()))
        """Bytes of the head: the archive behind it can be written before it."""
        self.size = archive_size(signed, manifest, padding=padding)
        """Bytes that the whole archive will have."""
        self._size = self.head_size

    def begin_file(self) -> bytes:
        """What stands before the content of the draft's next file."""
        file = self._draft.files[len(self._known)]
        self._hash = hashlib.sha256()
        self._written = 0
        return self._count(tar.encode_header(file.path, file.size))

    def write(self, data: BytesLike) -> None:
        """Count and hash the next bytes of the current file.

        Raises:
            ConflictError: The file is larger than it was said to be.
        """
        if self._hash is None:
            raise ValueError("no file was begun")
        file = self._draft.files[len(self._known)]
        self._written += len(data)
        if self._written > file.size:
            raise changed(file.path, f"expected {file.size} bytes, found more")
        self._hash.update(data)
        self._size += len(data)

    def end_file(self) -> bytes:
        """What follows the current file's content.

        Raises:
            ConflictError: The file is smaller than it was said to be.
        """
        if self._hash is None:
            raise ValueError("no file was begun")
        file = self._draft.files[len(self._known)]
        if self._written != file.size:
            raise changed(file.path, f"expected {file.size} bytes, found {self._written}")
        self._known.append(replace(file, sha256=self._hash.digest()))
        self._hash = None
        return self._count(bytes(tar.padding_size(file.size)))

    def finish(self) -> Iterator[bytes]:
        """The end of the archive and its padding, in chunks."""
        yield tar.END
        yield from tar.zeros(self.size - self._size - len(tar.END))

    def manifest(self) -> Manifest:
        """The manifest, once every file was read."""
        return replace(self._draft, files=tuple(self._known))

    def head(self, signed: SignedHeader) -> bytes:
        """The first ``head_size`` bytes of the archive, with the filing's own header.

        Raises:
            VerificationError: The header names another manifest, or has another size.
        """
        manifest = self.manifest().encode()
        if sha256(manifest) != signed.header.manifest_sha256:
            raise VerificationError("manifest: expected the one that the header names")
        head = _encode_head(signed.encode(), manifest)
        if len(head) != self.head_size:
            raise VerificationError(f"head: expected {self.head_size} bytes, found {len(head)}")
        return head

    def _count(self, data: bytes) -> bytes:
        self._size += len(data)
        return data


def changed(path: str, how: str) -> ConflictError:
    """A file did not rest while it was read."""
    return ConflictError(
        f"file {path!a} changed while it was read: {how}",
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
