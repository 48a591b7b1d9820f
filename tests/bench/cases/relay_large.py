"""``relay.large``, ``relay.large.tls``: fragments of 1 GiB in one request each.

The floor is a bare ``aiohttp`` + ``uvloop`` handler that hashes and streams to a file; both sync
before they answer, and delete after every round.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench import clock_error, proc
from tests.bench.destination import Fragment
from tests.bench.loads import Load
from tests.bench.loads.sending import send_large
from tests.bench.measuring import Case, Contest, Measure, Sample, Samples
from tests.bench.processes import Server
from tests.bench.relaying import (
    Certificate,
    RelayUnderTest,
    empty_floor,
    serving_floor,
    serving_relay,
    upload,
)
from tests.bench.workplace import work_folder

LARGE_SIZE: Final = 1_073_741_824
RATE: Final = 0.8
FLOW_COUNT: Final = 10
FLOW_LIMIT_MB: Final = 100.0
_PIECE: Final = 1_048_576
_MB: Final = 1_000_000


class Sender:
    """Sends one large file again and again, each time as the fragment of a new submission.

    Args:
        relay: Takes them.
        folder: For the file.
        size: Of it.
    """

    def __init__(self, relay: RelayUnderTest, folder: Path, size: int) -> None:
        self._relay = relay
        self._size = size
        self._file, self._head = folder / "large", folder / "head"
        self._body = secrets.token_bytes(_PIECE) * (size // _PIECE)
        self._file.write_bytes(self._body)

    def send(self, server: Server, path: str | None = None) -> tuple[Load, list[Fragment]]:
        """Send it; what became of it, and what it was called."""
        fragments = self._relay.destination.fragments(self._body, 1, share_checkpoint=True)
        self._head.write_bytes(upload(fragments[0], path=path))
        return send_large(server.port, self._head, self._file, ca=self._relay.ca), fragments

    def stage(self) -> Load:
        """Have the relay take it, and let it go."""
        load, fragments = self.send(self._relay.server)
        self._relay.release(fragments)
        return load

    def rate_of(self, load: Load) -> float:
        """Megabytes a second."""
        return self._size / _MB / load.seconds


@contextlib.contextmanager
def _open_large(name: str, *, is_secured: bool) -> Iterator[Contest]:
    with work_folder() as folder:
        certificate = Certificate.issue(folder) if is_secured else None
        with (
            serving_relay(folder, certificate=certificate) as relay,
            serving_floor(folder, certificate=certificate) as floor,
        ):
            sender = Sender(relay, folder, LARGE_SIZE)

            def floor_round() -> Samples:
                load, _ = sender.send(floor, "/large")
                empty_floor(floor, ca=relay.ca)
                return {name: Sample(sender.rate_of(load), load.busy)}

            def our_round() -> Samples:
                load = sender.stage()
                return {name: Sample(sender.rate_of(load), load.busy)}

            our_round()  # the first claim makes the relay fetch the terms
            yield Contest(our_round, floor_round, clock_error.notes())


@contextlib.contextmanager
def _open_flow() -> Iterator[Contest]:
    with work_folder() as folder, serving_relay(folder) as relay:
        sender = Sender(relay, folder, LARGE_SIZE)
        left = [FLOW_COUNT]

        def our_round() -> Samples:
            """All of it goes through in the first round; later ones look again."""
            while left[0]:
                sender.stage()
                left[0] -= 1
            peak = proc.peak_bytes(relay.server.process.pid)
            return {"relay.flow.memory": Sample(peak / _MB)}

        limit: Samples = {"relay.flow.memory": Sample(FLOW_LIMIT_MB)}
        yield Contest(our_round, lambda: limit, clock_error.notes())


def _large(name: str, *, is_secured: bool) -> Case:
    opens: Callable[[], contextlib.AbstractContextManager[Contest]] = partial(
        _open_large, name, is_secured=is_secured
    )
    return Case("relay", (Measure(name, "MB/s", goal=RATE),), opens)


CASES: Final = (
    _large("relay.large", is_secured=False),
    _large("relay.large.tls", is_secured=True),
    Case(
        "relay",
        (Measure("relay.flow.memory", "MB", is_more_better=False, goal=1.0),),
        _open_flow,
    ),
)
