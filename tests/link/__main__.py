"""``make link``: over 1 Mbit/s and 300 ms, how long after sealing is a filer on time?

Exit code 0 if the 95th percentile of every size is below the limit, else 1.
"""

from __future__ import annotations

import asyncio
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from bistro.errors import UnavailableError
from tests.link.shaping import shaped
from tests.link.submitting import Place, Took, destination, submit_once

LIMIT_S: Final = 3.0
RUNS: Final = {
    10_000: 40,
    100_000: 40,
    1_000_000: 40,
    10_000_000: 20,
    100_000_000: 20,
    1_000_000_000: 5,
}
"""Sizes in bytes, and how often each is filed."""
_SHARE: Final = 0.95
STILL_S: Final = 5.0
_BEAT_S: Final = 0.1
_MOST_VOID: Final = 20


@dataclass
class Found:
    """All submissions of one size.

    Attributes:
        void_count: Those during which the machine stood still.
    """

    size: int
    took: list[Took]
    void_count: int = 0

    @property
    def tickets(self) -> list[float]:
        """Seconds from sealed to on time, ascending."""
        return sorted(one.to_ticket for one in self.took)

    @property
    def p95(self) -> float:
        """Of those, the one that 95 of 100 do not exceed; with few, the largest."""
        return self.tickets[math.ceil(_SHARE * len(self.tickets)) - 1]


async def measure(sizes: Sequence[int], *, bits_per_s: int, round_trip_s: float) -> list[Found]:
    """Submit each size as often as ``RUNS`` says, one after the other."""
    found = []
    with tempfile.TemporaryDirectory(prefix="bistro-link-") as name:
        root = Path(name)
        with destination(root) as place:
            await asyncio.to_thread(place.await_ready)
            async with shaped(
                place.port, bits_per_s=bits_per_s, round_trip_s=round_trip_s, port=place.line_port
            ):
                for size in sizes:
                    found.append(await _file(place, root, size))
                    click.echo(f"{size:,} bytes: p95 {found[-1].p95:.2f} s", err=True)
    return found


async def _file(place: Place, root: Path, size: int) -> Found:
    """As many submissions as wanted; those during which the machine stood still do not count."""
    found = Found(size, [])
    while len(found.took) < RUNS[size] and found.void_count < _MOST_VOID:
        pulse = Pulse()
        beating = asyncio.ensure_future(pulse.run())  # noqa: TID251 - ended below
        try:
            took = await submit_once(place, root, size)
        except UnavailableError:
            took = None
            if pulse.longest_s < STILL_S:
                raise
        finally:
            beating.cancel()
        if took is None or pulse.longest_s >= STILL_S:
            found.void_count += 1
        else:
            found.took.append(took)
    return found


@dataclass
class Pulse:
    """Notices when this process gets no time: what it measured then says nothing.

    Attributes:
        longest_s: The longest time between two beats.
    """

    longest_s: float = 0.0

    async def run(self) -> None:
        """Beat until cancelled."""
        before = time.monotonic()
        while True:
            await asyncio.sleep(_BEAT_S)
            now = time.monotonic()
            self.longest_s, before = max(self.longest_s, now - before), now


@click.command()
@click.option("--bits-per-s", type=click.IntRange(min=1), default=1_000_000, show_default=True)
@click.option("--round-trip-ms", type=click.IntRange(min=0), default=300, show_default=True)
@click.option("--most", type=click.IntRange(min=1), default=max(RUNS), help="Largest size, bytes.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False))
def main(bits_per_s: int, round_trip_ms: int, most: int, json_file: Path | None) -> None:
    """Submit filings of many sizes over a thin line, and print how long each step took."""
    sizes = [size for size in RUNS if size <= most]
    found = asyncio.run(measure(sizes, bits_per_s=bits_per_s, round_trip_s=round_trip_ms / 1_000))
    table = Table(title=f"{bits_per_s / 1e6:g} Mbit/s, {round_trip_ms} ms, TLS; seconds")
    for column in ("bytes", "runs", "void", "terms", "sealing", "ticket", "p95", "max", "limit"):
        table.add_column(column, justify="right")
    for one in found:
        table.add_row(
            f"{one.size:,}",
            str(len(one.took)),
            str(one.void_count),
            f"{statistics.median(each.to_terms for each in one.took):.2f}",
            f"{statistics.median(each.to_seal for each in one.took):.2f}",
            f"{statistics.median(one.tickets):.2f}",
            f"{one.p95:.2f}",
            f"{one.tickets[-1]:.2f}",
            f"{LIMIT_S:.0f}",
            style="" if one.p95 <= LIMIT_S else "red",
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if json_file is not None:
        facts = [{"bytes": one.size, "to_ticket_s": one.tickets, "p95_s": one.p95} for one in found]
        json_file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    sys.exit(0 if all(one.p95 <= LIMIT_S for one in found) else 1)


if __name__ == "__main__":
    main()
