"""Makes an envelope of files: read once, sealed and cut while they are read.

Header and manifest stand first in an envelope and hold the hashes of the files behind them, so
they are sealed last: their size is known before. All cores work on what lies behind them
(``bistro_client.milling``). Memory is constant: a few buffers, and what stands first. Everything
is durable when ``seal`` returns, and only then may a ticket be asked for.

Source: docs/spec/filing.md, sealing; docs/spec/fragments.md, striping.
"""

from __future__ import annotations

import base64
import mimetypes
import re
import secrets
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from bistro.crypto.digest import HASH_SIZE
from bistro.crypto.keys import SIGNATURE_SIZE
from bistro.crypto.sealing import Sealer, parse_recipient
from bistro.crypto.signing import sign_message
from bistro.protocol.archive import ArchiveWriter, require_manifest_size
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
from bistro.wire.fragment import Cut
from bistro.wire.header import NONCE_SIZE, SIGNATURE_PREFIX, Header, SignedHeader
from bistro.wire.manifest import MAX_TYPE_LENGTH, File, Manifest
from bistro.wire.terms import SignedTerms, Terms
from bistro_client import messages
from bistro_client.feeding import Feed
from bistro_client.gathering import Source
from bistro_client.home import Folder
from bistro_client.keyring import FilerKey
from bistro_client.leading import Lead
from bistro_client.listening import SILENT, Listener, Task
from bistro_client.milling import Mill
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
    paths = [folder.fragment(index) for index in range(terms.spread.k)]
    with Spool(paths, disk=disk) as spool:
        mill = Mill(terms.spread, sealer, lead, spool, archive_size=archive.size)
        signed, cut = _mill(order, archive, mill, lead.size, watch)
        spool.sync()
    # A crash here leaves whole fragments whose names may vanish; the journal says ``sealing``.
    sync_directory(folder.spool, disk=disk)
    key = base64.b64encode(sealer.file_key) + b"\n"
    write_atomically(folder.file_key, key, disk=disk, sync_name=False)
    write_atomically(folder.header, signed.encode(), disk=disk, sync_name=False)
    # The last makes the names of all three durable: they lie in one folder.
    write_atomically(folder.manifest, archive.manifest().encode(), disk=disk)
    watch.listener.end(Task.SEALING)
    return Sealed(signed, cut, order.terms.encode().decode())


def _mill(
    order: Order, archive: ArchiveWriter, mill: Mill, lead_size: int, watch: Watch
) -> tuple[SignedHeader, Cut]:
    """Read every file once, into the spool; the header that was sealed with them."""
    lead = bytearray(lead_size)
    with Feed(order.sources, archive, partial(watch.done, Task.SEALING)) as feed:
        feed.fill(memoryview(lead)[archive.head_size :])
        mill.run(feed)
    manifest = archive.manifest()
    header = _header(order, manifest)
    signed = SignedHeader(
        header, sign_message(order.key.private, SIGNATURE_PREFIX, header.encode())
    )
    lead[: archive.head_size] = archive.head(signed)
    return signed, mill.finish(memoryview(lead))


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
