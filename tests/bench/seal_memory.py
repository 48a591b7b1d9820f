"""How much memory sealing takes, by the size of the filing: ``make seal-memory``.

Each size is sealed with (4, 6) in a process of its own, whose largest resident size the kernel
tells (``VmHWM``). Sources are sparse: what is in a file does not matter to memory. The spool
takes the size once more on the disk, and is deleted after each.

Source: docs/reference/benchmarks.md, memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from bistro_client import sealing
from bistro_client.home import Folder
from tests.bench.cases.client import order_of
from tests.bench.workplace import work_folder

MB: Final = 1_000_000
SIZES_MB: Final = (1, 10, 100, 1_000, 10_000)
ALLOWED_GROWTH: Final = 16 * 1_048_576
"""Between the smallest and the largest filing: slabs and buffers that small ones do not fill."""


@dataclass(frozen=True, slots=True)
class Found:
    """What sealing ``size`` bytes took.

    Attributes:
        peak: Largest resident size of the process, in bytes.
    """

    size: int
    peak: int
    seconds: float


def seal_here(size: int) -> Found:
    """Seal a file of ``size`` bytes in this process, which should do nothing else."""
    with work_folder() as folder:
        source = folder / "source.bin"
        with source.open("wb") as file:
            file.truncate(size)
        order = order_of(folder, source)
        place = Folder(folder / "submission")
        place.path.mkdir()
        begun_at = time.perf_counter()
        sealing.seal(order, place)
        seconds = time.perf_counter() - begun_at
    return Found(size, peak_memory(), seconds)


def peak_memory() -> int:
    """The largest resident size that this process had, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1_024


def seal_apart(size: int) -> Found:
    """As ``seal_here``, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.seal_memory", "--here", str(size)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return Found(**json.loads(done.stdout))


def is_flat(results: list[Found]) -> bool:
    """Whether memory does not grow with the filing."""
    peaks = [result.peak for result in results]
    return max(peaks) - min(peaks) <= ALLOWED_GROWTH


@click.command()
@click.option("--most-mb", type=click.IntRange(min=1), default=SIZES_MB[-1], show_default=True)
@click.option("--here", type=click.IntRange(min=1), hidden=True)
def main(most_mb: int, here: int | None) -> None:
    """Seal ever larger files; exit 1 if memory grows with them."""
    if here is not None:
        found = seal_here(here)
        fields = {"size": found.size, "peak": found.peak, "seconds": found.seconds}
        click.echo(json.dumps(fields))
        return
    click.echo(f"{'filing':>10} {'VmHWM':>10} {'rate':>10}")
    results = []
    for size_mb in [size for size in SIZES_MB if size <= most_mb]:
        found = seal_apart(size_mb * MB)
        results.append(found)
        rate = found.size / MB / found.seconds
        click.echo(f"{size_mb:>7} MB {found.peak / MB:>7.1f} MB {rate:>5.0f} MB/s")
    click.echo("memory is flat" if is_flat(results) else "MEMORY GROWS WITH THE FILING")
    sys.exit(0 if is_flat(results) else 1)


if __name__ == "__main__":
    main()
