"""A server whose call is over, with submissions that were staged and collected: to be opened.

Made once by real relays and filers in this process, hours ago by their clock.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final

from bistro.clock import SystemClock
from bistro.instant import UnixMillis
from bistro.wire.minutes import verify_minutes
from bistro_server.services.calls import CallRegistry
from bistro_server.services.folder import ServerFolder
from tests.crash.tickets.opening import CALL, Opener, Outcome, inbox_files, open_call, results
from tests.crash.tickets.stage import TicketStage
from tests.support.clocks import ManualClock
from tests.support.world import World, world

_AGO_MS: Final = 5 * 3_600_000
"""The call takes data for three hours."""


async def collected(folder: Path) -> Outcome:
    """Make such a server in a folder, which does not exist; what becomes of it at the opening."""
    clock = ManualClock(UnixMillis(SystemClock().now() - _AGO_MS))
    with tempfile.TemporaryDirectory(prefix="world-") as place:
        async with world(Path(place), clock=clock) as found:
            await _submit(found)
            await found.collect()
            found.pass_stage_by()
        shutil.copytree(
            found.site.folder.root, folder, ignore=shutil.ignore_patterns("*.sock", "*-journal")
        )
        reference = Path(place) / "reference"
        shutil.copytree(folder, reference)
        await open_call(reference)
        call = CallRegistry(ServerFolder(reference)).load(CALL)
        files = results(reference)
        minutes = verify_minutes(files["minutes"], call.terms.keys.status)
        return Outcome(minutes.root, inbox_files(files))


async def _submit(found: World) -> None:
    """One of every kind of outcome."""
    await found.submit()
    await found.submit(filer="grace")
    await found.submit({"b.txt": b"b"}, filer="grace", nonce="2")
    await found.submit({"large.bin": bytes(300_000)}, filer="heidi")
    await found.staged(await found.ticket(found.seal(envelope=b"x" * 400)))
    await found.ticket(found.seal(filer="tardy"))
    many = {f"{one}.txt": b"" for one in range(101)}
    await found.staged(await found.ticket(found.seal(many, filer="eve")))


def collected_stage(folder: Path, outcome: Outcome, salt: bytes) -> TicketStage:
    """A copy of it, with clients who come too late."""
    terms = CallRegistry(ServerFolder(folder)).load(CALL).terms
    stage = TicketStage.of({CALL: terms}, salt)
    stage.crowd.opener = Opener(terms, outcome)
    return stage
