"""Looks at what could go wrong before it does: network, TLS, clock, disk, keys, submissions.

Source: docs/spec/commands.md, doctor.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from bistro.clock import Clock
from bistro.crypto.erasure import best_kernel
from bistro.crypto.erasure_python import PythonKernel
from bistro.errors import BistroError
from bistro.instant import format_duration
from bistro.net.session import Session
from bistro.storage.durable import delete_file, make_directories, write_atomically
from bistro_client import keyring
from bistro_client.contact import Destination, Reception
from bistro_client.home import Home
from bistro_client.journal import read_journal
from bistro_client.known_servers import KnownServers
from bistro_client.listening import SILENT
from bistro_client.probing import probe_all
from bistro_client.times import TOLERATED_OFFSET_MS
from bistro_client.wording import say

LOW_SPACE: Final = 1_073_741_824
"""Less than 1 GiB is worth a word: what is sealed takes the room of the files again."""


class Health(StrEnum):
    """What a check came to."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: A word or two.
        health: What it came to.
        text: What was found.
        hint: What to do; empty where nothing need be done.
        exit_code: Of the error behind a bad one.
    """

    name: str
    health: Health
    text: str
    hint: str = ""
    exit_code: int = 0


def _bad(name: str, error: BistroError) -> Check:
    return Check(name, Health.BAD, error.message, error.hint, error.exit_code)


def examine_home(home: Home) -> Iterator[Check]:
    """Disk, coder, keys and submissions; writes one small file and deletes it again."""
    yield _disk(home.root)
    yield _coder()
    yield _key(home.key_file)
    yield from _submissions(home)


def _disk(root: Path) -> Check:
    probe = root / "doctor.probe"
    try:
        make_directories(root)
        write_atomically(probe, b"x" * 4_096)
        delete_file(probe)
    except BistroError as exc:
        return _bad("disk", exc)
    free = shutil.disk_usage(root).free
    text = say("doctor.writable-durable-gb", root=root, free=free / 1e9)
    if free < LOW_SPACE:
        hint = say("doctor.sealing-needs-room")
        return Check("disk", Health.WARNING, text, hint)
    return Check("disk", Health.GOOD, text)


def _coder() -> Check:
    """What computes fragments: both kernels compute the same ones."""
    name = best_kernel().name
    text = say("doctor.computed-by", name=name)
    if name == PythonKernel.name:
        text += say("doctor.with-libisal-debian")
    return Check("erasure code", Health.GOOD, text)


def _key(path: Path) -> Check:
    if not path.exists():
        hint = say("doctor.first-submission-makes")
        return Check("key", Health.WARNING, say("doctor.there-none-yet", path=path), hint)
    try:
        if keyring.is_encrypted(path):
            return Check("key", Health.GOOD, say("doctor.there-protected-by", path=path))
        key = keyring.load(path)
    except BistroError as exc:
        return _bad("key", exc)
    # Windows knows no such modes and shows 0666 for every file.
    if sys.platform != "win32" and path.stat().st_mode & 0o077:
        hint = say("doctor.make-private-chmod", path=path)
        return Check("key", Health.WARNING, say("doctor.others-may-read", path=path), hint)
    place = say("doctor.in-system-s") if keyring.is_in_system(path) else ""
    return Check("key", Health.GOOD, f"{path}: {place}fingerprint {key.fingerprint}")


def _submissions(home: Home) -> Iterator[Check]:
    count = 0
    for folder in home.folders():
        count += 1
        try:
            read_journal(folder)
        except BistroError as exc:
            yield _bad("submission", exc)
    yield Check("submissions", Health.GOOD, f"{count} in {home.submissions}")


async def examine_destination(home: Home, session: Session, clock: Clock, url: str) -> list[Check]:
    """Network, TLS, key and clock of a destination, and the relays of its open calls."""
    known = KnownServers(home.known_servers)
    checks: list[Check] = []
    try:
        destination = await Reception(session, known, clock, SILENT).reach(url, may_pin=False)
    except BistroError as exc:
        return [_bad("network", exc)]
    tls = "TLS holds" if url.startswith("https:") else say("doctor.plain-http-on")
    checks.append(Check("network", Health.GOOD, f"{url}: {destination.discovery.name}, {tls}"))
    key = destination.discovery.terms_key
    is_known = known.find(destination.discovery.name) is not None
    how = say("doctor.as-pinned") if is_known else say("doctor.not-pinned-yet")
    checks.append(Check("server key", Health.GOOD, f"fingerprint {key.fingerprint()}, {how}"))
    checks.append(_clock(destination))
    checks.extend(await _relays(destination, session, clock))
    return checks


def _clock(destination: Destination) -> Check:
    offset_ms = destination.time.offset_ms
    if offset_ms is None:
        return Check("clock", Health.SKIPPED, say("doctor.server-does-not"))
    text = say("doctor.off-destination-s", offset_ms=format_duration(abs(offset_ms)))
    if abs(offset_ms) > TOLERATED_OFFSET_MS:
        hint = say("doctor.set-this-machine")
        return Check("clock", Health.WARNING, text, hint)
    return Check("clock", Health.GOOD, text)


async def _relays(destination: Destination, session: Session, clock: Clock) -> list[Check]:
    checks: list[Check] = []
    for call in destination.discovery.calls:
        if call.state != "open":
            continue
        try:
            origin = destination.choose_call(call.id)
            terms = (await destination.fetch_versions(origin)).terms
        except BistroError as exc:
            checks.append(_bad(f"call {call.id}", exc))
            continue
        probes = await probe_all(session, terms, clock)
        usable = [one for one in probes if not one.problem]
        others = [f"{one.probe.name}: {one.problem}" for one in probes if one.problem]
        text = say("doctor.relays-can-be", usable=len(usable), probes=len(probes))
        if len(usable) >= terms.spread.n:
            checks.append(Check(f"call {call.id}", Health.GOOD, text))
        else:
            hint = "; ".join(others) or say("doctor.terms-name-fewer")
            checks.append(Check(f"call {call.id}", Health.WARNING, text, hint))
    return checks
