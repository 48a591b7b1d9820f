"""A client in a process of its own that kills itself (``kill -9``) at a chosen rename.

``python -m tests.unit.client.killed_client HOME URL FOLDER AT WHEN`` submits, or resumes what is
there. AT counts renames of journals from 0, a negative one never comes; WHEN is ``before`` or
``after``. Exits with 0 if it lived to the end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from bistro.clock import SystemClock
from bistro.net.session import Session
from bistro.storage.disk import SystemDisk
from bistro_client.home import Home
from bistro_client.submitting import Submitter, Wish

JOURNALS = frozenset({"journal.json", "sealed.json"})


class KillingDisk(SystemDisk):
    """The real disk, until the chosen rename of a journal."""

    def __init__(self, at: int, when: str) -> None:
        self.left = at
        self.when = when

    def rename(self, source: Path, target: Path) -> None:
        is_it = target.name in JOURNALS and self.left == 0
        if target.name in JOURNALS:
            self.left -= 1
        if is_it and self.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        super().rename(source, target)
        if is_it:
            os.kill(os.getpid(), signal.SIGKILL)


async def work(home: Home, url: str, folder: Path, disk: KillingDisk) -> None:
    async with Session() as session:
        submitter = Submitter(home, session, clock=SystemClock(), disk=disk)
        folders = home.folders()
        if folders:
            await submitter.resume(folders[0])
        else:
            await submitter.submit(Wish(paths=(folder,), url=url))


def main() -> None:
    home, url, folder, at, when = sys.argv[1:]
    disk = KillingDisk(int(at), when)
    asyncio.run(work(Home(Path(home)), url, Path(folder), disk))


if __name__ == "__main__":
    main()
