"""Filers with keys of their own, for calls in which only registered ones get tickets.

| promise | what is compared |
|---|---|
| who asked | every ticket names the admission that its filer signed |
| nobody else | a stranger has no entry |
| the limit | no filer has more tickets than the terms allow, and nobody is refused below that |
| admissions last | each that a ticket names is in the call's file |

Source: docs/spec/admission.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bistro.clock import SystemClock
from bistro.crypto.keyfile import filer_public
from bistro.wire.admission import Admission
from bistro.wire.entry import RefusedEntry, TicketEntry, decode_entry
from bistro.wire.terms import Terms
from bistro_server.services.admission_keeper import admissions_path
from bistro_server.services.folder import ServerFolder
from bistro_server.store.admission_file import read_admissions
from bistro_server.store.filers import Filers
from bistro_server.store.schema import open_database
from tests.support.strategies import private_key

REGISTERED: Final = ("ada", "bob", "cid", "dora")
_STRANGER: Final = "eve"
_ALL: Final = (*REGISTERED, _STRANGER)
_SLOT: Final = "main"
_OVER: Final = "tickets-per-filer"
_MOST: Final = 1_000_000


async def register(folder: ServerFolder) -> None:
    """Put all but the stranger on the server's list."""
    database = await open_database(folder.database)
    try:
        keys = [(filer_public(private_key(name)), name) for name in REGISTERED]
        await Filers(database, SystemClock()).put(keys)
    finally:
        await database.close()


def filer_of(commitment: bytes) -> str:
    """Who asks for a commitment."""
    return _ALL[commitment[0] % len(_ALL)]


def is_registered(commitment: bytes) -> bool:
    """Whether who asks for it is no stranger."""
    return filer_of(commitment) in REGISTERED


@dataclass
class Office:
    """What filers have signed, each once: a commitment is asked for with the same bytes again."""

    _signed: dict[bytes, Admission] = field(default_factory=dict)

    def admission(self, commitment: bytes, terms_hash: bytes) -> Admission:
        """The admission for a commitment."""
        found = self._signed.get(commitment)
        if found is None:
            key: Ed25519PrivateKey = private_key(filer_of(commitment))
            found = self._signed[commitment] = Admission.sign(
                key, commitment=commitment, terms_hash=terms_hash, slot=_SLOT
            )
        return found

    def faults(self, terms: Terms, log: Sequence[bytes], refusals: Sequence[bytes]) -> list[str]:
        """What the entries of a call say that cannot be."""
        faults, counts = list[str](), Counter[str]()
        for entry in map(decode_entry, log):
            if isinstance(entry, TicketEntry):
                counts[filer_of(entry.digest)] += 1
                signed = self._signed.get(entry.digest)
                if signed is None or entry.admission != signed.hash:
                    faults.append(f"{entry.digest.hex()}: names an admission that nobody signed")
        if counts[_STRANGER]:
            faults.append(f"somebody who is not registered has {counts[_STRANGER]} tickets")
        limit = terms.tickets_per_filer
        faults += [
            f"{filer} has {count} tickets, {limit} are allowed"
            for filer, count in counts.items()
            if limit is not None and count > limit
        ]
        for refused in map(decode_entry, refusals):
            if isinstance(refused, RefusedEntry) and refused.reason == _OVER:
                filer = filer_of(refused.digest)
                if counts[filer] != limit:
                    faults.append(f"{filer} was refused beyond {limit}, having {counts[filer]}")
        return faults


def admission_faults(folder: Path, call: str, log: Iterable[bytes]) -> list[str]:
    """Tickets whose admissions are not in the call's file."""
    path = admissions_path(ServerFolder(folder).call(call))
    kept = {one.admission.hash for one in read_admissions(path, 0, limit=_MOST)[0]}
    named = {
        entry.admission
        for entry in map(decode_entry, log)
        if isinstance(entry, TicketEntry) and entry.admission is not None
    }
    lost = len(named - kept)
    return [f"{call}: {lost} of {len(named)} admissions are lost"] if lost else []
