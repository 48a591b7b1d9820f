"""Asks all relays of a call how they are: latency, load, room, and whether they are who they say.

Source: docs/spec/staging.md; docs/spec/api.md, relay discovery.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from bistro.api import routes
from bistro.clock import Clock
from bistro.errors import BistroError, FormatError
from bistro.net.session import Session, Timeouts
from bistro.protocol.placement import RelayProbe
from bistro.wire.clauses import Relay
from bistro.wire.discovery import FULL_LOAD, MAX_DISCOVERY_SIZE, RelayDiscovery
from bistro.wire.terms import Terms
from bistro_client.wording import say

TIMEOUTS: Final = Timeouts(total_s=8.0, connect_s=4.0, read_s=8.0)
"""A relay that takes longer to say hello is no place for a fragment now."""


@dataclass(frozen=True, slots=True)
class Probed:
    """A relay as it was found.

    Attributes:
        probe: For placement; without latency where the relay cannot be used.
        problem: Why it cannot be used; empty where it can.
    """

    probe: RelayProbe
    problem: str = ""


async def probe_all(session: Session, terms: Terms, clock: Clock) -> tuple[Probed, ...]:
    """How every relay of the terms is now, in their order."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_probe(session, relay, terms, clock)) for relay in terms.relays]
    return tuple(task.result() for task in tasks)


async def _probe(session: Session, relay: Relay, terms: Terms, clock: Clock) -> Probed:
    began_ms = clock.monotonic_ms()
    try:
        answer = await session.ask(
            "GET",
            routes.RELAY_DISCOVERY.url(relay.url),
            limit=MAX_DISCOVERY_SIZE,
            timeouts=TIMEOUTS,
        )
        found = RelayDiscovery.decode(answer.body)
    except FormatError:
        return _unusable(relay, say("probing.answers-nothing-relay"))
    except BistroError as exc:
        return _unusable(relay, exc.message)
    problem = _problem(found, relay, terms)
    if problem:
        return _unusable(relay, problem)
    return Probed(
        RelayProbe(
            name=relay.name,
            operator=relay.operator,
            weight=relay.weight,
            latency_ms=float(clock.monotonic_ms() - began_ms),
            load=found.load / FULL_LOAD,
            free_size=found.free_bytes,
        )
    )


def _problem(found: RelayDiscovery, relay: Relay, terms: Terms) -> str:
    """What stands against a relay; terms, not discovery, say who it is."""
    if found.vkey != relay.vkey:
        return say("probing.shows-another-key")
    if not found.serves(terms.origin.server):
        return say("probing.does-not-serve", server=terms.origin.server)
    return "" if found.accepting else say("probing.accepts-no-uploads")


def _unusable(relay: Relay, problem: str) -> Probed:
    probe = RelayProbe(relay.name, relay.operator, weight=relay.weight, latency_ms=None)
    return Probed(probe, problem)
