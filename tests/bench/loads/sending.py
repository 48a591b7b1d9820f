"""Starts the load processes on the load's cores."""

from __future__ import annotations

from pathlib import Path

from tests.bench.loads import Load, Timed
from tests.bench.processes import CORES, python, run


def send_requests(
    port: int, file: Path, *, connections: int, seconds: float, body: Path | None = None
) -> Load:
    """Send the requests in ``file``, each followed by ``body``; one answer goes to a file.

    Raises:
        NotMeasured: One of them failed.
    """
    options: list[str | float | Path] = ["--connections", connections, "--seconds", seconds]
    options += ["--core", min(CORES.server)]
    if body is not None:
        options += ["--body", body]
    return Load.parse(run(python("loads.raw", port, file, *options)))


def send_alone(port: int, file: Path, *, seconds: float, each: int | None = None) -> Load:
    """Send the requests in ``file`` one by one; ``each``: so many over one connection.

    Raises:
        NotMeasured: One of them failed.
    """
    options = () if each is None else ("--each", each)
    return Load.parse(run(python("loads.alone", port, file, "--seconds", seconds, *options)))


def send_large(port: int, head: Path, file: Path, *, ca: Path | None = None) -> Load:
    """Send one request with ``file`` as its body, over TLS where there is an authority to trust.

    Raises:
        NotMeasured: It failed.
    """
    options = () if ca is None else ("--ca", ca)
    return Load.parse(run(python("loads.large", port, head, file, min(CORES.server), *options)))


def send_timed(  # noqa: PLR0913 - everything that an open loop is described by
    port: int,
    path: str,
    terms_hash: bytes,
    *,
    pid: int,
    rate: float,
    seconds: float,
    settle_s: float,
    connections: int,
    seed: int,
    turns_away: bool = False,
) -> Timed:
    """Ask for tickets at a rate, whatever the server does.

    Raises:
        NotMeasured: Requests were answered with neither a ticket nor a refusal.
    """
    options: list[str | float] = ["--rate", rate, "--seconds", seconds, "--settle", settle_s]
    options += ["--connections", connections, "--seed", seed]
    options += ["--pid", pid, "--core", min(CORES.server), *["--turn-away"] * turns_away]
    return Timed.parse(run(python("loads.timed", port, path, terms_hash.hex(), *options)))
