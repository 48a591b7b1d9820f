"""Keeps the database in step with the admissions and the log of one registered call.

Everything an entry names is in the file before the entry is in the log. So the log's size is
looked at first and the file read after it: each ticket then finds its admission, or the file has
lost some.

Source: docs/spec/admission.md, what the destination keeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from bistro.storage.durable import SYSTEM_DISK, Disk
from bistro.wire.admission import Admitted
from bistro.wire.entry import Entry, TicketEntry
from bistro_server.services.folder import CallFolder
from bistro_server.store.admission_file import read_admissions
from bistro_server.store.admissions import Admissions, Read

AT_ONCE: Final = 1_000
"""Records and entries of one step."""

Entries = Callable[[int], AsyncIterator[tuple[int, Entry]]]
"""Index and value of the log's entries from one on, to its end as it is now."""


def admissions_path(folder: CallFolder) -> Path:
    """Where a call's admissions lie."""
    return folder.root / "admissions"


class AdmissionKeeper:
    """Reads the file and the log of one call into the database.

    Args:
        call: The call id.
        path: Of its admissions.
        entries: Reads its log.
        admissions: Where they go.
        durable_size: Says how much of the file is durable, where somebody appends to it.
        disk: The system calls to use.
    """

    def __init__(
        self,
        call: str,
        path: Path,
        entries: Entries,
        admissions: Admissions,
        *,
        durable_size: Callable[[], int] | None = None,
        disk: Disk = SYSTEM_DISK,
    ) -> None:
        self._durable_size = durable_size
        self._call = call
        self._path = path
        self._entries = entries
        self._admissions = admissions
        self._disk = disk
        self._read: Read | None = None
        self._size = 0

    async def step(self) -> bool:
        """Read on; whether there may be more.

        Raises:
            UnavailableError: Another process holds the database for too long.
            StorageError: The disk failed, or the file has lost what the log rests on.
        """
        if self._read is None:
            self._read = await self._admissions.read(self._call)
            self._size = self._read.size
        was = self._read
        tickets: list[tuple[bytes, int]] = []
        stop = was.entries
        async for index, entry in self._entries(was.entries):
            stop = index + 1
            if isinstance(entry, TicketEntry) and entry.admission is not None:
                tickets.append((entry.admission, index))
            if stop - was.entries == AT_ONCE:
                break
        # Behind the log, all that is there: see above.
        while page := await self._read_file():
            await self._record(page, [], Read(self._size, was.entries))
        if stop != was.entries:
            await self._record([], tickets, Read(self._size, stop))
        return stop - was.entries == AT_ONCE

    async def _read_file(self) -> list[Admitted]:
        size = Read() if self._read is None else self._read
        found, self._size = await asyncio.to_thread(
            read_admissions,
            self._path,
            size.size,
            limit=AT_ONCE,
            # Only now: the entries that were read before rest on what is durable by now.
            stop=None if self._durable_size is None else self._durable_size(),
            disk=self._disk,
        )
        return found

    async def _record(
        self, admitted: list[Admitted], tickets: list[tuple[bytes, int]], read: Read
    ) -> None:
        # A crash before this is durable reads the same again.
        await self._admissions.record(self._call, admitted, tickets, read)
        self._read = read

    async def catch_up(self) -> None:
        """Step until there is no more."""
        while await self.step():
            pass
