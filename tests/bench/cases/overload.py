"""``ticket.p99`` and ``ticket.goodput``: below and above saturation, in an open loop.

A round begins with saturation, by as many connections as wait for answers all the time: by the
512 at which a ticket costs least, and by as many as are used above saturation, where it costs
more on any server, since their sockets do not fit into the caches. Waiting times are those at
70 % of the first, and the least that is asked for is a limit in milliseconds. 150 % of it are
offered above saturation, and goodput is compared with the second: the same client, core and
connections. There the server lets wait whom it has a connection for; a request that finds none
is turned away, as its server would.
"""

from __future__ import annotations

import contextlib
import resource
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.bench import clock_error
from tests.bench.desk import Desk, serving_tickets
from tests.bench.loads import Load, Timed
from tests.bench.loads.sending import send_timed
from tests.bench.loads.tickets import TicketLoad
from tests.bench.measuring import Case, Contest, Measure, NotMeasured, Sample, Samples
from tests.bench.processes import metering
from tests.bench.workplace import work_folder

SATURATING: Final = 512
BELOW: Final = 0.7
ABOVE: Final = 1.5
P99_LIMIT_MS: Final = 25.0
SATURATION_S: Final = 2.5
SECONDS: Final = 3.0
SETTLE_S: Final = 1.0
_CONNECTIONS: Final = 4_096
"""One address may have half of a server's 10,000, and `wrk` has only one."""
_FILES_LEFT: Final = 1_000
"""Open files that a process needs besides connections."""
_WARM_UP_S: Final = 1.0
_ATTEMPTS: Final = 3


@dataclass(slots=True)
class Rounds:
    """The turns on one server."""

    desk: Desk
    closed: TicketLoad
    crowded: TicketLoad
    connections: int
    saturation: float = 0.0

    def saturate(self) -> Samples:
        """As many tickets as it gives when somebody always waits."""
        loads: list[Load] = []
        with self.desk.counting(loads):
            loads.append(self.closed.send(self.desk.server.port))
            with metering(self.desk.server) as meter:
                loads.append(self.crowded.send(self.desk.server.port))
        self.saturation = loads[0].rate
        own = meter.cpu_s / loads[1].seconds
        return {
            "ticket.p99": Sample(P99_LIMIT_MS),
            "ticket.goodput": Sample(loads[1].rate, meter.busy, own),
        }

    def offer(self) -> Samples:
        """Waiting times below saturation, and goodput above it."""
        below = self._send(BELOW, self.connections)
        if below.refused or below.missing:
            raise NotMeasured(
                f"at {BELOW:.0%} of saturation {below.refused} of {below.offered} requests were "
                f"refused and {below.missing} not answered"
            )
        above = self._send(ABOVE, self.connections)
        if above.missing:
            raise NotMeasured(
                f"at {ABOVE:.0%} of saturation {above.missing} of {above.offered} requests got no "
                "answer, not even a refusal"
            )
        return {
            "ticket.p99": Sample(below.took_ms[1]),
            "ticket.goodput": Sample(above.goodput, above.busy, above.own),
        }

    def _send(self, factor: float, connections: int) -> Timed:
        """Offer a multiple of saturation; again if the client was late."""
        found: Timed | None = None
        for _ in range(_ATTEMPTS):
            loads: list[Load] = []
            with self.desk.counting(loads):
                found = send_timed(
                    self.desk.server.port,
                    self.desk.path,
                    self.desk.terms_hash,
                    pid=self.desk.server.process.pid,
                    rate=factor * self.saturation,
                    seconds=SECONDS,
                    settle_s=SETTLE_S,
                    connections=connections,
                    seed=secrets.randbits(31),
                    turns_away=factor > 1,
                )
                loads.append(Load(found.answered, found.seconds))
            if found.doubt is None:
                return found
        assert found is not None
        raise NotMeasured(f"at {factor:.0%} of saturation: {found.doubt}, {_ATTEMPTS} times")


@contextlib.contextmanager
def _open() -> Iterator[Contest]:
    # Both sides of each connection are open files, and both processes inherit this.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    connections = min(_CONNECTIONS, hard - _FILES_LEFT)
    with work_folder() as folder, serving_tickets(folder) as desk:
        closed = TicketLoad(desk.path, desk.terms_hash, SATURATING, SATURATION_S, folder)
        crowded = TicketLoad(desk.path, desk.terms_hash, connections, SATURATION_S, folder)
        rounds = Rounds(desk, closed, crowded, connections)
        TicketLoad(desk.path, desk.terms_hash, SATURATING, _WARM_UP_S, folder).send(
            desk.server.port
        )
        notes = (
            f"ticket.p99, ticket.goodput: Poisson arrivals on up to {connections} connections",
            *clock_error.notes(),
        )
        yield Contest(rounds.offer, rounds.saturate, notes)


CASES: Final = (
    Case(
        "ticket",
        (
            Measure("ticket.p99", "ms", goal=1.0, is_more_better=False),
            Measure("ticket.goodput", "tickets/s", goal=0.9, needs_busy_core=True),
        ),
        _open,
    ),
)
