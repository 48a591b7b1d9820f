"""The list of registered filers as commands reach it, beside a ``serve`` that may be running.

Source: docs/spec/admission.md, registration.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bistro.clock import Clock
from bistro_server.services.folder import ServerFolder
from bistro_server.store.filers import Filer, Filers
from bistro_server.store.schema import open_database

__all__ = ["Filer", "Filers", "filer_list"]


@asynccontextmanager
async def filer_list(folder: ServerFolder, clock: Clock) -> AsyncIterator[Filers]:
    """The list for as long as the block runs.

    Args:
        folder: The server's.
        clock: Dates the changes.

    Raises:
        UnavailableError: Another process holds the database for too long.
        StorageError: It is damaged, or the disk failed.
    """
    database = await open_database(folder.database)
    try:
        yield Filers(database, clock)
    finally:
        await database.close()
