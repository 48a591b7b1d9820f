"""Makes an envelope of files: read twice, sealed once, cut into fragments, all in one thread.

The first pass hashes, so that header and manifest can stand in front; the second seals and
compares. Memory is constant: one chunk of a file, its ciphertext, and one row of fragments.
Everything is durable when ``seal`` returns, and only then may a ticket be asked for.

Source: docs/spec/filing.md, sealing; docs/spec/fragments.md, striping.
"""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import FileIO
from typing import Final

from bistro.crypto.sealing import Sealer, parse_recipient
from bistro.crypto.signing import sign_message
from bistro.protocol.archive import ArchiveWriter, require_manifest_size
from bistro.protocol.fragmenting import StripeSums, StripeWriter, fragment_size
from bistro.protocol.submission import Request, Sealed
from bistro.storage.durable import (
    SYSTEM_DISK,
    AppendFile,
    Disk,
    delete_file,
    make_directories,
    sync_directory,
    write_atomically,
)
from bistro.wire.fragment import Cut
from bistro.wire.header import NONCE_SIZE, SIGNATURE_PREFIX, Header, SignedHeader
from bistro.wire.manifest import MAX_TYPE_LENGTH, File, Manifest
from bistro.wire.terms import SignedTerms, Terms
from bistro_client import messages
from bistro_client.gathering import Source
from bistro_client.home import Folder
from bistro_client.keyring import FilerKey
from bistro_client.listening import SILENT, Listener, Task

CHUNK_SIZE: Final = 1_048_576
_UNKNOWN_TYPE: Final = "application/octet-stream"
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*")
_SPARE_SIZE: Final = 1_048_576
"""Room for journal, manifest, receipts and evidence beside the fragments."""


class Stopped(Exception):  # noqa: N818 - no error: somebody asked for it
    """The work was asked to stop; it left nothing that counts."""


@dataclass(slots=True)
class Watch:
    """What a thread at work is watched and stopped by."""

    listener: Listener = SILENT
    stop: threading.Event | None = None

    def done(self, task: Task, size: int) -> None:
        """``size`` more bytes are done.

        Raises:
            Stopped: Somebody wants no more of them.
        """
        if self.stop is not None and self.stop.is_set():
            raise Stopped
        self.listener.advance(task, size)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be sealed, and for whom.

    Attributes:
        terms: The terms that were verified.
        nonce: 32 secret random bytes, for this envelope only.
    """

    request: Request
    sources: tuple[Source, ...]
    terms: SignedTerms
    key: FilerKey
    nonce: bytes

    @classmethod
    def new(
        cls, request: Request, sources: Sequence[Source], terms: SignedTerms, key: FilerKey
    ) -> Order:
        """An order with a nonce of its own."""
        nonce = secrets.token_bytes(NONCE_SIZE)
        return cls(request, tuple(sources), terms, key, nonce)


def seal(
    order: Order, folder: Folder, *, disk: Disk = SYSTEM_DISK, watch: Watch | None = None
) -> Sealed:
    """Make header, manifest and fragments, durable in ``folder``; blocks.

    What an earlier attempt left there is thrown away: nobody was promised anything about it.

    Raises:
        ConflictError: A file changed while it was read; the message names it.
        LimitExceededError: Envelope or manifest would be larger than the terms allow.
        SettingsError: A file cannot be read.
        StorageError: The disk is full or failed.
        Stopped: ``watch`` says so.
    """
    watch = watch or Watch()
    terms = order.terms.terms
    manifest = _read_manifest(order, watch)
    require_manifest_size(len(manifest.encode()), files_limit=terms.files_limit)
    signed = _sign(order, manifest)
    sealer = Sealer([parse_recipient(text) for text in terms.recipients])
    archive = ArchiveWriter(signed, manifest, padding=terms.padding)
    _require_room(sealer.envelope_size(archive.size), terms, folder)
    clear_spool(folder, disk=disk)
    make_directories(folder.spool, disk=disk)
    watch.listener.begin(Task.SEALING, archive.size)
    with ExitStack() as stack:
        files = [
            stack.enter_context(AppendFile.create(folder.fragment(index), disk=disk))
            for index in range(terms.spread.n)
        ]
        press = _Press(sealer, terms, files)
        press.begin()
        for chunk in _archive_chunks(archive, order.sources, manifest.files):
            press.add(chunk)
            watch.done(Task.SEALING, len(chunk))
        cut = press.finish()
    # A crash here leaves whole fragments whose names may vanish; the journal says ``sealing``.
    sync_directory(folder.spool, disk=disk)
    write_atomically(folder.file_key, base64.b64encode(sealer.file_key) + b"\n", disk=disk)
    write_atomically(folder.header, signed.encode(), disk=disk)
    write_atomically(folder.manifest, manifest.encode(), disk=disk)
    watch.listener.end(Task.SEALING)
    return Sealed(signed, cut, order.terms.encode().decode())


def clear_spool(folder: Folder, *, disk: Disk = SYSTEM_DISK) -> None:
    """Delete all fragments: before sealing, and when nobody can ask for them any more."""
    if folder.spool.is_dir():
        for path in folder.spool.iterdir():
            delete_file(path, disk=disk)


class _Press:
    """Plaintext in, fragments on disk out: seal, cut, hash, write.

    Args:
        files: One for each fragment, empty.
    """

    def __init__(self, sealer: Sealer, terms: Terms, files: Sequence[AppendFile]) -> None:
        k, n = terms.spread.k, terms.spread.n
        self._sealer = sealer
        self._stripes = StripeWriter(k=k, n=n)
        self._sums = StripeSums(k=k, n=n)
        self._files = files
        self._buffer = bytearray()

    def begin(self) -> None:
        """The envelope's header."""
        self._cut(self._sealer.header())

    def add(self, chunk: bytes) -> None:
        """The next bytes of the archive."""
        room = self._sealer.room_for(len(chunk))
        if len(self._buffer) < room:
            # One buffer is used again and again: fresh memory costs as much as the cipher.
            self._buffer = bytearray(room)
        size = self._sealer.update_into(chunk, self._buffer)
        with memoryview(self._buffer) as view:
            self._cut(bytes(view[:size]))

    def finish(self) -> Cut:
        """The envelope's end; every fragment is on the medium when this returns."""
        self._cut(self._sealer.finish())
        pieces = self._stripes.finish()
        self._sums.add(b"", pieces)
        for file, piece in zip(self._files, pieces, strict=True):
            file.append(piece)
            file.sync()
        return self._sums.cut()

    def _cut(self, envelope: bytes) -> None:
        pieces = self._stripes.feed(envelope)
        self._sums.add(envelope, pieces)
        for file, piece in zip(self._files, pieces, strict=True):
            if piece:
                file.append(piece)


def _read_manifest(order: Order, watch: Watch) -> Manifest:
    """The first pass: every file's size and hash."""
    total = sum(source.size for source in order.sources)
    watch.listener.begin(Task.READING, total)
    read = 0

    def count(size: int) -> None:
        nonlocal read
        read += size
        # A file that grows while it is read must not be read for ever.
        if read > order.terms.terms.envelope_limit:
            raise messages.too_large(read, order.terms.terms.envelope_limit)
        watch.done(Task.READING, size)

    files = tuple(_read_file(source, count) for source in order.sources)
    watch.listener.end(Task.READING)
    return Manifest(files, form=order.request.form)


def _read_file(source: Source, count: Callable[[int], None]) -> File:
    digest = hashlib.sha256()
    size = 0
    with _opened(source) as file:
        while chunk := file.read(CHUNK_SIZE):
            digest.update(chunk)
            size += len(chunk)
            count(len(chunk))
    return File(source.path, size, _media_type(source.path), digest.digest())


def _media_type(path: str) -> str:
    guessed = (mimetypes.guess_type(path)[0] or "").lower()
    is_good = len(guessed) <= MAX_TYPE_LENGTH and _MEDIA_TYPE.fullmatch(guessed)
    return guessed if is_good else _UNKNOWN_TYPE


def _sign(order: Order, manifest: Manifest) -> SignedHeader:
    request = order.request
    header = Header(
        terms_hash=order.terms.hash,
        manifest_sha256=manifest.digest,
        filer_key=order.key.public,
        slot=request.slot,
        kind=request.kind,
        previous=request.previous,
        nonce=order.nonce,
    )
    signature = sign_message(order.key.private, SIGNATURE_PREFIX, header.encode())
    return SignedHeader(header, signature)


def _require_room(envelope_size: int, terms: Terms, folder: Folder) -> None:
    """Refuse what the terms or the disk have no room for, before it is half written."""
    if envelope_size > terms.envelope_limit:
        raise messages.too_large(envelope_size, terms.envelope_limit)
    needed = fragment_size(envelope_size, terms.spread.k) * terms.spread.n + _SPARE_SIZE
    free = shutil.disk_usage(folder.path).free + _spooled_size(folder)
    if needed > free:
        raise messages.disk_too_small(folder.path, needed=needed, free=free)


def _spooled_size(folder: Folder) -> int:
    """Bytes of an earlier attempt, which will be deleted first."""
    if not folder.spool.is_dir():
        return 0
    return sum(path.stat().st_size for path in folder.spool.iterdir())


def _archive_chunks(
    archive: ArchiveWriter, sources: Sequence[Source], files: Sequence[File]
) -> Iterator[bytes]:
    """The second pass: the whole archive, every file compared with what was read first."""
    yield archive.begin()
    for source, file in zip(sources, files, strict=True):
        yield archive.begin_file()
        with _opened(source) as stream:
            # One byte more than expected, so that growth shows instead of being cut off.
            left = file.size + 1
            while left and (chunk := stream.read(min(CHUNK_SIZE, left))):
                left -= len(chunk)
                yield archive.write(chunk)
        yield archive.end_file()
    yield from archive.finish()


@contextmanager
def _opened(source: Source) -> Iterator[FileIO]:
    """A source open for reading; whatever its reading raises names the file."""
    try:
        with source.disk.open("rb", buffering=0) as file:
            yield file
    except FileNotFoundError as exc:
        raise messages.vanished(source.disk) from exc
    except OSError as exc:
        raise messages.unreadable(source.disk, exc) from exc
