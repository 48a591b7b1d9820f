"""Makes an envelope of files: read once, sealed and cut while they are read.

Header and manifest stand first in an envelope and hold the hashes of the files behind them, so
they are sealed last: their size is known before. One thread reads and hashes, another seals,
and all cores code, write and hash the rows of the envelope. Memory is constant: a few buffers,
and what stands first. Everything is durable when ``seal`` returns, and only then may a ticket be
asked for.

Source: docs/spec/filing.md, sealing; docs/spec/fragments.md, striping.
"""

from __future__ import annotations

import base64
import mimetypes
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import FileIO
from typing import Final

from bistro.crypto.digest import HASH_SIZE
from bistro.crypto.keys import SIGNATURE_SIZE
from bistro.crypto.sealing import Sealer, parse_recipient
from bistro.crypto.signing import sign_message
from bistro.protocol.archive import ArchiveWriter, changed, require_manifest_size
from bistro.protocol.fragmenting import fragment_size
from bistro.protocol.submission import Request, Sealed
from bistro.storage.durable import (
    SYSTEM_DISK,
    Disk,
    delete_file,
    make_directories,
    sync_directory,
    write_atomically,
)
from bistro.wire.fragment import UNIT_SIZE
from bistro.wire.header import NONCE_SIZE, SIGNATURE_PREFIX, Header, SignedHeader
from bistro.wire.manifest import MAX_TYPE_LENGTH, File, Manifest
from bistro.wire.terms import SignedTerms, Terms
from bistro_client import messages
from bistro_client.gathering import Source
from bistro_client.home import Folder
from bistro_client.keyring import FilerKey
from bistro_client.listening import SILENT, Listener, Task
from bistro_client.milling import Mill
from bistro_client.pressing import Lead, Press
from bistro_client.slabs import Belt
from bistro_client.spool import Spool

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
    draft = _draft_manifest(order)
    require_manifest_size(len(draft.encode()), files_limit=terms.files_limit)
    unsigned = SignedHeader(_header(order, draft), bytes(SIGNATURE_SIZE))
    archive = ArchiveWriter(unsigned, draft, padding=terms.padding)
    lead = Lead.of(head_size=archive.head_size, archive_size=archive.size)
    recipients = [parse_recipient(text) for text in terms.recipients]
    sealer = Sealer(recipients, held_count=lead.held_count)
    envelope_size = sealer.envelope_size(archive.size)
    _require_room(envelope_size, terms, folder)
    clear_spool(folder, disk=disk)
    make_directories(folder.spool, disk=disk)
    watch.listener.begin(Task.SEALING, sum(source.size for source in order.sources))
    with ExitStack() as stack:
        paths = [folder.fragment(index) for index in range(terms.spread.k)]
        spool = stack.enter_context(Spool(paths, disk=disk))
        row_size = terms.spread.k * UNIT_SIZE
        mill = Mill(
            terms.spread,
            spool,
            first_row=lead.first_row(sealer, row_size=row_size),
            buffer_size=Press.buffer_size(row_size),
        )
        press = Press(sealer, lead, stack.enter_context(mill))
        signed = _press(order, archive, press, lead.size, watch)
        cut = mill.sums().cut(envelope_size)
        spool.begin_sync()
        spool.end_sync()
    # A crash here leaves whole fragments whose names may vanish; the journal says ``sealing``.
    sync_directory(folder.spool, disk=disk)
    write_atomically(folder.file_key, base64.b64encode(sealer.file_key) + b"\n", disk=disk)
    write_atomically(folder.header, signed.encode(), disk=disk)
    write_atomically(folder.manifest, archive.manifest().encode(), disk=disk)
    watch.listener.end(Task.SEALING)
    return Sealed(signed, cut, order.terms.encode().decode())


def _press(
    order: Order, archive: ArchiveWriter, press: Press, lead_size: int, watch: Watch
) -> SignedHeader:
    """Read every file once, into the spool; the header that was sealed with them."""
    lead = bytearray(lead_size)
    with ThreadPoolExecutor(1) as pool:
        belt = Belt(lead, lead_at=archive.head_size, take=press.add, pool=pool)
        for source in order.sources:
            _read_file(source, archive, belt, watch)
        for chunk in archive.finish():
            belt.put(chunk)
        belt.finish()
    manifest = archive.manifest()
    header = _header(order, manifest)
    signed = SignedHeader(
        header, sign_message(order.key.private, SIGNATURE_PREFIX, header.encode())
    )
    lead[: archive.head_size] = archive.head(signed)
    press.finish(memoryview(lead))
    return signed


def clear_spool(folder: Folder, *, disk: Disk = SYSTEM_DISK) -> None:
    """Delete all fragments: before sealing, and when nobody can ask for them any more."""
    if folder.spool.is_dir():
        for path in folder.spool.iterdir():
            delete_file(path, disk=disk)


def _draft_manifest(order: Order) -> Manifest:
    """The manifest of files that nobody has read yet: as long as the one that will be sealed."""
    files = (
        File(source.path, source.size, _media_type(source.path), bytes(HASH_SIZE))
        for source in order.sources
    )
    return Manifest(tuple(files), form=order.request.form)


def _media_type(path: str) -> str:
    guessed = (mimetypes.guess_type(path)[0] or "").lower()
    is_good = len(guessed) <= MAX_TYPE_LENGTH and _MEDIA_TYPE.fullmatch(guessed)
    return guessed if is_good else _UNKNOWN_TYPE


def _header(order: Order, manifest: Manifest) -> Header:
    request = order.request
    return Header(
        terms_hash=order.terms.hash,
        manifest_sha256=manifest.digest,
        filer_key=order.key.public,
        slot=request.slot,
        kind=request.kind,
        previous=request.previous,
        nonce=order.nonce,
    )


def _require_room(envelope_size: int, terms: Terms, folder: Folder) -> None:
    """Refuse what the terms or the disk have no room for, before it is half written."""
    if envelope_size > terms.envelope_limit:
        raise messages.too_large(envelope_size, terms.envelope_limit)
    needed = fragment_size(envelope_size, terms.spread.k) * terms.spread.k + _SPARE_SIZE
    free = shutil.disk_usage(folder.path).free + _spooled_size(folder)
    if needed > free:
        raise messages.disk_too_small(folder.path, needed=needed, free=free)


def _spooled_size(folder: Folder) -> int:
    """Bytes of an earlier attempt, which will be deleted first."""
    if not folder.spool.is_dir():
        return 0
    return sum(path.stat().st_size for path in folder.spool.iterdir())


def _read_file(source: Source, archive: ArchiveWriter, belt: Belt, watch: Watch) -> None:
    """Read a file to its end and put it on the belt, hashed.

    Raises:
        ConflictError: Somebody wrote to it meanwhile, or since its size was taken.
    """
    belt.put(archive.begin_file())
    with _opened(source) as stream:
        before = os.fstat(stream.fileno())
        left = source.size
        while left and (size := stream.readinto(room := belt.room()[:left])):
            archive.write(room[:size])
            belt.filled(size)
            left -= size
            watch.done(Task.SEALING, size)
        # One byte more, so that growth shows instead of being cut off.
        archive.write(stream.read(1))
        after = os.fstat(stream.fileno())
    belt.put(archive.end_file())
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise changed(source.path, "it was written to meanwhile")


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
