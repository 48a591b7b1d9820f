"""Telling where a database does not match a call's log, instead of naming a constraint of SQLite.

Rows of submissions are made from the log and only grow. Where one says something else than the
log, log and database are not of the same time or server, and nothing may be built on them.

Source: docs/spec/storage.md; docs/guides/destination-operators.md, restoring.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final, Protocol

from bistro.errors import ConflictError, StorageError
from bistro.storage.database import Transaction

_HINT: Final = (
    "one of them was changed, or restored without the other: stop all processes, restore the "
    "folder of the server as a whole from its newest copy; `bistro-server reconcile` lists every "
    "difference"
)


class Placed(Protocol):
    """A ticket with its place in the log."""

    @property
    def commitment(self) -> bytes:
        """What was stamped."""
        ...

    @property
    def log_index(self) -> int:
        """Where it stands."""
        ...


@asynccontextmanager
async def matching(tx: Transaction, call: str, tickets: Iterable[Placed]) -> AsyncIterator[None]:
    """Around making rows of tickets of the log.

    Raises:
        StorageError: A row says otherwise; the message has both.
    """
    try:
        yield
    except ConflictError as exc:
        # Only the statement was undone, so what is there can still be read.
        for ticket in tickets:
            row = await tx.fetch_one(
                "SELECT commitment FROM submission WHERE call = ? AND log_index = ?",
                (call, ticket.log_index),
            )
            if row is not None and bytes(row["commitment"]) != ticket.commitment:
                found = bytes(row["commitment"])
                raise _mismatch(call, ticket.log_index, ticket.commitment, found.hex()) from exc
        raise


def require_place(call: str, ticket: Placed, log_index: int) -> None:
    """Accept a row that has the ticket at its place.

    Raises:
        StorageError: It has it elsewhere.
    """
    if log_index != ticket.log_index:
        found = f"this commitment at entry {log_index}"
        raise _mismatch(call, ticket.log_index, ticket.commitment, found)


def _mismatch(call: str, index: int, expected: bytes, found: str) -> StorageError:
    return StorageError(
        f"call {call}: the database does not match its log: expected commitment "
        f"{expected.hex()} at entry {index}, found {found}",
        hint=_HINT,
    )
