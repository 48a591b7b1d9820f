"""Asks all relays of a call how they are: latency, load, room, and whether they are who they say.

Source: docs/spec/staging.md; docs/spec/api.md, relay discovery.
"""

from __future__ import annotations

import asyncio
from typing import Final

from bistro.api import routes
from bistro.clock import Clock
from bistro.errors import BistroError
from bistro.net.session import Session, Timeouts
from bistro.protocol.placement import RelayProbe
from bistro.wire.clauses import Relay
from bistro.wire.discovery import FULL_LOAD, MAX_DISCOVERY_SIZE, RelayDiscovery
from bistro.wire.terms import Terms

TIMEOUTS: Final = Timeouts(total_s=8.0, connect_s=4.0, read_s=8.0)
"""A relay that takes longer to say hello is no place for a fragment now."""


async def probe_all(session: Session, terms: Terms, clock: Clock) -> tuple[RelayProbe, ...]:
    """What every relay of the terms says of itself now, in their order."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_probe(session, relay, terms, clock)) for relay in terms.relays]
    return tuple(task.result() for task in tasks)


async def _probe(session: Session, relay: Relay, terms: Terms, clock: Clock) -> RelayProbe:
    """A probe without latency where the relay cannot be used."""
    unusable = RelayProbe(relay.name, relay.operator, weight=relay.weight, latency_ms=None)
    began_ms = clock.monotonic_ms()
    try:
        answer = await session.ask(
            "GET",
            routes.RELAY_DISCOVERY.url(relay.url),
            limit=MAX_DISCOVERY_SIZE,
            timeouts=TIMEOUTS,
        )
        found = RelayDiscovery.decode(answer.body)
    except BistroError:
        return unusable
    latency_ms = float(clock.monotonic_ms() - began_ms)
    # Terms, not discovery, say who the relay is; one that shows another key is another relay.
    is_itself = found.vkey == relay.vkey and found.serves(terms.origin.server)
    if not is_itself or not found.accepting:
        return unusable
    return RelayProbe(
        name=relay.name,
        operator=relay.operator,
        weight=relay.weight,
        latency_ms=latency_ms,
        load=found.load / FULL_LOAD,
        free_size=found.free_bytes,
    )
