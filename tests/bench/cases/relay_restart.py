"""``relay.restart``: a relay that holds a million fragments, killed and started again.

The floor is the limit. It is of the group ``large``, because filling the relay takes minutes.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench import clock_error
from tests.bench.cases.large import evict
from tests.bench.measuring import Case, Contest, Measure, NotMeasured, Sample, Samples
from tests.bench.processes import CORES, free_port, program, python, run, serving
from tests.bench.relaying import NAME
from tests.bench.workplace import ask, work_folder

COUNT: Final = 1_000_000
LIMIT_S: Final = 10.0
_FILL_S: Final = 3_600.0


def _fill(home: Path, port: int) -> None:
    names = ("--name", NAME, "--operator", "Benchmark")
    environment = clock_error.environment("BISTRO_RELAY")
    run(program("bistro-relay", "init", home, *names, "--port", port), environment=environment)
    cores = CORES.server | CORES.load
    held = run(python("relay_filling", home, COUNT), cores=cores, timeout_s=_FILL_S)
    if int(held) != COUNT:
        raise NotMeasured(f"the relay was to hold {COUNT} fragments, it has {held}")


@contextlib.contextmanager
def _open_restart() -> Iterator[Contest]:
    with work_folder() as folder:
        home, port = folder / "relay", free_port()
        _fill(home, port)
        command = program("bistro-relay", "serve", "--dir", home)
        environment = clock_error.environment("BISTRO_RELAY")

        def our_round() -> Samples:
            evict(home)
            begun_at = time.perf_counter()
            log = folder / "log"
            # Connections wait in the kernel until all is recovered.
            with serving(command, port=port, log=log, environment=environment) as server:
                ask(server.url + "/metrics")
                seconds = time.perf_counter() - begun_at
                server.process.send_signal(signal.SIGKILL)
                server.process.wait()
            return {"relay.restart": Sample(seconds)}

        limit: Samples = {"relay.restart": Sample(LIMIT_S)}
        yield Contest(our_round, lambda: limit, clock_error.notes())


CASES: Final = (
    Case("large", (Measure("relay.restart", "s", is_more_better=False, goal=1.0),), _open_restart),
)
