"""An open loop: every request begins when it is due, whatever became of those before it.

Arrivals are a Poisson process. Each waits for its answer on a connection of its own, of which
there are enough and which stay open; time counts from when the request was due, so a pause of
the server, or of this client, is in the time of everybody who came during it. Who is refused
does not come again. One thread looks at all connections, and at nothing but status and length
of answers, and leaves system calls to a poller in C: a hundred thousand requests a second fit
into one core.

Run as ``python -m tests.bench.loads.timed PORT PATH TERMS_HASH --rate 10000``; prints the
report that ``Timed.parse`` reads.
"""

from __future__ import annotations

import gc
import json
import os
import random  # noqa: TID251 - seeded, and passed in
import socket
import sys
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final

import click

from bistro.daemon.direct import Line, new_poller
from tests.bench.loads.priority import take_precedence
from tests.bench.loads.requests import post
from tests.bench.loads.tickets import MSGPACK, ticket_body
from tests.bench.proc import CoreTimes, core_times, parse_stat

_NS: Final = 1_000_000_000
_ANSWER_SIZE: Final = 65_536
_SENT_AT_ONCE: Final = 32
_DRAIN_NS: Final = 3 * _NS
_HOPELESS_NS: Final = _NS
"""Nobody learns anything from a client that is later than that."""
_ADDRESSES: Final = 64
_BIND_LATE: Final = 24
"""IP_BIND_ADDRESS_NO_PORT: the port is chosen when the connection is made."""
_END: Final = b"\r\n\r\n"
_GOOD: Final = b"HTTP/1.1 200 "
_LENGTH: Final = b"Content-Length: "
_LAST: Final = b"\r\nConnection: close\r\n"


def arrivals(rate: float, seconds: float, chance: random.Random) -> list[int]:
    """When requests are due, nanoseconds from the beginning, in order."""
    gaps = (chance.expovariate(rate) for _ in range(int(rate * seconds)))
    return [int(at * _NS) for at in accumulate(gaps)]


def ticket_requests(path: str, terms_hash: bytes, count: int) -> list[bytes]:
    """Whole requests for tickets, each for another commitment."""
    body = ticket_body(terms_hash)
    sample = post(path, MSGPACK, body)
    at = len(sample) - len(body) + 4  # the array, its 1, and the commitment's two bytes of head
    head, tail = sample[:at], sample[at + 32 :]
    return [head + os.urandom(32) + tail for _ in range(count)]


def status_of(answer: bytes) -> int | None:
    """The status of a whole answer; ``None`` while some of it is missing."""
    head_size = answer.find(_END)
    at = answer.find(_LENGTH, 0, head_size) + len(_LENGTH)
    if head_size < 0:
        return None
    size = int(answer[at : answer.index(b"\r", at)])
    return int(answer[9:12]) if len(answer) >= head_size + 4 + size else None


Look = tuple[int, Callable[[], None]]
"""When, nanoseconds from the beginning, and what is done then, in no time."""


class Watch:
    """Looks at a server twice: what it and its core did in between.

    Args:
        pid: Of the server; its children are not seen.
        core: Where it runs.
    """

    def __init__(self, pid: int, core: int) -> None:
        self._pid = pid
        self._core = core
        self._seen: list[tuple[CoreTimes, int]] = []

    def look(self) -> None:
        """Look now."""
        text = Path(f"/proc/{self._pid}/stat").read_text(encoding="utf-8", errors="replace")
        self._seen.append((core_times([self._core]), parse_stat(text).ticks))

    def shares(self) -> dict[str, float]:
        """``busy`` and ``own`` of the report; nothing before the second look."""
        if len(self._seen) < 2:
            return {}
        (core, own), (later, own_later) = self._seen
        share = (own_later - own) / max(1, later.total - core.total)
        return {"busy": later.busy_since(core), "own": share}


class Wire(Line):
    """A connection.

    Attributes:
        socket: Its own.
        due: When the request was due that it waits for an answer to; -1: none.
        part: What has come of the answer.
    """

    __slots__ = ("due", "part", "socket")

    def __init__(self, port: int, number: int) -> None:
        super().__init__()
        self.due = -1
        self.part = b""
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_IP, _BIND_LATE, 1)
        self.socket.bind((f"127.0.1.{1 + number % _ADDRESSES}", 0))
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.fd = self.socket.fileno()


class Crowd:
    """All connections.

    Args:
        port: Of the server.
        connections: As many may wait at the same time.
        turns_away: Leave out a request that is due while all of them wait, as a server does that
            takes no more connections; else it waits for the first that is free.

    Attributes:
        statuses: Answers by status; 0: the connection was lost.
        late_ns: How late each request began.
        starved_count: How often one was due while every connection waited for an answer.
        turned_away_count: Requests that were left out for that.
        took: For each answer of status 200 when it was due and when it came, nanoseconds.
        missing_count: Requests that nobody has answered.
        connected_count: Connections that were made.
    """

    def __init__(self, port: int, connections: int, *, turns_away: bool = False) -> None:
        self.statuses: Counter[int] = Counter()
        self.late_ns: list[int] = []
        self.starved_count = 0
        self.turned_away_count = 0
        self.took: list[tuple[int, int]] = []
        self.missing_count = 0
        self.connected_count = 0
        self._turns_away = turns_away
        self._port = port
        poller = new_poller()
        if poller is None:
            raise click.ClickException("bistro.daemon.direct has no poller here: compile it")
        self._poller = poller
        self._usual_size = -1  # of an answer
        self._idle = [self._connect() for _ in range(connections)]
        self._wires = set(self._idle)

    def _connect(self) -> Wire:
        wire = Wire(self._port, self.connected_count)
        self.connected_count += 1
        self._poller.add(wire)
        return wire

    def run(self, requests: list[bytes], due: Sequence[int], looks: Sequence[Look] = ()) -> None:
        """Send each request when it is due, and wait for answers for a while after the last.

        Args:
            requests: Whole.
            due: When, nanoseconds from now, in order.
            looks: What else is to be done meanwhile, and when, in order.
        """
        ahead = list(looks)
        began, at, count = time.perf_counter_ns(), 0, len(due)
        clock, idle = time.perf_counter_ns, self._idle
        while at < count or self.missing_count or ahead:
            now = clock() - began
            while at < count and due[at] <= now and idle:
                end = min(bisect_right(due, now, at), at + _SENT_AT_ONCE, at + len(idle))
                self._send(requests[at:end], due[at:end])
                now = clock() - began
                self.late_ns += [now - one for one in due[at:end]]
                at = end
            while self._turns_away and at < count and due[at] <= now:
                self.turned_away_count += 1
                at += 1
            if ahead and now >= ahead[0][0]:
                ahead.pop(0)[1]()
            self.starved_count += at < count and due[at] <= now
            if now > (due[at] + _HOPELESS_NS if at < count else due[-1] + _DRAIN_NS):
                break
            told = self._poller.receive(0.0)
            now = clock() - began
            for wire, data in told:
                self._read(wire, data, now)

    def _send(self, requests: list[bytes], due: Sequence[int]) -> None:
        wires = [self._idle.pop() for _ in requests]
        for wire, at in zip(wires, due, strict=True):
            wire.due = at
        self.missing_count += len(wires)
        for wire, _ in self._poller.send_all(wires, requests, 0.0):
            self._replace(wire)

    def _read(self, wire: Wire, data: bytes | int | None, now: int) -> None:
        if not isinstance(data, bytes) or not data:
            self._replace(wire)
            return
        status = 200
        if len(data) != self._usual_size or wire.part or not data.startswith(_GOOD):
            data = wire.part + data
            found = status_of(data)
            if found is None:
                wire.part = data
                return
            wire.part, status = b"", found
            if status == 200:
                self._usual_size = len(data)
        due, wire.due = wire.due, -1
        self.missing_count -= 1
        self.statuses[status] += 1
        self._idle.append(wire)
        if status == 200:
            self.took.append((due, now))
        elif _LAST in data:
            self._replace(wire)

    def _replace(self, wire: Wire) -> None:
        """Another connection for one that was closed, which a refusal may be followed by."""
        self._poller.remove(wire)
        wire.socket.close()
        self._wires.remove(wire)
        if wire.due < 0:
            self._idle.remove(wire)
        else:
            self.missing_count -= 1
            self.statuses[0] += 1
        fresh = self._connect()
        self._wires.add(fresh)
        self._idle.append(fresh)

    def close(self) -> None:
        """Close all connections."""
        self._poller.close()
        for wire in self._wires:
            wire.socket.close()


def share(numbers: Sequence[int], part: float) -> float:
    """The quantile ``part`` of nanoseconds, in milliseconds; 0 of none."""
    ordered = sorted(numbers)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] / 1e6 if ordered else 0.0


def report(crowd: Crowd, *, offered: int, seconds: float, settle_s: float) -> dict[str, object]:
    """What ``Timed.parse`` reads; what was due or came in the first ``settle_s`` is left out."""
    first, last = int(settle_s * _NS), int(seconds * _NS)
    took = [came - due for due, came in crowd.took if due >= first]
    answered = sum(first <= came < last for _, came in crowd.took)
    return {
        "answered": crowd.statuses[200],
        "failed": sum(crowd.statuses.values()) - crowd.statuses[200] - crowd.statuses[503],
        "goodput": answered / (seconds - settle_s),
        "late_ms": [share(crowd.late_ns, 0.999), share(crowd.late_ns, 1.0)],
        "left_out": offered - crowd.turned_away_count - len(crowd.late_ns),
        "missing": crowd.missing_count + offered - crowd.turned_away_count - len(crowd.late_ns),
        "offered": offered,
        "refused": crowd.statuses[503],
        "seconds": seconds,
        "starved": crowd.starved_count,
        "turned_away": crowd.turned_away_count,
        "took_ms": [share(took, 0.5), share(took, 0.99), share(took, 1.0)],
    }


@click.command()
@click.argument("port", type=int)
@click.argument("path")
@click.argument("terms_hash")
@click.option("--rate", type=float, required=True, help="Requests a second.")
@click.option("--seconds", type=float, required=True)
@click.option("--settle", type=float, default=0.0, help="Seconds that do not count.")
@click.option("--connections", type=int, required=True)
@click.option("--turn-away", "turns_away", is_flag=True, help="Leave out what finds none free.")
@click.option("--seed", type=int, required=True)
@click.option("--pid", type=int, required=True, help="Of the server.")
@click.option("--core", type=int, required=True, help="The server's.")
def main(
    port: int, path: str, terms_hash: str, *, connections: int, seed: int, **options: float
) -> None:
    """Ask for tickets and report."""
    seconds, rate = options["seconds"], options["rate"]
    due = arrivals(rate, seconds, random.Random(seed))
    requests = ticket_requests(path, bytes.fromhex(terms_hash), len(due))
    crowd = Crowd(port, connections, turns_away=bool(options["turns_away"]))
    take_precedence()
    # A collection would be a pause, and the pause would be ours.
    gc.collect()
    gc.freeze()
    gc.disable()
    watch, settle_s = Watch(int(options["pid"]), int(options["core"])), options["settle"]
    crowd.run(requests, due, [(int(at * _NS), watch.look) for at in (settle_s, seconds)])
    crowd.close()
    found = report(crowd, offered=len(due), seconds=seconds, settle_s=settle_s) | watch.shares()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
