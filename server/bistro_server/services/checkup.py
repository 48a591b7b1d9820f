"""What ``doctor`` looks at: each check tells what it found, and what to do where it fails.

A check promises nothing and changes nothing but one small file that it removes again. Ledgers
are only opened while no ``serve`` has them; a running one is asked instead.

Source: docs/spec/commands.md, doctor.
"""

from __future__ import annotations

import asyncio
import shutil
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple

from bistro.clock import Clock, kernel_error_bound_ms
from bistro.crypto import bulk
from bistro.crypto.timestamp.certificate import validity
from bistro.crypto.timestamp.chain import subject_of, validity_of
from bistro.daemon import direct
from bistro.errors import BistroError, SettingsError, StorageError, UnavailableError
from bistro.instant import format_duration, format_rfc3339
from bistro.storage.durable import delete_file, write_atomically
from bistro.storage.locks import FileLock
from bistro.wire.checkpoint import verify_checkpoint
from bistro_server.services.authority import Authority
from bistro_server.services.calls import Call, CallRegistry
from bistro_server.services.control import open_log
from bistro_server.services.creating import load_terms_key
from bistro_server.services.folder import ServerFolder
from bistro_server.services.notary import Notary
from bistro_server.services.timekeeping import require_clock_reached, require_trusted_clock
from bistro_server.store.anchors import AnchorFiles
from bistro_server.store.schema import open_database

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_SLOW_SYNC_MS: Final = 50

WARNING_MS: Final = timedelta(days=30) // timedelta(milliseconds=1)
"""How long before its end the certificate of time stamps is warned about."""


class Advice(NamedTuple):
    """What one check found where something will have to be done.

    Attributes:
        text: What was found; it is good enough for now.
        hint: What to do.
    """

    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        part: What was looked at.
        text: What was found.
        error: Why that is not good enough, or ``None``.
        hint: What to do; empty where there is nothing to do.
    """

    part: str
    text: str
    error: BistroError | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Checkup:
    """The checks of a server's folder that need no settings of the network.

    Attributes:
        folder: The server's folder.
        name: The server's name in the settings.
        clock: The clock that stamps.
        error_limit_ms: The largest clock error with which to stamp.
        min_free_bytes: Free bytes that there should be.
    """

    folder: ServerFolder
    name: str
    clock: Clock
    error_limit_ms: int
    min_free_bytes: int

    async def run(self) -> list[Finding]:
        """All checks, one after the other; none stops the others."""
        checks = {
            "clock": self._clock,
            "disk": self._disk,
            "keys": self._keys,
            "database": self._database,
            "ledgers": self._ledgers,
        }
        return [await found(part, check) for part, check in checks.items()]

    def is_served(self) -> bool:
        """Whether a ``serve`` runs in this folder."""
        try:
            FileLock.take(self.folder.serve_lock, what="the server").release()
        except UnavailableError:
            return True
        return False

    async def _clock(self) -> str:
        require_trusted_clock(self.clock, error_limit_ms=self.error_limit_ms)
        bound = self.clock.error_bound_ms() or 0
        shown = f"error at most {format_duration(bound)}, limit {self.error_limit_ms} ms"
        if kernel_error_bound_ms() is None:
            return f"{shown}; ASSUMED by clock.assumed_error_ms: the kernel knows none"
        return f"{shown}, as the kernel says"

    async def _disk(self) -> str:
        free = (await asyncio.to_thread(shutil.disk_usage, self.folder.root)).free
        if free < self.min_free_bytes:
            raise StorageError(
                f"expected at least {self.min_free_bytes} free bytes, found {free}",
                hint="free some space",
            )
        took_ms = await asyncio.to_thread(_sync_ms, self.folder.root, self.clock)
        slow = ", slow" if took_ms > _SLOW_SYNC_MS else ""
        return f"{free // 1_000_000} MB free; a small file is durable after {took_ms} ms{slow}"

    async def _keys(self) -> str:
        key = await asyncio.to_thread(load_terms_key, self.folder, name=self.name)
        require_private(self.folder.terms_key)
        calls = await asyncio.to_thread(CallRegistry(self.folder).load_all)
        away = [call.id for call in calls if not _check_keys(call)]
        note = f"; identities kept elsewhere: {', '.join(away)}" if away else ""
        return f"fingerprint {key.verifier.fingerprint()}, keys of {len(calls)} calls{note}"

    async def _database(self) -> str:
        database = await open_database(self.folder.database)
        try:
            rows = await database.fetch_all("PRAGMA integrity_check(1)")
        finally:
            await database.close()
        if [row[0] for row in rows] != ["ok"]:
            raise StorageError(
                f"{self.folder.database}: {rows[0][0]}", hint="restore it from a copy"
            )
        return "whole"

    async def _ledgers(self) -> str | Advice:
        calls = await asyncio.to_thread(CallRegistry(self.folder).load_all)
        for call in calls:
            # Opening a ledger checks it; where serve has it open, serve has checked it.
            async with open_log(
                self.folder, call, self.clock, error_limit_ms=self.error_limit_ms
            ) as log:
                size = verify_checkpoint(await log.checkpoint(), call.log_key).size
                async for _, entry in log.entries(size - 1):
                    require_clock_reached(self.clock, entry.time, origin=str(call.origin))
        holder = "held by a running serve" if self.is_served() else "not in use"
        text = f"{len(calls)} calls, {holder}"
        missing = [one.__name__ for one in (bulk, direct) if not one.IS_COMPILED]
        if missing:
            hint = "tickets cost twice as much: install a C compiler, then this package again"
            return Advice(f"{text}; without their parts in C: {', '.join(missing)}", hint)
        return text


async def found(part: str, check: Callable[[], Awaitable[str | Advice]]) -> Finding:
    """Run one check; its error is a finding."""
    try:
        told = await check()
    except BistroError as exc:
        return Finding(part, exc.message, exc, exc.hint or "")
    if isinstance(told, Advice):
        return Finding(part, told.text, hint=told.hint)
    return Finding(part, told)


def describe_authority(authority: Authority, clock: Clock) -> str | Advice:
    """What ``doctor`` shows of an authority.

    Raises:
        SettingsError: Its certificate is not valid now: nothing is stamped.
    """
    begins, ends = validity(authority.own)
    now = clock.now()
    if not begins <= now <= ends:
        raise SettingsError(
            f"the time-stamp certificate is valid from {format_rfc3339(begins)}"
            f" until {format_rfc3339(ends)} only: nothing is stamped now",
            hint="bistro-server tsa renew, or tsa import; then restart serve",
        )
    text = f"certificate valid until {format_rfc3339(ends)}, SHA-256 {authority.fingerprint}"
    if ends - now < WARNING_MS:
        return Advice(text, "bistro-server tsa renew, or tsa import; then restart serve")
    return text


async def describe_anchors(
    folder: ServerFolder, notary: Notary | None, clock: Clock
) -> str | Advice:
    """What ``doctor`` shows: whether the authority stamps, and how far each call's anchors reach.

    Raises:
        BistroError: As ``Notary.stamp``.
        StorageError: An anchor is damaged.
    """
    calls = await asyncio.to_thread(CallRegistry(folder).load_all)
    kept = [await asyncio.to_thread(_describe_call, call) for call in calls]
    shown = "; ".join(kept) or "no calls"
    if notary is None:
        return f"no authority is asked to stamp checkpoints; {shown}"
    stamp = await notary.try_out()
    text = f"{subject_of(stamp.certificates[-1])} stamps; {shown}"
    ends = min(validity_of(one)[1] for one in stamp.certificates)
    if ends - clock.now() < WARNING_MS:
        return Advice(
            f"{text}; its certificate is valid until {format_rfc3339(ends)}",
            "ask the authority for its next certificate, and name it in [anchoring]",
        )
    return text


def _describe_call(call: Call) -> str:
    files = AnchorFiles(call.folder.anchors)
    newest = files.newest()
    if newest is None:
        return f"{call.id}: none"
    return f"{call.id}: {len(files.sizes())}, up to {newest.checkpoint.size} entries"


def _sync_ms(root: Path, clock: Clock) -> int:
    path = root / ".doctor"
    began = clock.monotonic_ms()
    write_atomically(path, b"doctor\n")
    took_ms = clock.monotonic_ms() - began
    delete_file(path)
    return took_ms


def _check_keys(call: Call) -> bool:
    """Check the files of a call's keys; whether the envelope identity is among them."""
    call.log_signers()
    for name in ("log", "status", "collect"):
        require_private(call.folder.key(name))
    if not call.folder.identity.exists():
        return False
    call.load_identities()
    require_private(call.folder.identity)
    return True


def require_private(path: Path) -> None:
    """Accept the file of a key that nobody but its owner can read.

    Raises:
        SettingsError: Others can.
    """
    mode = path.stat().st_mode
    if mode & _OTHERS:
        raise SettingsError(
            f"{path}: expected mode 0600, found {stat.S_IMODE(mode):04o}", hint=f"chmod 600 {path}"
        )
