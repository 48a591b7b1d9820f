"""``relay.slow.*``: 2,000 uploads of 1 KB a second each, and one beside them that is fast.

The floor of the fast one is the same relay without the slow ones; that of memory is the limit.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench import clock_error, proc
from tests.bench.cases.relay_large import Sender
from tests.bench.loads import Load
from tests.bench.loads.requests import write_requests
from tests.bench.loads.slow import READY
from tests.bench.measuring import Case, Contest, Measure, NotMeasured, Sample, Samples
from tests.bench.processes import CORES, pinned, python
from tests.bench.relaying import RelayUnderTest, serving_relay, upload
from tests.bench.workplace import ask, work_folder

SLOW_COUNT: Final = 2_000
SLOW_SIZE: Final = 1_048_576
BYTES_PER_S: Final = 1_000
FAST_SIZE: Final = 536_870_912
KEPT: Final = 0.8
MEMORY_LIMIT_MB: Final = 150.0
_START_S: Final = 60.0
_SETTLE_S: Final = 2.0
_MB: Final = 1_000_000
_OPEN: Final = "bistro_relay_open_uploads "


@contextlib.contextmanager
def _crawling(relay: RelayUnderTest, folder: Path) -> Iterator[None]:
    """So many slow uploads for as long as the block runs; none may be lost."""
    body = secrets.token_bytes(SLOW_SIZE)
    fragments = relay.destination.fragments(body, SLOW_COUNT, share_checkpoint=True)
    file = folder / "slow"
    write_requests(file, map(upload, fragments))
    options = ("--bytes-per-s", str(BYTES_PER_S))
    with pinned(CORES.load):
        process = subprocess.Popen(
            python("loads.slow", relay.server.port, file, *options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    assert process.stdout is not None
    if process.stdout.readline().strip() != READY:
        process.kill()
        raise NotMeasured("the slow uploads did not begin")
    try:
        time.sleep(_SETTLE_S)
        yield
    finally:
        output, _ = process.communicate()
    load = Load.parse(output)
    if load.answered != SLOW_COUNT:
        raise NotMeasured(f"{load.answered} of {SLOW_COUNT} slow uploads went on")


def _wait_until_idle(relay: RelayUnderTest) -> None:
    """Return when what the slow ones left is written down."""
    give_up_at = time.monotonic() + _START_S
    while time.monotonic() < give_up_at:
        lines = ask(relay.url + "/metrics").decode().splitlines()
        if any(line.startswith(_OPEN) and float(line.split()[1]) == 0 for line in lines):
            return
        time.sleep(0.1)
    raise NotMeasured("the slow uploads did not end")


@contextlib.contextmanager
def _open_slow() -> Iterator[Contest]:
    with work_folder() as folder, serving_relay(folder) as relay:
        sender = Sender(relay, folder, FAST_SIZE)

        def samples(load: Load, memory: float) -> Samples:
            return {
                "relay.slow.fast": Sample(sender.rate_of(load), load.busy),
                "relay.slow.memory": Sample(memory),
            }

        def alone() -> Samples:
            return samples(sender.stage(), MEMORY_LIMIT_MB)

        def beside() -> Samples:
            with _crawling(relay, folder):
                load = sender.stage()
            peak = proc.peak_bytes(relay.server.process.pid)
            _wait_until_idle(relay)
            return samples(load, peak / _MB)

        alone()  # the first claim makes the relay fetch the terms
        yield Contest(beside, alone, clock_error.notes())


CASES: Final = (
    Case(
        "relay",
        (
            Measure("relay.slow.fast", "MB/s", goal=KEPT),
            Measure("relay.slow.memory", "MB", is_more_better=False, goal=1.0),
        ),
        _open_slow,
    ),
)
