"""``relay.small.*``: a real ``bistro-relay serve``, staging, handing over and deleting by turns.

The floor is bare ``aiohttp`` and ``uvloop`` with 16 threads: it hashes, verifies and makes one
signature, writes one file, fdatasync. In ``distinct`` every claim comes with a checkpoint of
its own, whose signature nobody has seen.

After every round both delete what they hold, ours by signed releases once a destination has
pulled it; only staging is timed.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench import clock_error
from tests.bench.destination import Fragment
from tests.bench.loads.requests import sample_file, write_requests
from tests.bench.loads.sending import send_requests
from tests.bench.measuring import Case, Contest, Measure, Sample, Samples
from tests.bench.processes import Server, metering, rate_and_cpu
from tests.bench.relaying import (
    RelayUnderTest,
    empty_floor,
    serving_floor,
    serving_relay,
    upload,
)
from tests.bench.workplace import work_folder

CONNECTIONS: Final = 64
SMALL_SIZE: Final = 65_536
SMALL_COUNT: Final = 2_000
SECONDS: Final = 3.0
RATE: Final = 2.0
CPU: Final = 1.2


class _Small:
    """Rounds of small fragments, each new to both."""

    def __init__(self, name: str, relay: RelayUnderTest, floor: Server, folder: Path) -> None:
        self._name = name
        self._relay = relay
        self._floor = floor
        self._requests = folder / "requests"
        self._body = folder / "body"
        self._body.write_bytes(secrets.token_bytes(SMALL_SIZE))
        self._share = name == "relay.small"

    def floor_round(self) -> Samples:
        """The same requests; the floor looks at no claim."""
        self._write_requests(SMALL_COUNT)
        samples, _ = self._send(self._floor)
        empty_floor(self._floor)
        return samples

    def our_round(self) -> Samples:
        """Stage, verify a receipt, pull, release."""
        fragments = self._write_requests(SMALL_COUNT)
        samples, receipt = self._send(self._relay.server)
        self._relay.verify(receipt, fragments)
        staged = fragments[: int(samples["count"].value)]
        self._relay.pull(staged)
        self._relay.release(staged)
        return samples

    def warm_up(self) -> None:
        """One fragment, with which the relay fetches the terms."""
        fragments = self._write_requests(1)
        self._send(self._relay.server)
        self._relay.release(fragments)

    def _write_requests(self, count: int) -> list[Fragment]:
        body = self._body.read_bytes()
        fragments = self._relay.destination.fragments(body, count, share_checkpoint=self._share)
        write_requests(self._requests, map(upload, fragments))
        return fragments

    def _send(self, server: Server) -> tuple[Samples, bytes]:
        with metering(server) as meter:
            load = send_requests(
                server.port,
                self._requests,
                connections=CONNECTIONS,
                seconds=SECONDS,
                body=self._body,
            )
        count = {"count": Sample(load.answered)}
        return {**rate_and_cpu(self._name, load, meter), **count}, sample_file(
            self._requests
        ).read_bytes()


@contextlib.contextmanager
def _open_small(name: str) -> Iterator[Contest]:
    with (
        work_folder() as folder,
        serving_relay(folder) as relay,
        serving_floor(folder) as floor,
    ):
        small = _Small(name, relay, floor, folder)
        small.warm_up()
        yield Contest(small.our_round, small.floor_round, clock_error.notes())


def _small(name: str) -> Case:
    opens: Callable[[], contextlib.AbstractContextManager[Contest]] = partial(_open_small, name)
    measures = (
        Measure(f"{name}.rate", "fragments/s", goal=RATE, needs_busy_core=True),
        Measure(f"{name}.cpu", "us/fragment", is_more_better=False, goal=CPU),
    )
    return Case("relay", measures, opens)


CASES: Final = (_small("relay.small"), _small("relay.small.distinct"))
