"""A rush before a deadline, simulated: filers with thin lines, relays near and far.

Time goes in steps. A flow gets the least of an equal share of its filer's line, an equal share of
its relay's line and what its round trip allows. What a filer knows of a relay is a probe: the
latency now, and a load that the relay advertises every few seconds.

Source: docs/experiments/placement.md.
"""

from __future__ import annotations

import random  # noqa: TID251 - seeded by the caller
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from bistro.protocol.placement import Placement, Policy, RelayProbe

STEP_S: Final = 0.5
DEADLINE_S: Final = 1_200.0
MEAN_BEFORE_S: Final = 240.0
"""How long before the deadline the average filer comes."""
WINDOW: Final = 4_000_000
"""Bytes under way in one connection at most: what its round trip allows."""
SEAL_RATE: Final = 200e6
REGIONS: Final = ("north", "east", "south", "west")
SHARES: Final = (0.55, 0.25, 0.15, 0.05)
"""Where filers are. Relays are the same everywhere: near is not where room is."""
RELAY_RATES: Final = (5e6, 10e6, 20e6)
"""Bytes a second of the three relays of a region: 40 to 160 Mbit/s."""
NEAR_MS: Final = (5.0, 30.0)
FAR_MS: Final = (60.0, 180.0)


@dataclass(slots=True)
class Relay:
    """A relay, and what it says of itself.

    Attributes:
        rate: Bytes a second that it takes.
        weight: Its share as the terms say.
        flows: Uploads to it at the moment.
        taken: Bytes in this step.
        load: As it advertised last.
    """

    name: str
    operator: str
    region: str
    rate: float
    weight: int = 1
    flows: int = 0
    taken: float = 0.0
    load: float = 0.0


@dataclass(slots=True)
class Flow:
    """One fragment on its way."""

    filer: Filer
    relay: Relay
    left: float
    limit: float


@dataclass(slots=True)
class Filer:
    """Somebody with something to file.

    Attributes:
        arrives_at: When sealing begins.
        rate: Bytes a second of the line.
        size: Of the envelope.
        latency_ms: Round trip to each relay.
        server_ms: Round trip to the destination.
        flows: Fragments still on their way.
        receipts: Seconds from the beginning to each receipt.
    """

    arrives_at: float
    rate: float
    size: float
    latency_ms: dict[str, float]
    server_ms: float
    flows: int = 0
    receipts: list[float] = field(default_factory=list)

    @property
    def ticket_s(self) -> float:
        """Seconds until the ticket is there: seal, then three round trips (TLS, request)."""
        return self.size / SEAL_RATE + 3 * self.server_ms / 1_000

    def alone_s(self, spread: tuple[int, int]) -> float:
        """Seconds to all receipts if nobody else were there."""
        k, n = spread
        return self.ticket_s + self.size * n / k / self.rate


@dataclass(frozen=True, slots=True)
class Scene:
    """Which relays there are.

    Attributes:
        has_weights: Whether the terms give each relay a weight that fits its rate; else all
            have the same.
        weak: Relays that take a tenth of what they should, and nobody knows.
        advertised_every_s: How old the load that a probe finds may be.
        is_one_server: Instead of relays, one server with all their rate, and whole envelopes.
    """

    has_weights: bool = True
    weak: frozenset[str] = frozenset()
    advertised_every_s: float = 5.0
    is_one_server: bool = False

    @property
    def spread(self) -> tuple[int, int]:
        """The call's k and n."""
        return (1, 1) if self.is_one_server else (4, 6)

    def relays(self) -> list[Relay]:
        """Three in each region; every operator has two, in different regions."""
        if self.is_one_server:
            return [Relay("server", "destination", REGIONS[0], len(REGIONS) * sum(RELAY_RATES))]
        found: list[Relay] = []
        for at, region in enumerate(REGIONS):
            for number, rate in enumerate(RELAY_RATES):
                name = f"{region}-{number}"
                operator = f"operator {(at + 2 * number) % 6}"
                weight = round(rate / RELAY_RATES[0]) if self.has_weights else 1
                real_rate = rate / 10 if name in self.weak else rate
                found.append(Relay(name, operator, region, real_rate, weight))
        return found


def filers(count: int, scene: Scene, chance: random.Random) -> list[Filer]:
    """Filers in the order of their tickets, denser towards the deadline."""
    found = [_filer(scene, chance) for _ in range(count)]
    return sorted(found, key=lambda filer: filer.arrives_at + filer.ticket_s)


def _filer(scene: Scene, chance: random.Random) -> Filer:
    before = min(chance.expovariate(1 / MEAN_BEFORE_S), DEADLINE_S)
    region = chance.choices(REGIONS, SHARES)[0]
    near, far = chance.uniform(*NEAR_MS), chance.uniform(*FAR_MS)
    rate = min(max(chance.lognormvariate(14.0, 0.9), 60e3), 60e6)
    size = min(chance.lognormvariate(15.2, 1.4), 1e9)
    server_ms = chance.uniform(20.0, 150.0)
    latency_ms = {
        relay.name: (near if relay.region == region else far) * chance.uniform(0.8, 1.2)
        for relay in scene.relays()
    }
    return Filer(DEADLINE_S - before, rate, size, latency_ms, server_ms)


def run(policy: Policy, scene: Scene, waiting: Sequence[Filer], chance: random.Random) -> None:
    """Let all of them file; each has its n receipts afterwards."""
    stage = scene.relays()
    flows: list[Flow] = []
    comers = iter(waiting)
    comer = next(comers, None)
    now, advertised_at = 0.0, 0.0
    while comer is not None or flows:
        while comer is not None and comer.arrives_at + comer.ticket_s <= now:
            flows += _begin(comer, stage, scene.spread, policy, chance)
            comer = next(comers, None)
        flows = list(_step(flows, now))
        now += STEP_S
        if now >= advertised_at + scene.advertised_every_s:
            for relay in stage:
                relay.load = min(relay.taken / (relay.rate * (now - advertised_at)), 1.0)
                relay.taken = 0.0
            advertised_at = now


def _begin(
    filer: Filer,
    stage: Sequence[Relay],
    spread: tuple[int, int],
    policy: Policy,
    chance: random.Random,
) -> Iterator[Flow]:
    """Probe all relays, place all fragments, and start to upload them at once."""
    k, n = spread
    by_name = {relay.name: relay for relay in stage}
    probes = [
        RelayProbe(
            relay.name,
            relay.operator,
            weight=relay.weight,
            latency_ms=filer.latency_ms[relay.name],
            load=relay.load,
        )
        for relay in stage
    ]
    placement = Placement(k=k, n=n, fragment_size=int(filer.size / k), policy=policy)
    for probe in placement.place(probes, chance):
        relay = by_name[probe.name]
        relay.flows += 1
        filer.flows += 1
        limit = WINDOW / (filer.latency_ms[probe.name] / 1_000)
        yield Flow(filer, relay, filer.size / k, limit)


def _step(flows: Sequence[Flow], now: float) -> Iterator[Flow]:
    """Move every flow by one step; those that go on are returned."""
    rates = [
        min(flow.filer.rate / flow.filer.flows, flow.relay.rate / flow.relay.flows, flow.limit)
        for flow in flows
    ]
    for flow, rate in zip(flows, rates, strict=True):
        moved = min(rate * STEP_S, flow.left)
        flow.left -= moved
        flow.relay.taken += moved
        if flow.left > 0:
            yield flow
            continue
        flow.relay.flows -= 1
        flow.filer.flows -= 1
        round_trip = flow.filer.latency_ms[flow.relay.name] / 1_000
        flow.filer.receipts.append(now + moved / rate + round_trip - flow.filer.arrives_at)
