"""What all connections of one listener share on the quick way: limits, gates, answers, the end.

Source: docs/spec/api.md, rules for all routes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from bistro.daemon.addresses import Addresses
from bistro.daemon.bursts import Answer, Burst, Guest, Spelled, Spelling
from bistro.daemon.outbox import Outbox
from bistro.daemon.peers import Peers
from bistro.daemon.quick import Gathering, Heads, QuickEndpoint, QuickHead
from bistro.daemon.unfinished import Unfinished
from bistro.errors import BistroError

SWEEP_S = 1.0
"""Pause between two looks at all connections; time limits of the quick way are this exact."""

_MAX_GATES: Final = 1_024


@dataclass(frozen=True, slots=True)
class Limits:
    """What connections may take.

    Attributes:
        idle_s: Between two requests.
        request_s: From a request's first byte to its answer.
        addresses: Knows how many connections there may be.
        unfinished: Knows how many bytes requests may hold that are not whole.
        peers: Knows who they are, and what each may ask for.
    """

    idle_s: float
    request_s: float
    addresses: Addresses = field(default_factory=Addresses)
    unfinished: Unfinished = field(default_factory=Unfinished)
    peers: Peers = field(default_factory=Peers)


class Gate:
    """Where requests of one size to one endpoint and field gather in a pass of the event loop.

    Args:
        front: What all gates of a listener share.
        endpoint: What is asked.
        gathering: The endpoint's.
        field: The value of its route's field.

    Attributes:
        burst: The one that gathers now; ``None`` between two passes.
        limited: The same of those whose buckets are empty.
    """

    __slots__ = ("_endpoint", "_field", "_front", "_gathering", "burst", "limited")

    def __init__(
        self, front: Front, endpoint: QuickEndpoint, gathering: Gathering, field: str
    ) -> None:
        self.burst: Burst | None = None
        self.limited: Burst | None = None
        self._front = front
        self._endpoint = endpoint
        self._gathering = gathering
        self._field = field

    def open(self) -> Burst:
        """A new burst; it is closed when the event loop has read what is readable now."""
        burst = self.burst = Burst(self)
        asyncio.get_running_loop().call_soon(self._close, burst)
        return burst

    def open_limited(self) -> Burst:
        """As ``open``, of those who are told to wait."""
        burst = self.limited = Burst(self)
        asyncio.get_running_loop().call_soon(self._close_limited, burst)
        return burst

    def _close_limited(self, burst: Burst) -> None:
        self.limited = None
        burst.since_s = self._front.now_s()
        # One answer for all of a pass: who is told to wait must stay cheap.
        count = len(burst.guests)
        burst.tell_all(range(count), self._front.limits.peers.too_many(count))

    def _close(self, burst: Burst) -> None:
        self.burst = None
        # Read now, so never earlier than the last byte of any of them.
        burst.received_at = self._front.heads.received()
        burst.since_s = self._front.now_s()
        try:
            self._gathering.begin(self._field, burst)
        except BistroError as error:
            burst.tell_all(range(len(burst.guests)), error)

    def tell(self, guest: Guest, since_s: float, answer: Answer) -> None:
        """Have an answer sent soon."""
        self._front.outbox.put(guest, self._endpoint, since_s, answer)

    def spell(self, answers: Spelling) -> Spelled:
        """Spell answers that are sent later."""
        return self._front.outbox.spell(self._endpoint, answers)

    def tell_all(
        self,
        guests: Sequence[Guest | None],
        since_s: float,
        answers: Spelling | Spelled | BistroError,
    ) -> None:
        """Send answers now."""
        self._front.outbox.send_all(guests, self._endpoint, since_s, answers)


class Front:
    """What connections share.

    Args:
        heads: Recognises quick requests.
        ordinary: Makes the ordinary server's protocol for a connection.
        outbox: Sends answers.
        limits: What connections may take.

    Attributes:
        heads: As given.
        ordinary: As given.
        outbox: As given.
        limits: As given.
        now_s: The event loop's time.
    """

    def __init__(
        self,
        heads: Heads,
        ordinary: Callable[[], asyncio.Protocol],
        outbox: Outbox,
        limits: Limits,
    ) -> None:
        self.heads = heads
        self.ordinary = ordinary
        self.outbox = outbox
        self.limits = limits
        self.now_s = asyncio.get_running_loop().time
        self._guests: set[Guest] = set()
        self._is_empty = asyncio.Event()
        self._gates: dict[tuple[str, str], Gate] = {}

    def enter(self, guest: Guest) -> None:
        """A connection was made."""
        self._guests.add(guest)

    def leave(self, guest: Guest) -> None:
        """A connection was lost, or is the ordinary server's now."""
        self._guests.discard(guest)
        if not self._guests:
            self._is_empty.set()

    def gate(self, asked: QuickHead) -> Gate | None:
        """Where such requests gather; ``None`` where each is answered by itself."""
        gathering = asked.endpoint.gathering
        if gathering is None or gathering.size != asked.size:
            return None
        key = asked.endpoint.route.name, asked.field
        gate = self._gates.get(key)
        if gate is None:
            if len(self._gates) >= _MAX_GATES:
                # Anybody may invent fields. Connections keep the gates that they know.
                self._gates.clear()
            gate = self._gates[key] = Gate(self, asked.endpoint, gathering, asked.field)
        return gate

    async def run(self) -> None:
        """Keep time limits and the date until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.outbox.renew_date()
            now_s = self.now_s()
            for guest in list(self._guests):
                guest.check(now_s)

    async def drain(self, grace_s: float) -> None:
        """Let open requests be answered, then close what is left."""
        self.outbox.is_stopping = True
        for guest in list(self._guests):
            guest.close_if_idle()
        if self._guests:
            self._is_empty.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self._is_empty.wait()
        for guest in list(self._guests):
            guest.abort()
