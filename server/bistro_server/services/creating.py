"""Makes servers and calls: folders, keys, signed terms, entry 0 of a call's log.

A call is made under a hidden name and appears by two renames, keys first, so that nobody ever
sees half of one. What a crash leaves behind is named by the error of the next attempt.

Source: docs/spec/terms.md; docs/spec/commands.md, bistro-server.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from bistro.clock import Clock
from bistro.crypto.keyfile import decode_note_key, encode_note_key
from bistro.crypto.sealing import encode_identity_file, generate_identity
from bistro.crypto.signing import SigningKey, VerifierKey
from bistro.errors import ConflictError, SettingsError
from bistro.ids import Origin, require_host_name
from bistro.instant import UnixMillis
from bistro.storage.durable import (
    make_directories,
    storage_errors,
    sync_directory,
    well_formed,
    write_atomically,
)
from bistro.wire.clauses import Authority, Keys, Relay, Spread
from bistro.wire.terms import Filers as WhoFiles
from bistro.wire.terms import SealedUntil, SignedTerms, Terms, build
from bistro_server.services.authority import make_authority
from bistro_server.services.calls import Call
from bistro_server.services.folder import CallFolder, ServerFolder, require_file
from bistro_server.services.ledgers import begin_log


def init_server(folder: ServerFolder, *, name: str, settings: str, now: UnixMillis) -> VerifierKey:
    """Make a server's folders and keys; the vkey that clients will pin.

    Args:
        folder: May exist, but no server may be in it.
        name: The server's name.
        settings: The text of its settings file.
        now: From when the certificate of its time stamps is valid.

    Raises:
        FormatError: ``name`` is no host name.
        ConflictError: There is a server, or a part of one, already.
        StorageError: The disk failed; what was made is named by the next attempt.
    """
    require_host_name(name)
    for path in (folder.settings_file, folder.terms_key):
        if path.exists():
            raise ConflictError(
                f"{path} exists already: a server is not made twice",
                hint="choose another folder; a key that is gone cannot be made again",
            )
    for directory in folder.directories:
        make_directories(directory)
    key = SigningKey.generate(name)
    write_atomically(folder.terms_key, encode_note_key(key))
    make_authority(folder, name=name, now=now)
    # Last: only a folder with settings is a server.
    write_atomically(folder.settings_file, settings.encode())
    return key.verifier


def load_terms_key(folder: ServerFolder, *, name: str) -> SigningKey:
    """The key that signs terms.

    Raises:
        SettingsError: There is none, or it is that of another server.
        StorageError: The file is damaged.
    """
    data = require_file(folder.terms_key, what="terms key", hint="restore it from a copy")
    with well_formed(folder.terms_key, hint="restore it from a copy"):
        key = decode_note_key(data)
    if key.verifier.name != name:
        raise SettingsError(
            f"{folder.terms_key}: expected the key of {name}, found that of {key.verifier.name}",
            hint="correct name in the settings file",
        )
    return key


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the operator decides about a new call; the rest follows."""

    origin: Origin
    title: str
    opens: UnixMillis
    closes: UnixMillis
    grace_ms: int
    stage_by: UnixMillis
    repair_by: UnixMillis
    sealed_until: SealedUntil
    time_zone: str
    envelope_limit: int
    files_limit: int
    spread: Spread
    relays: tuple[Relay, ...]
    filers: WhoFiles = "anyone"
    tickets_per_filer: int | None = None
    timestamping: tuple[Authority, ...] = ()


def require_possible(folder: CallFolder) -> None:
    """Accept the place of a new call.

    Raises:
        ConflictError: The call exists, or keys of that name do.
    """
    if folder.root.exists():
        raise ConflictError(
            f"call {folder.call} exists already", hint="a call is never edited; choose another id"
        )
    if folder.keys.exists():
        # Made anew over these keys, a log could contradict one that was published before.
        raise ConflictError(
            f"{folder.keys} exists already, but no call {folder.call}",
            hint="if making the call was interrupted, remove that folder; else choose another id",
        )


async def create_call(
    folder: CallFolder,
    plan: Plan,
    terms_key: SigningKey,
    clock: Clock,
    *,
    recipient_kind: str,
    error_limit_ms: int,
) -> SignedTerms:
    """Make a call: keys, terms version 1, and its entry in the call's log; all durable.

    Args:
        folder: Where it goes.
        plan: What the operator decided.
        terms_key: Signs the terms.
        clock: Stamps entry 0.
        recipient_kind: ``hybrid`` or ``x25519``.
        error_limit_ms: The largest clock error with which to stamp.

    Raises:
        ConflictError: See ``require_possible``.
        FormatError: The terms would contradict themselves.
        UnavailableError: The clock may not stamp.
        StorageError: The disk failed.
    """
    require_possible(folder)
    draft = _HiddenCall(folder.server, folder.call, secrets.token_hex(4))
    try:
        call = await asyncio.to_thread(_prepare, draft, plan, terms_key, recipient_kind)
        await begin_log(call, clock, error_limit_ms=error_limit_ms)
    except BaseException:
        draft.discard()
        raise
    # A crash before the first rename leaves hidden folders that nobody reads; between the two,
    # keys without a call, of which nothing was published.
    for source, target in ((draft.keys, folder.keys), (draft.root, folder.root)):
        with storage_errors("rename", source):
            await asyncio.to_thread(source.rename, target)
        await asyncio.to_thread(sync_directory, target.parent)
    return call.latest


@dataclass(frozen=True, slots=True)
class _HiddenCall(CallFolder):
    """The same paths under names that no reader looks at."""

    mark: str

    @property
    def root(self) -> Path:
        """Terms and ledgers in the making."""
        return self.server.calls / f".{self.call}.{self.mark}"

    @property
    def keys(self) -> Path:
        """Keys in the making."""
        return self.server.keys / f".{self.call}.{self.mark}"

    def discard(self) -> None:
        """Remove all of it."""
        for path in (self.root, self.keys):
            shutil.rmtree(path, ignore_errors=True)


def _prepare(draft: _HiddenCall, plan: Plan, terms_key: SigningKey, recipient_kind: str) -> Call:
    """Write keys and signed terms into the hidden folders; blocks."""
    origin = plan.origin
    keys = {
        "log": SigningKey.generate(str(origin)),
        "status": SigningKey.generate(origin.status),
        "collect": SigningKey.generate(origin.collect),
    }
    identity = generate_identity("x25519" if recipient_kind == "x25519" else "hybrid")
    terms = Terms(
        origin=origin,
        title=plan.title,
        opens=plan.opens,
        closes=plan.closes,
        grace_ms=plan.grace_ms,
        stage_by=plan.stage_by,
        repair_by=plan.repair_by,
        sealed_until=plan.sealed_until,
        time_zone=plan.time_zone,
        recipients=(identity.recipient.format(),),
        envelope_limit=plan.envelope_limit,
        files_limit=plan.files_limit,
        spread=plan.spread,
        filers=plan.filers,
        tickets_per_filer=plan.tickets_per_filer,
        keys=Keys(
            terms=terms_key.verifier,
            log=keys["log"].verifier,
            collect=keys["collect"].verifier,
            status=keys["status"].verifier,
        ),
        relays=plan.relays,
        timestamping=plan.timestamping,
    )
    signed = build(terms, terms_key)
    make_directories(draft.keys)
    for name, key in keys.items():
        write_atomically(draft.key(name), encode_note_key(key))
    write_atomically(draft.identity, encode_identity_file(identity))
    make_directories(draft.terms)
    write_atomically(draft.terms / "1.note", signed.encode())
    return Call(
        folder=draft,
        origin=origin,
        versions=(signed,),
        status_key=keys["status"],
        collect_key=keys["collect"],
    )
