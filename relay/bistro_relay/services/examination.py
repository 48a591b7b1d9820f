"""Looks at what a stopped relay has on its disk, and whether its destinations answer.

Each look says what it found, or raises what is wrong with a hint; nothing is changed.
"""

from __future__ import annotations

from pathlib import Path

from bistro.crypto.signing import LocalSigner, SigningKey
from bistro.errors import StorageError
from bistro.ids import Origin
from bistro.ledger.ledger import Ledger
from bistro.net.server_client import ServerClient
from bistro.net.session import Session
from bistro_relay.services.ledgers import FOLDER, key_of
from bistro_relay.services.trust import follow_rotations
from bistro_relay.store.destinations import Destination, DestinationFiles
from bistro_relay.store.schema import FILE_NAME, open_database


async def database(directory: Path) -> str:
    """Whether the database is whole.

    Raises:
        StorageError: It is damaged, or cannot be opened.
    """
    path = directory / FILE_NAME
    if not path.exists():
        return "none yet: serve makes it"
    opened = await open_database(directory)
    try:
        row = await opened.fetch_one("PRAGMA quick_check(1)")
    finally:
        await opened.close()
    found = "nothing" if row is None else str(row[0])
    if found != "ok":
        raise StorageError(
            f"{path} is damaged: {found}",
            hint="check the disk, and keep a copy of the folder before anything else",
        )
    return f"{path} is whole"


def ledgers(directory: Path) -> list[Origin]:
    """The calls for which anything was promised."""
    folders = sorted((directory / FOLDER).glob("*/*"))
    return [Origin(folder.parent.name, folder.name) for folder in folders]


async def ledger(directory: Path, key: SigningKey, origin: Origin) -> str:
    """Whether a custody ledger is as it was signed; reads all of it.

    Raises:
        StorageError: What is wrong first, with file and place.
        UnavailableError: A process writes to it.
    """
    signer = LocalSigner(key.renamed(origin.custody(key.verifier.name)))
    found = await Ledger.open(
        directory / FOLDER / origin.server / origin.call, signer=signer, key_of=key_of
    )
    try:
        await found.check()
        return f"{found.origin} has {found.size} entries, all as they were signed"
    finally:
        await found.close()


def destinations(directory: Path) -> list[Destination]:
    """All allowed destinations, by name."""
    allowed = DestinationFiles(directory).load_all()
    return [allowed[name] for name in sorted(allowed)]


async def destination(session: Session, allowed: Destination) -> str:
    """Whether a destination answers with its pinned key, or one that follows from it.

    Raises:
        UnavailableError: It does not answer.
        VerificationError: Another key answers.
    """
    discovery = await ServerClient(session, allowed.url).fetch_discovery()
    follow_rotations(allowed.key, discovery)
    return f"{allowed.server} answers at {allowed.url} with the pinned key"
