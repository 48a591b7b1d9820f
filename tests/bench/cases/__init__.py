"""The cases of every group; a later issue adds its own to the tuple of its module."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.cases import (
    client,
    collect,
    large,
    overload,
    relay,
    relay_batch,
    relay_large,
    relay_restart,
    relay_slow,
    status,
    ticket,
    timestamp,
)
from tests.bench.measuring import Case


def cases_of(only: str | None, *, seal_size: int) -> Iterator[Case]:
    """All cases but the large ones, which take long to prepare, or those of one group."""
    if only == "large":
        yield from (*large.CASES, *relay_restart.CASES)
        return
    tickets = (*ticket.CASES, *timestamp.CASES, *status.CASES, *overload.CASES)
    relays = (*relay.CASES, *relay_large.CASES, *relay_slow.CASES, *relay_batch.CASES)
    for case in (*tickets, *relays, *client.cases(seal_size), *collect.CASES):
        if only in {None, case.group}:
            yield case
