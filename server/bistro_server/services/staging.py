"""The receipt desk: what filers show of what relays hold, and what they are asked to repair.

Source: docs/spec/staging.md, presenting receipts; docs/spec/collection.md, repairs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from bistro.clock import Clock
from bistro.errors import BistroError
from bistro.wire.staging import Failure, PresentedReceipt, ReceiptAccepted, ReceiptAnswer, Repair
from bistro_server.services.calls import Call
from bistro_server.services.claims import receipted_fragment, verify_claim
from bistro_server.store.repairs import list_repairs
from bistro_server.store.submissions import (
    KnownFragment,
    Submissions,
    Ticketed,
    add_fragment,
    add_ticket,
    advance_if_staged,
    count_known,
)


@dataclass(frozen=True, slots=True)
class _Good:
    """A receipt that holds, with the ticket of its commitment."""

    ticket: Ticketed
    fragment: KnownFragment


class ReceiptDesk:
    """Takes receipts and lists repairs.

    Args:
        submissions: Where both are kept.
        clock: Says when a receipt was seen.
    """

    def __init__(self, submissions: Submissions, clock: Clock) -> None:
        self._submissions = submissions
        self._clock = clock

    async def present(
        self, call: Call, items: Sequence[PresentedReceipt]
    ) -> tuple[ReceiptAnswer, ...]:
        """One answer for each receipt, in order; returns when what is accepted is durable.

        Raises:
            UnavailableError: The database is held by another process for too long.
            StorageError: The database failed.
        """
        checked = await asyncio.to_thread(_check_all, call, items)
        good = [one for one in checked if isinstance(one, _Good)]
        accepted = iter(await self._record(call, good) if good else ())
        return tuple(one if isinstance(one, Failure) else next(accepted) for one in checked)

    async def _record(self, call: Call, good: Sequence[_Good]) -> list[ReceiptAnswer]:
        answers: list[ReceiptAnswer] = []
        stage_by = call.terms.stage_by
        async with self._submissions.database.transaction() as tx:
            # Read here, so that whatever is seen in time was committed before anything lapses.
            now = self._clock.now()
            for one in good:
                found = await add_ticket(tx, call.id, one.ticket, now=now)
                await add_fragment(tx, found, one.fragment, now=now)
                is_staged = await advance_if_staged(tx, found, stage_by=stage_by, now=now)
                answers.append(ReceiptAccepted(await count_known(tx, found), is_staged))
        # A crash before this line leaves all of it or nothing; the filer presents it again.
        return answers

    async def repairs(self, call: Call, *, after: int, limit: int) -> tuple[Repair, ...]:
        """What filers are asked to stage again, from the first cursor above ``after``."""
        return await list_repairs(
            self._submissions.database,
            call.id,
            after=after,
            limit=limit,
            until=call.terms.repair_by,
        )


def _check_all(call: Call, items: Sequence[PresentedReceipt]) -> list[_Good | Failure]:
    return [_check(call, item) for item in items]


def _check(call: Call, item: PresentedReceipt) -> _Good | Failure:
    """What one item is worth; one that is not does not spoil the others."""
    try:
        claim, ticket = verify_claim(item.claim, call)
        return _Good(ticket, receipted_fragment(claim, item.receipt, call))
    except BistroError as exc:
        return Failure.of(exc)
