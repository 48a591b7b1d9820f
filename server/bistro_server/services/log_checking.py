"""Checking the ledgers of calls from end to end: as they lie there, also beside a server.

Source: docs/spec/storage.md, recovery; docs/spec/commands.md, ``log check``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bistro.crypto.signing import Signer
from bistro.errors import StorageError
from bistro.ledger.checking import CheckReport
from bistro.ledger.inspecting import Inspection, inspect_ledger
from bistro.ledger.ledger import Ledger
from bistro.ledger.tile_check import EntriesHoldError
from bistro_server.services.calls import CallRegistry
from bistro_server.services.folder import ServerFolder
from bistro_server.services.ledgers import key_of

Show = Callable[[str, int, int], None]
"""Told a ledger's origin, how many of its entries were checked, and of how many."""


@dataclass(frozen=True, slots=True)
class CheckedLog:
    """A ledger in which everything is right that was looked at.

    Attributes:
        call: Whose it is.
        origin: What it is called in its checkpoints.
        report: What was checked.
        is_whole: Whether that is all; otherwise what a running server has published.
    """

    call: str
    origin: str
    report: CheckReport
    is_whole: bool


async def check_logs(
    folder: ServerFolder, calls: Sequence[str], show: Show, *, is_repaired: bool
) -> AsyncGenerator[CheckedLog]:
    """Check the log and the refusals of each call, one after the other, in constant memory.

    Args:
        folder: The server's folder.
        calls: Their ids; all calls where there is none.
        show: Told how far it is, from another thread.
        is_repaired: Whether to open each first as ``serve`` does at its start, which makes anew
            what is derived; otherwise nothing is changed.

    Raises:
        UnknownObjectError: There is no such call.
        UnavailableError: A process serves it, and it is to be repaired.
        StorageError: The first fault, with file and place.
    """
    registry = CallRegistry(folder)
    for call in [registry.load(one) for one in calls or registry.ids()]:
        places = (call.folder.log, call.folder.refusals)
        for directory, signer in zip(places, call.log_signers(), strict=True):
            origin = signer.verifier.name
            inspect = partial(
                inspect_ledger,
                directory,
                verifier=signer.verifier,
                key_of=key_of,
                show=partial(show, origin),
            )
            if is_repaired:
                await _repair(directory, signer, inspect)
            found = await asyncio.to_thread(inspect)
            yield CheckedLog(call.id, origin, found.report, found.is_whole)


async def _repair(directory: Path, signer: Signer, inspect: Callable[[], Inspection]) -> None:
    """Make anew what is derived, tiles only where the entries are known to be good.

    Tiles that were made of a damaged bundle would hide which of the two is damaged.
    """
    anew = False
    try:
        await asyncio.to_thread(inspect)
    except StorageError as exc:
        # An index is mended when the ledger is opened; the next inspection names what is left.
        anew = isinstance(exc.__cause__, EntriesHoldError)
    ledger = await Ledger.open(directory, signer=signer, key_of=key_of, anew=anew)
    try:
        await ledger.publish_checkpoint()
    finally:
        await ledger.close()
