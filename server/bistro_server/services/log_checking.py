"""Checking the ledgers of calls from end to end, while nobody serves them.

Source: docs/spec/storage.md, recovery; docs/spec/commands.md, ``log check``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from bistro.ledger.checking import CheckReport
from bistro.ledger.ledger import Ledger
from bistro_server.services.calls import Call, CallRegistry
from bistro_server.services.folder import ServerFolder
from bistro_server.services.ledgers import key_of

Show = Callable[[str, int, int], None]
"""Told a ledger's origin, how many of its entries were checked, and how many it has."""


@dataclass(frozen=True, slots=True)
class CheckedLog:
    """A ledger in which everything is right.

    Attributes:
        call: Whose it is.
        origin: What it is called in its checkpoints.
        report: What was checked.
    """

    call: str
    origin: str
    report: CheckReport


async def check_logs(
    folder: ServerFolder, calls: Sequence[str], show: Show
) -> AsyncGenerator[CheckedLog]:
    """Check the log and the refusals of each call, one after the other, in constant memory.

    Args:
        folder: The server's folder.
        calls: Their ids; all calls where there is none.
        show: Told how far it is, from another thread.

    Raises:
        UnknownObjectError: There is no such call.
        UnavailableError: A process serves it.
        StorageError: The first fault, with file and place.
    """
    registry = CallRegistry(folder)
    for call in [registry.load(one) for one in calls or registry.ids()]:
        async for checked in _check_call(call, show):
            yield checked


async def _check_call(call: Call, show: Show) -> AsyncGenerator[CheckedLog]:
    places = (call.folder.log, call.folder.refusals)
    for directory, signer in zip(places, call.log_signers(), strict=True):
        ledger = await Ledger.open(directory, signer=signer, key_of=key_of)
        try:
            origin, size = ledger.origin, ledger.size

            def told(done: int, *, origin: str = origin, size: int = size) -> None:
                show(origin, done, size)

            yield CheckedLog(call.id, origin, await ledger.check(told))
        finally:
            await ledger.close()
